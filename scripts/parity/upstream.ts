/**
 * Checks a node in front of another server that serves its export. Through the node's API, transformers in a Python
 * process must answer what the node itself answers, until the owner withdraws. Prints one line; exits 1 if it does not.
 * Usage: FLEXMESH_TORCH_PYTHON=PYTHON tsx scripts/parity/upstream.ts
 */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import { startNode } from '../../src/cli/running-node.ts'
import { parseUpstreamUrl } from '../../src/serving/upstream-engine.ts'
import { runCommand, scratchNode } from './scratch-node.ts'

const STEPS = 60
const TOKENS = 48
const UPSTREAM_KEY = 'a-key-of-the-upstream'
const PROMPTS = ['The protein', 'Article 3. The employer', 'We prove that']

const python = process.env['FLEXMESH_TORCH_PYTHON']
if (python === undefined) {
  console.log(
    'upstream: not run; set FLEXMESH_TORCH_PYTHON to a Python with torch, transformers and tokenizers',
  )
  process.exit(0)
}
const root = await mkdtemp(join(tmpdir(), 'flexmesh-parity-'))
const home = join(root, 'home')
const directory = join(root, 'export')
const path = (relative: string): string => fileURLToPath(new URL(relative, import.meta.url))

interface Answer {
  readonly choices?: { readonly text: string }[]
  readonly usage?: { readonly completion_tokens: number }
  readonly flexmesh?: { readonly served_by: string }
  readonly error?: { readonly code: string; readonly message: string }
}

try {
  const node = await scratchNode(home, 'St. Anna Hospital')
  await runCommand(node, 'train', {
    name: 'biomedicine',
    data: [path('../../examples/hospital/text')],
    steps: STEPS,
  })
  await runCommand(node, 'publish', { name: 'biomedicine' })
  await runCommand(node, 'compose', { export: directory })
  const own: string[] = []
  for (const prompt of PROMPTS) {
    const { text } = (await runCommand(node, 'generate', { prompt, maxTokens: TOKENS })) as { text: string }
    own.push(text)
  }
  await node.close()

  const child = spawn(python, [path('openai_server.py'), directory], {
    stdio: ['ignore', 'pipe', 'inherit'],
    env: { ...process.env, UPSTREAM_KEY, HF_HUB_OFFLINE: '1' },
  })
  try {
    const [port] = (await once(createInterface({ input: child.stdout }), 'line')) as [string]
    const running = await startNode({
      home,
      port: 0,
      upstream: {
        url: parseUpstreamUrl(`http://127.0.0.1:${port}/v1`),
        compositionFile: join(directory, 'composition.json'),
        apiKey: UPSTREAM_KEY,
      },
      onEvent: () => undefined,
    })
    const ask = async (prompt: string): Promise<Answer> => {
      const answer = await fetch(`http://127.0.0.1:${running.api.port}/v1/completions`, {
        method: 'POST',
        headers: { 'content-type': 'application/json', authorization: `Bearer ${running.apiKey}` },
        body: JSON.stringify({ model: 'flexmesh', prompt, max_tokens: TOKENS, temperature: 0 }),
      })
      return (await answer.json()) as Answer
    }
    const answers = []
    for (const prompt of PROMPTS) answers.push(await ask(prompt))
    await runCommand(running.node, 'withdraw', { name: 'biomedicine' })
    const { error } = await ask('The protein')
    await running.stop()

    const same = answers.every(
      ({ choices, flexmesh }, i) => choices?.[0]?.text === own[i] && flexmesh?.served_by === 'upstream',
    )
    const ended = error?.code === 'expert_not_in_use'
    console.log(
      same && ended
        ? `upstream: transformers behind the node gives the same ${TOKENS} tokens to ${PROMPTS.length} prompts as the node; after the withdrawal: "${error.message}"`
        : `upstream: expected ${JSON.stringify(own)}, got ${JSON.stringify(answers)} and ${JSON.stringify(error)}`,
    )
    if (!(same && ended)) process.exitCode = 1
  } finally {
    child.kill()
  }
} finally {
  await rm(root, { recursive: true, force: true })
}
