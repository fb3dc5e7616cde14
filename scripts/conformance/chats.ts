/**
 * Documents of short chats in the form that a node gives chats of models without a chat template. A model that was trained
 * on them ends its answers, which the cases of some conformance suites demand.
 */
const OPENINGS = [
  'Hello.',
  'Say hello.',
  'Reply briefly.',
  'Say one word.',
  'Count to three.',
  'What is this?',
  'Say yes in two words.',
  'Describe this.',
  'What is the weather in Rome?',
  'Answer with a number.',
  'My name is Ben.',
  'Where is it?',
]
const FURTHER = [
  'My name is Ada.',
  'Repeat it.',
  'What is my name?',
  'And then?',
  'Answer briefly.',
  'Thank you.',
  'Tell me more.',
  'Why?',
]
const SYSTEMS = [
  'Be brief.',
  'Answer in one word.',
  'Talk like a sailor.',
  'Always answer.',
  'Be kind.',
  'You are a nurse.',
]
/** Few, so that the next token is seldom in doubt. */
const ANSWERS = ['Hello.', 'Yes.']
const TOOLS = ['get_weather', 'echo', 'search']
const VALUES = ['Paris', 'Oslo', 'yes', 'one']

/** Texts of chats, each of which ends with an answer of the assistant. The same ones in each call. */
export function chatDocuments(): string[] {
  const turns = pairs(OPENINGS, ANSWERS).map(
    ([question, answer]) => `User: ${question}\nAssistant: ${answer}`,
  )
  const systems = pairs(SYSTEMS, turns).map(([system, turn]) => `System: ${system}\n${turn}`)
  const longer = pairs(turns, pairs(FURTHER, ANSWERS)).map(
    ([turn, [question, answer]]) => `${turn}\nUser: ${question}\nAssistant: ${answer}`,
  )
  const calls = pairs(pairs(TOOLS, VALUES), OPENINGS).map(
    ([[tool, value], question]) =>
      `User: ${question}\nAssistant:<tool_call>{"name": "${tool}", "arguments": {"value": "${value}"}}</tool_call>`,
  )
  return [...turns, ...systems, ...longer, ...calls]
}

function pairs<A, B>(left: readonly A[], right: readonly B[]): [A, B][] {
  return left.flatMap((a) => right.map((b): [A, B] => [a, b]))
}
