/**
 * Runs this project's training step on one tensor engine, in a process of its own so that its memory is measured
 * alone. ENGINE is `onnx`, or stock TensorFlow.js, one operation at a time: `wasm` (from the folder of peers) or
 * `tensorflow` (tfjs-node-gpu, once `flexmesh doctor --link-tensorflow` has built its binding).
 * Usage: contestant.child.ts FOLDER ENGINE; then one number of steps per line on standard input.
 */
import { createRequire } from 'node:module'
import { createInterface } from 'node:readline'
import { denseName } from '../../../src/lib/tensor-names.ts'
import { zeroRows } from '../../../src/model/params.ts'
import { eagerEngine } from '../../../src/tensor/eager-engine.ts'
import type { Engine } from '../../../src/tensor/engine.ts'
import { onnxEngine } from '../../../src/tensor/onnx-engine.ts'
import { tensorflowEngine } from '../../../src/tensor/tensorflow-engine.ts'
import { ADAMW_DEFAULTS, AdamW } from '../../../src/training/optimizer.ts'
import { compilePairStep } from '../../../src/training/pair.ts'
import { readWork } from './work-folder.ts'

const WASM_BACKEND = '@tensorflow/tfjs-backend-wasm'
const [folder = '', engineName] = process.argv.slice(2)
const { config, B, T, arrays, trainable, ids, labels, threads, learningRate } = await readWork(folder)
const publicModel = new Map(
  [...arrays].filter(([name]) => !trainable.includes(name)).map(([name, p]) => [denseName(name), p]),
)
const trainables = new Map(trainable.map((name) => [name, arrays.get(name)?.data as Float32Array]))
const engine = await selectEngine()
const started = performance.now()
const compiled = await compilePairStep(engine, config, publicModel, zeroRows(config), B, T)
console.log(
  JSON.stringify({ version: `${engine.library}, ${engine.device}`, compileMs: performance.now() - started }),
)

const optimizer = new AdamW(ADAMW_DEFAULTS, trainables)
const gradients = new Map([...trainables].map(([name, p]) => [name, new Float32Array(p.length)]))
const into = Object.fromEntries([...gradients].map(([name, g]) => [`d.${name}`, g]))
const batch = {
  ids: Int32Array.from(ids),
  labels: Int32Array.from(labels),
  labelWeights: new Float32Array(B * T).fill(1 / (B * T)),
  tokenScale: Float32Array.of(1 / (B * T)),
}

for await (const line of createInterface({ input: process.stdin })) {
  const ms: number[] = []
  let loss: number | undefined
  for (let i = 0; i < Number(line); i++) {
    const begun = performance.now()
    const out = await compiled.run({ ...batch, ...Object.fromEntries(trainables) }, into)
    optimizer.update(trainables, gradients, learningRate)
    ms.push(performance.now() - begun)
    loss ??= out['loss']?.[0]
  }
  console.log(JSON.stringify({ loss, ms }))
}

async function selectEngine(): Promise<Engine> {
  if (engineName === 'onnx') return onnxEngine({ threads })
  if (engineName === 'tensorflow') return tensorflowEngine({ threads })
  const require = createRequire(new URL('../peers/package.json', import.meta.url))
  // Loading it registers the backend with this process's TensorFlow.js.
  const { version_wasm: version } = require(WASM_BACKEND) as { version_wasm: string }
  return eagerEngine('cpu', 'wasm', { device: 'cpu', library: `TensorFlow.js ${version}, wasm` })
}
