/**
 * Tokens per second of the pair step, against PyTorch eager on the same weights and tokens in the same
 * run, in alternating rounds. Both must report the same loss, or the comparison is refused.
 */
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface, type Interface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import type { ModelConfig } from '../../src/model/config.ts'
import { expertName, FFN_PROJECTIONS, layerName, publicShapes, zeroRows } from '../../src/model/params.ts'
import { mulberry32 } from '../../src/model/sampling.ts'
import { onnxEngine } from '../../src/tensor/onnx-engine.ts'
import { initialPublicModel } from '../../src/training/dense.ts'
import { ADAMW_DEFAULTS, AdamW } from '../../src/training/optimizer.ts'
import { compilePairStep, initialTrainables } from '../../src/training/pair.ts'
import type { Bench } from './bench.ts'
import { median } from './machine.ts'

const CONFIG: ModelConfig = {
  vocabSize: 4096,
  hiddenSize: 256,
  intermediateSize: 768,
  numHiddenLayers: 4,
  numAttentionHeads: 4,
  maxPositionEmbeddings: 512,
  ropeTheta: 500_000,
  rmsNormEps: 1e-6,
}
const B = 16
const T = 256
const THREADS = 2
const ROUNDS = 5
const STEPS_PER_ROUND = 3
const SEED = 1
const RATE = 1e-3
/** Float32 sums in another order differ by less. */
const LOSS_TOLERANCE = 1e-4

export async function benchTraining(say: (line: string) => void): Promise<Bench> {
  const random = mulberry32(SEED)
  const weights = initialPublicModel(CONFIG, random)
  const shapes = publicShapes(CONFIG)
  const publicModel = new Map(
    [...weights].map(([name, data]) => [name, { shape: shapes.get(name) as readonly number[], data }]),
  )
  const rows = Array.from({ length: CONFIG.numHiddenLayers }, () =>
    Float32Array.from({ length: CONFIG.hiddenSize }, () => (random() - 0.5) * 0.1),
  )
  const trainables = initialTrainables(CONFIG, publicModel, rows)
  const N = B * T
  const ids = Int32Array.from({ length: N }, () => Math.floor(random() * CONFIG.vocabSize))
  const labels = Int32Array.from({ length: N }, () => Math.floor(random() * CONFIG.vocabSize))
  const python = process.env['FLEXMESH_TORCH_PYTHON']
  const peer =
    python === undefined ? undefined : await startPeer(python, { publicModel, trainables, ids, labels })
  try {
    const optimizer = new AdamW(ADAMW_DEFAULTS, trainables)
    const compiled = await compilePairStep(
      onnxEngine({ threads: THREADS }),
      CONFIG,
      publicModel,
      zeroRows(CONFIG),
      B,
      T,
    )
    const gradients = new Map([...trainables].map(([name, p]) => [name, new Float32Array(p.length)]))
    const into = Object.fromEntries([...gradients].map(([name, g]) => [`d.${name}`, g]))
    const batch = {
      ids,
      labels,
      labelWeights: new Float32Array(N).fill(1 / N),
      tokenScale: Float32Array.of(1 / N),
    }
    const step = async (): Promise<{ loss: number; ms: number }> => {
      const started = performance.now()
      const out = await compiled.run({ ...batch, ...Object.fromEntries(trainables) }, into)
      optimizer.update(trainables, gradients, RATE)
      return { loss: out['loss']?.[0] as number, ms: performance.now() - started }
    }
    const ours: number[] = []
    const theirs: number[] = []
    const first = await step()
    if (peer !== undefined) {
      const { loss } = await peer.run(1)
      if (Math.abs(loss - first.loss) > LOSS_TOLERANCE * first.loss)
        throw new Error(`not the same work: our loss is ${first.loss}, the peer's ${loss}`)
      say(`both report a first loss of ${first.loss.toFixed(5)} and ${loss.toFixed(5)}`)
    }
    for (let round = 0; round < ROUNDS; round++) {
      for (let i = 0; i < STEPS_PER_ROUND; i++) ours.push((await step()).ms)
      if (peer !== undefined) theirs.push(...(await peer.run(STEPS_PER_ROUND)).ms)
      say(`round ${round + 1} of ${ROUNDS}`)
    }
    await compiled.dispose()
    const speed = (times: readonly number[]): number => Math.round((N * 1000) / median(times))
    if (peer === undefined) {
      const missing = 'torchEager: set FLEXMESH_TORCH_PYTHON to a Python with torch'
      return {
        json: { ratios: { S: {} }, tokensPerSecond: { flexmesh: speed(ours) }, notMeasured: [missing] },
        lines: [`flexmesh: ${speed(ours)} tokens/s`, `not measured: ${missing}`],
      }
    }
    const ratio = Math.round((1000 * median(theirs)) / median(ours)) / 1000
    return {
      json: {
        ratios: { S: { torchEager: ratio } },
        tokensPerSecond: { flexmesh: speed(ours), torchEager: speed(theirs) },
      },
      lines: [
        `flexmesh: ${speed(ours)} tokens/s`,
        `PyTorch eager: ${speed(theirs)} tokens/s`,
        `flexmesh has ${ratio} times the speed of PyTorch eager`,
      ],
    }
  } finally {
    await peer?.stop()
  }
}

interface Peer {
  run(steps: number): Promise<{ loss: number; ms: number[] }>
  stop(): Promise<void>
}

async function startPeer(
  python: string,
  work: {
    publicModel: ReadonlyMap<string, { shape: readonly number[]; data: Float32Array }>
    trainables: ReadonlyMap<string, Float32Array>
    ids: Int32Array
    labels: Int32Array
  },
): Promise<Peer> {
  const folder = await mkdtemp(join(tmpdir(), 'flexmesh-bench-'))
  const tensors: [string, readonly number[]][] = []
  const parts: Float32Array[] = []
  const add = (name: string, shape: readonly number[], data: Float32Array): void => {
    tensors.push([name, shape])
    parts.push(data)
  }
  for (const [name, { shape, data }] of work.publicModel) if (!name.includes('.mlp.')) add(name, shape, data)
  for (let layer = 0; layer < CONFIG.numHiddenLayers; layer++) {
    for (const projection of FFN_PROJECTIONS) {
      const source = work.publicModel.get(layerName(layer, `mlp.${projection}.weight`))
      if (source !== undefined) add(expertName(layer, 0, projection), source.shape, source.data)
    }
  }
  for (const [name, data] of work.trainables) {
    const { hiddenSize: C, intermediateSize: F } = CONFIG
    const shape = name.endsWith('down_proj.weight')
      ? [C, F]
      : name.endsWith('_proj.weight')
        ? [F, C]
        : name.endsWith('gate.weight')
          ? [1, C]
          : [1]
    add(name, shape, data)
  }
  const setup = {
    threads: THREADS,
    B,
    T,
    layers: CONFIG.numHiddenLayers,
    heads: CONFIG.numAttentionHeads,
    tensors,
    trainable: [...work.trainables.keys()],
    ids: [...work.ids],
    labels: [...work.labels],
  }
  await writeFile(join(folder, 'bench.json'), JSON.stringify(setup))
  await writeFile(
    join(folder, 'weights.f32'),
    Buffer.concat(
      parts.map(({ buffer, byteOffset, byteLength }) => Buffer.from(buffer, byteOffset, byteLength)),
    ),
  )
  const script = fileURLToPath(new URL('./training_peer.py', import.meta.url))
  const child = spawn(python, [script, folder], {
    stdio: ['pipe', 'pipe', 'inherit'],
    env: { ...process.env, OMP_NUM_THREADS: String(THREADS) },
  })
  const lines = createInterface({ input: child.stdout })
  return {
    run: async (steps) => {
      child.stdin.write(`${steps}\n`)
      return JSON.parse(await nextLine(lines, child)) as { loss: number; ms: number[] }
    },
    stop: async () => {
      child.stdin.end()
      if (child.exitCode === null) await once(child, 'exit')
      await rm(folder, { recursive: true, force: true })
    },
  }
}

async function nextLine(lines: Interface, child: ChildProcess): Promise<string> {
  const ended = once(child, 'exit').then(([code]) => {
    throw new Error(`the peer ended with code ${String(code)}`)
  })
  const [line] = (await Promise.race([once(lines, 'line'), ended])) as [string]
  ended.catch(() => undefined)
  return line
}
