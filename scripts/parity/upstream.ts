/**
 * Checks exports under other programs, and a node in front of a server that serves its export. transformers must load
 * the export, its tokenizer and its chat template, and compute the node's greedy tokens. A server behind the node,
 * transformers or vLLM, must give the answers of the node itself until the owner withdraws an expert, and again when it
 * serves a new export. Prints one line for each server; exits 1 if one fails.
 * Usage: [FLEXMESH_TORCH_PYTHON=PYTHON] [FLEXMESH_VLLM_PYTHON=PYTHON] tsx scripts/parity/upstream.ts
 */
import { spawn } from 'node:child_process'
import { cp, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { text as textOf } from 'node:stream/consumers'
import { fileURLToPath } from 'node:url'
import { startNode } from '../../src/cli/running-node.ts'
import type { ChatMessage } from '../../src/data/chat.ts'
import type { FlexMeshNode } from '../../src/node/node.ts'
import { parseUpstreamUrl } from '../../src/serving/upstream-engine.ts'
import { type Answer, apiOf, ask, contentOf, postTo, type Question, type Send } from './api-answers.ts'
import { runCommand, SMALL_MODEL, scratchNode } from './scratch-node.ts'
import { SERVERS, type ServerKind, UPSTREAM_KEY } from './upstream-servers.ts'

const STEPS = 60
const TOKENS = 48
/** Fewer than the three experts of the mixture, so that the router chooses. */
const TOP_K = 2
/** Small enough that the export has several weight files. */
const SHARD_MB = 4
/** Rank of one expert; the other is whole. */
const RANK = 16
const PROMPTS = ['The protein', 'Article 3. The employer', 'We prove that']
const CHATS: readonly (readonly ChatMessage[])[] = [
  [{ role: 'user', content: 'What is a protein?' }],
  [
    { role: 'system', content: 'Answer in one sentence.' },
    { role: 'user', content: "Qu'est-ce qu'un contrat ?" },
    { role: 'assistant', content: 'Un accord.' },
    { role: 'user', content: 'Et un employeur ?' },
  ],
]
/** Ends an answer like the end of text, as the end of a turn does in an instruct model. */
const NEWLINE_ID = 11
/** The files that an instruct model brings beside a base model; the template has the form of OLMo-2 Instruct's. */
const INSTRUCT_FILES = {
  'tokenizer_config.json': JSON.stringify({
    tokenizer_class: 'PreTrainedTokenizerFast',
    bos_token: '<|endoftext|>',
    eos_token: '<|endoftext|>',
    pad_token: '<|endoftext|>',
    model_max_length: 512,
    clean_up_tokenization_spaces: false,
  }),
  'generation_config.json': JSON.stringify({ eos_token_id: [0, NEWLINE_ID], pad_token_id: 0 }),
  'chat_template.jinja':
    "{{ bos_token }}{% for message in messages %}{{ '<|' + message['role'] + '|>\n' + message['content'] }}{% if message['role'] == 'assistant' %}{{ eos_token }}{% endif %}{{ '\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% endif %}",
}

const CHAT_QUESTIONS = CHATS.map((messages): Question => ({ route: 'chat/completions', body: { messages } }))
const QUESTIONS: readonly Question[] = [
  ...PROMPTS.map((prompt): Question => ({ route: 'completions', body: { prompt } })),
  ...CHAT_QUESTIONS,
]

/** The greedy answers of a node's API to `QUESTIONS`. */
async function answersOf(send: Send): Promise<Answer[]> {
  const answers: Answer[] = []
  for (const question of QUESTIONS) answers.push(await ask(send, question, TOKENS))
  return answers
}

/**
 * Compares answers with the node's own. @param faults receives the differences
 * @throws Error if one of them is a refusal.
 */
function compare(what: string, answers: readonly Answer[], own: readonly Answer[], faults: string[]): void {
  for (const [i, answer] of answers.entries()) {
    const [actual, expected] = [contentOf(answer), contentOf(own[i] ?? {})]
    if (actual !== expected) faults.push(`${what}, question ${i}: expected ${expected}, got ${actual}`)
  }
}

/** Token ids of all prompts and chats, and their greedy answers, computed by transformers in a process of its own. */
async function transformersAnswers(
  python: string,
  directory: string,
): Promise<{
  readonly transformers: string
  readonly answers: readonly { readonly prompt: readonly number[]; readonly text: string }[]
}> {
  const program = fileURLToPath(new URL('transformers_export.py', import.meta.url))
  const child = spawn(python, [program], { stdio: ['pipe', 'pipe', 'inherit'] })
  child.stdin.end(JSON.stringify({ directory, prompts: PROMPTS, chats: CHATS, tokens: TOKENS }))
  return JSON.parse(await textOf(child.stdout))
}

/** Checks an export under transformers: prompts, rendered chats and greedy tokens. */
async function checkTransformers(
  python: string,
  directory: string,
  { node, own }: { readonly node: FlexMeshNode; readonly own: readonly Answer[] },
): Promise<string[]> {
  const { transformers, answers } = await transformersAnswers(python, directory)
  const faults: string[] = []
  const { signal } = new AbortController()
  for (const [i, prompt] of [...PROMPTS, ...CHATS].entries()) {
    const [ids, answer] = [await node.prompts.encode(prompt, signal), answers[i]]
    if (ids.join() !== answer?.prompt.join())
      faults.push(`question ${i}: expected the prompt ${ids.join()}, got ${answer?.prompt.join()}`)
    const [expected] = JSON.parse(contentOf(own[i] ?? {})) as [string]
    if (answer?.text !== expected) faults.push(`question ${i}: expected "${expected}", got "${answer?.text}"`)
  }
  report(
    `export in transformers ${transformers}`,
    `tokenizes and renders ${answers.length} prompts and chats as the node does, and gives the same greedy answers of up to ${TOKENS} tokens`,
    faults,
  )
  return faults
}

interface ServerCheck {
  readonly kind: ServerKind
  readonly python: string
  /** Folder of this check, with the home of the node in `home` and its export in `export`. */
  readonly folder: string
  /** Digest of the export's composition. */
  readonly composition: string
  /** The node's own answers to `QUESTIONS`. */
  readonly own: readonly Answer[]
}

/** A node in front of a server. */
interface Gateway {
  readonly node: FlexMeshNode
  /** Asks the node's API. */
  readonly send: Send
  /** Asks the server itself. */
  readonly sendDirect: Send
}

/** Runs `action` with a server of the export in the folder `name`, and the node in front of it. */
async function withGateway<T>(
  { kind, python, folder }: ServerCheck,
  name: string,
  action: (gateway: Gateway) => Promise<T>,
): Promise<T> {
  const directory = join(folder, name)
  const server = await kind.start(python, directory, join(folder, `${name}.log`))
  try {
    const running = await startNode({
      home: join(folder, 'home'),
      port: 0,
      router: 'rows',
      upstream: {
        url: parseUpstreamUrl(server.url),
        compositionFile: join(directory, 'composition.json'),
        apiKey: UPSTREAM_KEY,
      },
      onEvent: () => undefined,
    })
    try {
      const send = postTo(`http://127.0.0.1:${running.api.port}/v1`, running.apiKey)
      return await action({ node: running.node, send, sendDirect: postTo(server.url, UPSTREAM_KEY) })
    } finally {
      await running.stop()
    }
  } finally {
    await server.stop()
  }
}

/** Checks a server behind a node: its answers, a selection that it cannot make, a withdrawal and a new export. */
async function checkServer(check: ServerCheck): Promise<string[]> {
  const { kind, folder, composition, own } = check
  const faults: string[] = []
  const later = await withGateway(check, 'export', async ({ node, send, sendDirect }) => {
    const answers = await answersOf(send)
    compare('behind the node', answers, own, faults)
    if (answers.some(({ flexmesh }) => flexmesh?.served_by !== 'upstream'))
      faults.push('expected every answer to be served by the upstream')
    if (kind.hasChats) {
      const direct: Answer[] = []
      for (const question of CHAT_QUESTIONS) direct.push(await ask(sendDirect, question, TOKENS, composition))
      compare('by its own chat template', direct, own.slice(PROMPTS.length), faults)
    }
    const excluding = {
      route: 'completions',
      body: { prompt: 'Article 3.', experts: { exclude: ['law'] } },
    } as const
    const { flexmesh, error: refusal } = await ask(send, excluding, TOKENS)
    if (flexmesh?.served_by !== 'node')
      faults.push(
        `excluding an expert: expected served_by node, got ${flexmesh?.served_by ?? refusal?.message}`,
      )

    await runCommand(node, 'withdraw', { name: 'biomedicine' })
    const { error } = await ask(send, { route: 'completions', body: { prompt: 'The protein' } }, TOKENS)
    if (error?.code !== 'expert_not_in_use')
      faults.push(`after the withdrawal: expected expert_not_in_use, got ${error?.code ?? 'an answer'}`)
    await runCommand(node, 'compose', { export: join(folder, 'export-2'), topK: TOP_K })
    return { own: await answersOf(apiOf(node)), refusal: error?.message }
  })
  await withGateway(check, 'export-2', async ({ send }) =>
    compare('with the new export', await answersOf(send), later.own, faults),
  )
  report(
    `${kind.name} behind the node`,
    `gives the same greedy answers of up to ${TOKENS} tokens to ${QUESTIONS.length} prompts and chats as the node; after the withdrawal: "${later.refusal}"; with a new export it answers again`,
    faults,
  )
  return faults
}

function report(subject: string, result: string, faults: readonly string[]): void {
  if (faults.length === 0) console.log(`upstream: ${subject} ${result}`)
  else console.error(`upstream: ${subject}: ${faults.join('; ')}`)
}

const configured = SERVERS.flatMap((kind) => {
  const python = process.env[kind.variable]
  if (python !== undefined) return [{ kind, python }]
  console.log(
    `upstream: ${kind.name} not run; set ${kind.variable} to a Python interpreter with ${kind.packages}`,
  )
  return []
})
if (configured.length === 0) process.exit(0)

const path = (relative: string): string => fileURLToPath(new URL(relative, import.meta.url))
const root = await mkdtemp(join(tmpdir(), 'flexmesh-parity-'))
try {
  const modelDir = join(root, 'model')
  await cp(SMALL_MODEL, modelDir, { recursive: true })
  for (const [name, content] of Object.entries(INSTRUCT_FILES)) await writeFile(join(modelDir, name), content)

  const base = join(root, 'base')
  const node = await scratchNode(join(base, 'home'), 'St. Anna Hospital', { modelDir, topK: TOP_K })
  const experts = { biomedicine: 'hospital', law: 'archive' }
  for (const [name, example] of Object.entries(experts))
    await runCommand(node, 'train', { name, data: [path(`../../examples/${example}/text`)], steps: STEPS })
  await runCommand(node, 'publish', { name: 'biomedicine' })
  await runCommand(node, 'publish', { name: 'law', rank: RANK })
  const directory = join(base, 'export')
  const { composition } = (await runCommand(node, 'compose', {
    export: directory,
    topK: TOP_K,
    shardMegabytes: SHARD_MB,
  })) as {
    composition: string
  }
  const own = await answersOf(apiOf(node))
  const faults: string[] = []
  const torch = process.env['FLEXMESH_TORCH_PYTHON']
  if (torch !== undefined) faults.push(...(await checkTransformers(torch, directory, { node, own })))
  await node.close()

  for (const { kind, python } of configured) {
    const folder = join(root, kind.name)
    await cp(base, folder, { recursive: true })
    faults.push(...(await checkServer({ kind, python, folder, composition, own })))
  }
  if (faults.length > 0) process.exitCode = 1
} finally {
  await rm(root, { recursive: true, force: true })
}
