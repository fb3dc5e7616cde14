/**
 * Asks a running node for responses in cases like those of the compliance suite of Open Responses (openresponses.org), and
 * checks that a response has the members which its schema requires, and a stream the right events. Does not check the
 * types of members, and accepts a response that is incomplete. Fails if a case fails.
 * Usage: tsx scripts/conformance/open-responses/run.ts --url http://127.0.0.1:8080/v1 --key KEY
 */
import { parseArgs } from 'node:util'
import { readEvents } from '../../../src/serving/event-reader.ts'

const { values } = parseArgs({ options: { url: { type: 'string' }, key: { type: 'string' } } })
if (values.url === undefined || values.key === undefined) throw new Error('expected --url and --key')
const { url, key } = values

type Json = Readonly<Record<string, unknown>>

/** Members that the schema of a response requires; null is allowed, absence is not. */
const RESPONSE_MEMBERS = [
  ...[
    'id',
    'object',
    'created_at',
    'completed_at',
    'status',
    'incomplete_details',
    'model',
    'output',
    'error',
  ],
  ...[
    'previous_response_id',
    'instructions',
    'tools',
    'tool_choice',
    'truncation',
    'parallel_tool_calls',
    'text',
  ],
  ...['top_p', 'presence_penalty', 'frequency_penalty', 'top_logprobs', 'temperature', 'reasoning', 'user'],
  ...['usage', 'max_output_tokens', 'max_tool_calls', 'store', 'background', 'service_tier', 'metadata'],
  ...['safety_identifier', 'prompt_cache_key'],
]
const EVENT_MEMBERS: Readonly<Record<string, readonly string[]>> = {
  'response.created': ['response'],
  'response.in_progress': ['response'],
  'response.output_item.added': ['output_index', 'item'],
  'response.content_part.added': ['item_id', 'output_index', 'content_index', 'part'],
  'response.output_text.delta': ['item_id', 'output_index', 'content_index', 'delta', 'logprobs'],
  'response.output_text.done': ['item_id', 'output_index', 'content_index', 'text', 'logprobs'],
  'response.content_part.done': ['item_id', 'output_index', 'content_index', 'part'],
  'response.function_call_arguments.delta': ['item_id', 'output_index', 'delta'],
  'response.function_call_arguments.done': ['item_id', 'output_index', 'arguments'],
  'response.output_item.done': ['output_index', 'item'],
  'response.completed': ['response'],
  'response.incomplete': ['response'],
}

const weather = {
  type: 'function',
  name: 'get_weather',
  parameters: {
    type: 'object',
    properties: { location: { type: 'string', maxLength: 40 } },
    required: ['location'],
  },
}
const said = (role: string, content: unknown): object => ({ type: 'message', role, content })

interface Case {
  readonly name: string
  readonly body: object
  readonly status?: number
  /** What is wrong with a response that has the right members. */
  readonly check?: (response: Json) => string | undefined
}

const hasCall = ({ output }: Json): string | undefined => {
  const call = (output as Json[]).find(({ type }) => type === 'function_call')
  if (call === undefined) return 'no function_call'
  return typeof JSON.parse(String(call['arguments'])) === 'object' ? undefined : 'arguments are no object'
}
const forced = { tools: [weather], tool_choice: 'required' }

const CASES: readonly Case[] = [
  { name: 'basic text', body: { input: [said('user', 'Say hello in three words.')] } },
  {
    name: 'system prompt',
    body: { input: [said('system', 'Talk like a pirate.'), said('user', 'Say hello.')] },
  },
  {
    name: 'several turns',
    body: {
      input: [
        said('user', 'My name is Alice.'),
        said('assistant', [{ type: 'output_text', text: 'Hello Alice!' }]),
        said('user', 'What is my name?'),
      ],
    },
  },
  { name: 'call of a tool', body: { input: 'What is the weather in Paris?', ...forced }, check: hasCall },
  {
    name: 'output of a tool',
    body: {
      input: [
        said('user', 'What is the weather in Paris?'),
        { type: 'function_call', call_id: 'call_1', name: 'get_weather', arguments: '{"location":"Paris"}' },
        { type: 'function_call_output', call_id: 'call_1', output: 'Rain' },
      ],
      tools: [weather],
    },
  },
  {
    name: 'schema',
    body: {
      input: 'Is it raining?',
      text: {
        format: {
          type: 'json_schema',
          name: 'answer',
          schema: {
            type: 'object',
            properties: { rain: { type: 'boolean' } },
            required: ['rain'],
            additionalProperties: false,
          },
        },
      },
    },
    check: ({ output }) => {
      const [{ content }] = output as [{ content: [{ text: string }] }]
      const rain: unknown = JSON.parse(content[0].text).rain
      return typeof rain === 'boolean' ? undefined : 'rain is no boolean'
    },
  },
  {
    name: 'image',
    body: { input: [said('user', [{ type: 'input_image', image_url: 'data:,' }])] },
    status: 400,
  },
  { name: 'previous response', body: { input: 'And?', previous_response_id: 'resp_1' }, status: 400 },
  { name: 'no model', body: { model: undefined, input: 'Hello' }, status: 400 },
]

async function post(body: object): Promise<Response> {
  return fetch(`${url}/responses`, {
    method: 'POST',
    headers: { authorization: `Bearer ${key}`, 'content-type': 'application/json' },
    body: JSON.stringify({ model: 'flexmesh', max_output_tokens: 200, ...body }),
  })
}

function faultOf(response: Json): string | undefined {
  const missing = RESPONSE_MEMBERS.find((member) => !(member in response))
  if (missing !== undefined) return `without ${missing}`
  if (!Array.isArray(response['output']) || response['output'].length === 0) return 'without output'
  return ['completed', 'incomplete'].includes(String(response['status'])) ? undefined : 'with another status'
}

async function whole({ body, status = 200, check }: Case): Promise<string | undefined> {
  const answer = await post(body)
  if (answer.status !== status) return `status ${answer.status}: ${await answer.text()}`
  if (status !== 200) return undefined
  const response = (await answer.json()) as Json
  return faultOf(response) ?? check?.(response)
}

async function streamed({ body, check }: Case): Promise<string | undefined> {
  const answer = await post({ ...body, stream: true })
  if (answer.status !== 200 || answer.body === null) return `status ${answer.status}`
  let last: Json = {}
  let count = 0
  let isDone = false
  for await (const data of readEvents(answer.body, 1_000_000)) {
    if (data === '[DONE]') {
      isDone = true
      continue
    }
    const event = JSON.parse(data) as Json
    const members = EVENT_MEMBERS[String(event['type'])]
    if (members === undefined) return `an event of the type ${String(event['type'])}`
    const missing = members.find((member) => !(member in event))
    if (missing !== undefined) return `${String(event['type'])} without ${missing}`
    if (event['sequence_number'] !== count++) return 'a gap in sequence_number'
    last = event
  }
  if (!isDone) return 'no [DONE]'
  const response = last['response']
  if (response === undefined) return 'the last event has no response'
  return faultOf(response as Json) ?? check?.(response as Json)
}

let failed = 0
for (const one of CASES) {
  const runs = one.status === undefined ? [whole, streamed] : [whole]
  for (const run of runs) {
    const fault = await run(one)
    if (fault !== undefined) failed++
    console.log(
      `${fault === undefined ? 'pass' : 'FAIL'} ${one.name}, ${run.name}${fault === undefined ? '' : `: ${fault}`}`,
    )
  }
}
if (failed > 0) process.exitCode = 1
