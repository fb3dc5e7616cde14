/**
 * Checks that the cluster trainer computes what `flexmesh train` computes: the same tokens from the same text, the
 * same losses on the same rows, and the same bytes at the end with and without an interruption. Prints one line;
 * exits 1 if anything differs.
 * Usage: FLEXMESH_TORCH_PYTHON=PYTHON tsx scripts/parity/train-pair.ts
 */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import { exportPair } from '../../src/owner/export-pair.ts'
import { trainExpert } from '../../src/owner/train-expert.ts'
import { scratchNode } from './scratch-node.ts'

const NAME = 'biomedicine'
const STEPS = 24
/** Allowed difference of losses, nats; sums are rounded in another order. */
const TOLERANCE = 1e-4
/** Step after which a run receives SIGTERM. */
const STOP_AFTER = 8

const python = process.env['FLEXMESH_TORCH_PYTHON']
if (python === undefined) {
  console.log(
    'train-pair: not run; set FLEXMESH_TORCH_PYTHON to a Python with torch, safetensors and tokenizers',
  )
  process.exit(0)
}
const path = (relative: string): string => fileURLToPath(new URL(relative, import.meta.url))
const text = path('../../examples/hospital/text')
const replay = path('../../models/small/replay.jsonl')

/** Runs the trainer to its end, or sends it SIGTERM after a step. Returns the losses by step. */
async function torchrun(
  pair: string,
  out: string,
  data: string[],
  stopAfter?: number,
): Promise<Map<number, number>> {
  const child = spawn(
    python as string,
    [
      ...[
        '-m',
        'torch.distributed.run',
        '--standalone',
        '--nproc-per-node',
        '2',
        path('../distributed/train_pair.py'),
        pair,
      ],
      ...['--out', out, '--steps', String(STEPS), '--json', ...data],
    ],
    {
      stdio: ['ignore', 'pipe', stopAfter === undefined ? 'inherit' : 'ignore'],
      env: { ...process.env, OMP_NUM_THREADS: '1' },
    },
  )
  const closed = once(child, 'close')
  const losses = new Map<number, number>()
  for await (const line of createInterface({ input: child.stdout })) {
    if (!line.startsWith('{')) continue
    const { step, loss } = JSON.parse(line) as { step: number; loss: number }
    losses.set(step, loss)
    if (step === stopAfter) child.kill('SIGTERM')
  }
  const [code] = await closed
  if (stopAfter === undefined && code !== 0) throw new Error(`torchrun exited with code ${code}`)
  return losses
}

const root = await mkdtemp(join(tmpdir(), 'flexmesh-parity-'))
try {
  const { signal } = new AbortController()
  const node = await scratchNode(join(root, 'home'), 'St. Anna Hospital')
  const { engine, publicModel, paths } = node
  const pair = join(root, 'pair')
  const request = { name: NAME, paths: [text], seed: 1 }
  await exportPair(engine, publicModel, paths.training, request, pair, { signal })
  const ours = new Map<number, number>()
  const more = { steps: STEPS, accumulate: 1, rank: 0 }
  for await (const event of trainExpert(engine, publicModel, paths.training, { ...request, ...more }, signal))
    if (event.stage === 'step') ours.set(event.step, event.loss)
  await node.close()

  const prepared = [
    '--data',
    join(paths.training, NAME, 'corpus'),
    '--replay',
    join(paths.training, '.replay'),
  ]
  const whole = await torchrun(pair, join(root, 'whole'), prepared)
  const worst = Math.max(...[...ours].map(([step, loss]) => Math.abs(loss - (whole.get(step) ?? Number.NaN))))

  // Starts from text, so that the trainer's own preparation is compared too.
  const fromText = ['--data', text, '--replay', replay]
  const first = await torchrun(pair, join(root, 'parts'), fromText, STOP_AFTER)
  const rest = await torchrun(pair, join(root, 'parts'), fromText)
  const same = async (a: string, b: string): Promise<boolean> =>
    Buffer.compare(await readFile(join(root, a)), await readFile(join(root, b))) === 0
  const interrupted = first.size < STEPS && rest.size === STEPS - first.size
  const checks: [string, boolean][] = [
    [`losses of ${STEPS} steps within ${TOLERANCE} of ours`, worst <= TOLERANCE],
    [
      'the same tokens of the same text',
      await same(`home/training/${NAME}/corpus/train.tokens`, 'parts.work/data/train.tokens'),
    ],
    ['the same replay', await same('home/training/.replay/train.tokens', 'parts.work/replay/train.tokens')],
    [`a run stopped after step ${first.size} that went on there`, interrupted],
    ['the same bytes as without the stop', await same('whole/model.safetensors', 'parts/model.safetensors')],
    ['the same biases', await same('whole/router_bias.safetensors', 'parts/router_bias.safetensors')],
  ]
  const wrong = checks.filter(([, holds]) => !holds).map(([what]) => what)
  console.log(
    wrong.length === 0
      ? `train-pair: ${checks.map(([what]) => what).join(', ')}; worst loss difference ${worst.toExponential(1)}`
      : `train-pair: expected ${wrong.join(', ')}; worst loss difference ${worst.toExponential(1)}`,
  )
  if (wrong.length > 0) process.exitCode = 1
} finally {
  await rm(root, { recursive: true, force: true })
}
