/**
 * The row of training at rank 64: `train` on the text of an example institution, and the same step in PyTorch: equal
 * shapes and weights, but random tokens, since the command does not show its batches.
 */
import { mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { mulberry32 } from '../../../src/lib/random.ts'
import { TRAIN_DEFAULTS } from '../../../src/owner/train-defaults.ts'
import { homePaths } from '../../../src/store/home.ts'
import { trainableShapes } from '../../../src/training/pair.ts'
import { median, rounded } from '../machine.ts'
import { Contestant } from '../training/contestant.ts'
import { LEARNING_RATE } from '../training/work-folder.ts'
import { seconds, type Task, TEXT } from './command-rows.ts'
import type { TrainFindings } from './findings.ts'
import { remove } from './home.ts'
import { runMeasured } from './measured-process.ts'
import { LOW_RANK } from './model-plan.ts'
import { THREADS } from './serve-rows.ts'

const NAME = 'low-rank'
/** The bound on a training of 1B. */
const MEMORY = '12GB'
const STEP = /([\d.]+) s each/
const SPEED = /(\d+) tokens\/s/
const PEER = fileURLToPath(new URL('../training/torch_peer.py', import.meta.url))
/** The first step of PyTorch warms up. */
const PEER_STEPS = 3
const SEED = 1

export async function trainLowRank(task: Task, python: string | undefined): Promise<void> {
  const { rows, findings, plan, home } = task
  const trained = await rows.measure('train --rank 64', async () => {
    const options = ['--rank', String(LOW_RANK), '--steps', String(plan.steps), '--memory', MEMORY]
    const run = await runMeasured(['train', '--name', NAME, '--data', TEXT, ...options, '--home', home])
    const speed = printedSpeed([...run.out, ...run.errors])
    if (speed === undefined)
      rows.skip('train --rank 64, tokens per second', 'too few seconds to print its speed')
    rows.say(`train: ${run.peakMB} MB, ${run.took.toFixed(0)} s, ${speed ?? 'unknown'} tokens/s`)
    return {
      peakMB: run.peakMB,
      seconds: seconds(run.took),
      ...(speed === undefined ? {} : { tokensPerSecond: speed }),
    } satisfies TrainFindings
  })
  await remove(join(home, 'training', NAME))
  if (trained === undefined) return
  findings.trainRank64 = trained
  const ours = trained.tokensPerSecond
  if (ours === undefined) return
  if (python === undefined) {
    rows.skip('train --rank 64, PyTorch', 'set FLEXMESH_TORCH_PYTHON to a Python with torch')
    return
  }
  const theirs = await rows.measure('train --rank 64, PyTorch', () => torchTokensPerSecond(task, python))
  if (theirs !== undefined) findings.trainRank64.torchEager = rounded(ours / theirs)
}

/** Tokens per second as `train` prints them, or by the measured step of its forecast, which short runs print alone. */
function printedSpeed(lines: readonly string[]): number | undefined {
  const last = (pattern: RegExp): number | undefined => {
    const line = lines.findLast((one) => pattern.test(one))
    return line === undefined ? undefined : Number(pattern.exec(line)?.[1])
  }
  const step = last(STEP)
  return last(SPEED) ?? (step && Math.round((TRAIN_DEFAULTS.B * TRAIN_DEFAULTS.T) / step))
}

async function torchTokensPerSecond({ plan, work, home, rows }: Task, python: string): Promise<number> {
  const { config } = plan
  const { B, T } = TRAIN_DEFAULTS
  const folder = join(work, 'torch')
  const random = mulberry32(SEED)
  const shapes = trainableShapes(config, LOW_RANK)
  const arrays = [...shapes].map(([name, shape]) => {
    const size = shape.reduce((product, n) => product * n, 1)
    // B starts at zero, as in `train`, so that the pair equals the public model.
    const bound = name.includes('lora_B') ? 0 : Math.sqrt(3 / (shape.at(-1) as number))
    return Float32Array.from({ length: size }, () => (2 * random() - 1) * bound)
  })
  const token = (): number => Math.floor(random() * config.vocabSize)
  const setup = {
    threads: THREADS,
    learningRate: LEARNING_RATE,
    config,
    B,
    T,
    rank: LOW_RANK,
    directory: homePaths(home).publicModel,
    tensors: [...shapes],
    trainable: [...shapes.keys()],
    ids: Array.from({ length: B * T }, token),
    labels: Array.from({ length: B * T }, token),
  }
  await mkdir(folder)
  try {
    await writeFile(join(folder, 'bench.json'), JSON.stringify(setup))
    const parts = arrays.map((data) => Buffer.from(data.buffer, data.byteOffset, data.byteLength))
    await writeFile(join(folder, 'weights.f32'), Buffer.concat(parts))
    const peer = await Contestant.start(python, [PEER, folder, 'eager'], { OMP_NUM_THREADS: String(THREADS) })
    try {
      const { ms, loss } = await peer.run(PEER_STEPS)
      const speed = (B * T * 1000) / median(ms.slice(1))
      const peak = ((await peer.peakMemory()) ?? 0) / 1e6
      rows.say(`PyTorch: ${speed.toFixed(0)} tokens/s, ${peak.toFixed(0)} MB, first loss ${loss.toFixed(2)}`)
      return speed
    } finally {
      await peer.stop()
    }
  } finally {
    await remove(folder)
  }
}
