/**
 * Runs a step of private training on the engine `onnx`, in a process of its own so that its memory is measured alone.
 * Every row of the batch is a unit; all of them take part, and the sum of their clipped gradients gets noise.
 * Usage: private.child.ts FOLDER; then one number of steps per line on standard input.
 */
import { createInterface } from 'node:readline'
import { denseName } from '../../../src/lib/tensor-names.ts'
import { zeroRows } from '../../../src/model/params.ts'
import type { Compiled } from '../../../src/tensor/engine.ts'
import { onnxEngine } from '../../../src/tensor/onnx-engine.ts'
import { ADAMW_DEFAULTS, AdamW } from '../../../src/training/optimizer.ts'
import { PrivateGradients } from '../../../src/training/private-gradients.ts'
import { compilePrivatePairSteps } from '../../../src/training/private-pair.ts'
import { readWork } from '../training/work-folder.ts'

const [folder = ''] = process.argv.slice(2)
const { config, B, T, arrays, trainable, ids, labels, threads, learningRate } = await readWork(folder)
const publicModel = new Map(
  [...arrays].filter(([name]) => !trainable.includes(name)).map(([name, p]) => [denseName(name), p]),
)
const trainables = new Map(trainable.map((name) => [name, arrays.get(name)?.data as Float32Array]))
const engine = onnxEngine({ threads })
const started = performance.now()
const shape = { units: B, windows: 1, T }
const [compiled] = await compilePrivatePairSteps(engine, config, publicModel, zeroRows(config), [shape])
console.log(JSON.stringify({ version: engine.library, compileMs: performance.now() - started }))

const optimizer = new AdamW({ ...ADAMW_DEFAULTS, maxGradNorm: Number.POSITIVE_INFINITY }, trainables)
const source = new PrivateGradients({
  steps: [{ compiled: withLabels(compiled as Compiled), shape }],
  parameters: { clip: 1, noiseMultiplier: 1, sampleRate: 1, expectedBatch: B, capacity: B, units: B },
  trainables,
  windows: async (unit) => [Int32Array.from([...ids.slice(unit * T, (unit + 1) * T), 0])],
  publicWindows: async () => [],
  publicUnits: 0,
})

for await (const line of createInterface({ input: process.stdin })) {
  const ms: number[] = []
  let first: number | undefined
  for (let i = 0; i < Number(line); i++) {
    const begun = performance.now()
    const step = await source.gradient(i, trainables)
    if (step === undefined) throw new Error('the step was not computed')
    optimizer.update(trainables, step.gradients, learningRate)
    ms.push(performance.now() - begun)
    first ??= step.loss
  }
  console.log(JSON.stringify({ loss: first, ms }))
}

/** The labels of the work do not follow from its ids, so they replace those of the windows. */
function withLabels(step: Compiled): Compiled {
  const given = Int32Array.from(labels)
  return {
    run: (inputs, into, sizes) => step.run({ ...inputs, labels: given }, into, sizes),
    dispose: () => step.dispose(),
  }
}
