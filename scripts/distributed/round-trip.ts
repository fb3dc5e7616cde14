/**
 * Takes an expert through a cluster's steps on this machine: exports a pair, trains it under torchrun in two
 * processes, imports, publishes, accepts and composes it. For comparison, trains the same expert inside a node. Prints
 * one line; exits 1 if the improvements of the owner's held-out text differ by more than 3 %.
 * Usage: FLEXMESH_TORCH_PYTHON=PYTHON tsx scripts/distributed/round-trip.ts [STEPS]
 */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'

const TOLERANCE = 0.03
const PROCESSES = 2
const INSTITUTION = 'St. Anna Hospital'
const NAME = 'biomedicine'

const path = (relative: string): string => fileURLToPath(new URL(relative, import.meta.url))
const main = path('../../src/main.ts')
const data = path('../../examples/hospital/text')
const steps = process.argv[2] ?? '200'

const python = process.env['FLEXMESH_TORCH_PYTHON']
if (python === undefined) {
  console.log(
    'round trip: not run; set FLEXMESH_TORCH_PYTHON to a Python with torch, safetensors and tokenizers',
  )
  process.exit(0)
}

/** Runs a program and returns its standard output; its errors go to ours. @throws Error if it fails. */
async function run(program: string, args: readonly string[], env: NodeJS.ProcessEnv = {}): Promise<string> {
  const child = spawn(program, args, {
    stdio: ['ignore', 'pipe', 'inherit'],
    env: { ...process.env, ...env },
  })
  let text = ''
  child.stdout.setEncoding('utf8').on('data', (part: string) => {
    text += part
  })
  const [code] = await once(child, 'close')
  if (code !== 0) throw new Error(`${[program, ...args].join(' ')} exited with code ${code}\n${text}`)
  return text
}

/** Runs a command on this home and returns what it prints with --json. */
async function flexmesh(home: string, ...args: readonly string[]): Promise<Record<string, unknown>> {
  const text = await run(process.execPath, ['--import', 'tsx', main, ...args, '--home', home, '--json'])
  return JSON.parse(text.trimEnd().split('\n').at(-1) ?? '') as Record<string, unknown>
}

async function found(home: string): Promise<void> {
  await flexmesh(home, 'init', '--institution', INSTITUTION, '--insecure', '--no-mdns')
  const model = path('../../models/small')
  await flexmesh(home, 'consortium', 'create', '--public-model', model, '--name', 'Round trip')
}

/** Publishes the expert. Returns bits per byte on the owner's held-out text, without and with it. */
async function published(home: string): Promise<{ before: number; after: number }> {
  await flexmesh(home, 'publish', NAME)
  const { verdicts } = (await flexmesh(home, 'experts')) as { verdicts: { outcome: string }[] }
  if (verdicts.length !== 1 || verdicts[0]?.outcome !== 'accepted')
    throw new Error(`not accepted: ${JSON.stringify(verdicts)}`)
  const { experts } = (await flexmesh(home, 'compose')) as { experts: { name: string }[] }
  if (experts[0]?.name !== NAME) throw new Error(`not composed: ${JSON.stringify(experts)}`)
  const scores = await flexmesh(home, 'evaluate', '--name', NAME)
  const alone = scores['alone'] as Record<string, number>
  return { before: scores['public'] as number, after: alone[INSTITUTION] as number }
}

const root = await mkdtemp(join(tmpdir(), 'flexmesh-round-trip-'))
try {
  const here = join(root, 'here')
  await found(here)
  await flexmesh(here, 'train', '--name', NAME, '--data', data, '--steps', steps)
  const inside = await published(here)

  const home = join(root, 'home')
  const pair = join(root, 'pair')
  const out = join(root, 'trained')
  await found(home)
  await flexmesh(home, 'train', '--name', NAME, '--data', data, '--export-pair', pair)
  const training = join(home, 'training')
  await run(
    python,
    [
      ...['-m', 'torch.distributed.run', '--standalone', '--nproc-per-node', String(PROCESSES)],
      ...[path('./train_pair.py'), pair, '--out', out, '--steps', steps],
      ...['--data', join(training, NAME, 'corpus'), '--replay', join(training, '.replay')],
    ],
    { OMP_NUM_THREADS: '1' },
  )
  await flexmesh(home, 'import-expert', out, '--name', NAME)
  const cluster = await published(home)

  const ratio = (cluster.before - cluster.after) / (inside.before - inside.after)
  const bits = ({ before, after }: { before: number; after: number }): string =>
    `${before.toFixed(4)} -> ${after.toFixed(4)}`
  console.log(
    `round trip: ${steps} steps, bits per byte on held-out text ${bits(cluster)} in ${PROCESSES} processes under torchrun, ${bits(inside)} inside the node; ${(100 * ratio).toFixed(2)} % of the improvement`,
  )
  if (!(Math.abs(ratio - 1) <= TOLERANCE)) process.exitCode = 1
} finally {
  await rm(root, { recursive: true, force: true })
}
