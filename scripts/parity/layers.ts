/**
 * Compares scores that are computed layer by layer with those of the whole mixture in one graph, on a random public
 * model of 200 million parameters with a whole and a low-rank expert. Prints one line for each routing; exits 1 if a
 * number differs by more than 1e-6, relative. Takes 2 GB of memory.
 * Usage: tsx scripts/parity/layers.ts
 */
import { mulberry32 } from '../../src/lib/random.ts'
import { FACTORS, FFN_PROJECTIONS } from '../../src/lib/tensor-names.ts'
import type { ModelConfig } from '../../src/model/config.ts'
import { createEvaluator } from '../../src/model/evaluate.ts'
import {
  type Expert,
  factorShape,
  mixtureWeights,
  projectionShape,
  publicShapes,
  zeroRows,
} from '../../src/model/params.ts'
import { LEFT_OUT, type SequenceRouting } from '../../src/model/routing-plan.ts'
import { solveGate } from '../../src/model/solved-router.ts'
import type { Param } from '../../src/model/weights.ts'
import { onnxEngine } from '../../src/tensor/onnx-engine.ts'
import { wholeGraphScores } from './whole-graph.ts'

const TOLERANCE = 1e-6
const CONFIG: ModelConfig = {
  vocabSize: 20_000,
  hiddenSize: 1024,
  intermediateSize: 2816,
  numHiddenLayers: 12,
  numAttentionHeads: 16,
  numKeyValueHeads: 16,
  maxPositionEmbeddings: 4096,
  ropeTheta: 500_000,
  rmsNormEps: 1e-6,
}
const { vocabSize: V, hiddenSize: C, numHiddenLayers: L } = CONFIG
const RANK = 8
const T = 96
const INIT = { E: 3, topK: 2, T, endOfText: 0 }

const random = mulberry32(1)
const values = (shape: readonly number[], scale: number, offset = 0): Param => {
  const length = shape.reduce((a, b) => a * b, 1)
  return { shape, data: Float32Array.from({ length }, () => offset + 2 * scale * (random() - 0.5)) }
}

const publicModel = new Map(
  [...publicShapes(CONFIG)].map(([name, shape]) => [
    name,
    name.includes('norm') ? values(shape, 0.2, 1) : values(shape, 0.05),
  ]),
)

const layers = Array.from({ length: L }, (_, layer) => layer)
const routerRows = (): Float32Array[] => layers.map(() => values([C], 0.05).data)
const whole: Expert<Param> = {
  ffn: new Map(
    layers.flatMap((layer) =>
      FFN_PROJECTIONS.map((name) => [`${layer}.${name}`, values(projectionShape(CONFIG, name), 0.05)]),
    ),
  ),
  routerRows: routerRows(),
  bias: new Float32Array(L).fill(-0.2),
}
const lowRank: Expert<Param> = {
  ffn: new Map(
    layers.flatMap((layer) =>
      FFN_PROJECTIONS.flatMap((name) =>
        FACTORS.map((factor) => [
          `${layer}.${name}.${factor}`,
          values(factorShape(CONFIG, name, factor, RANK), 0.05),
        ]),
      ),
    ),
  ),
  routerRows: routerRows(),
  bias: undefined,
}

const statistics = Array.from({ length: INIT.E }, () => {
  const { data } = values([V], 0.5, 0.5)
  const total = data.reduce((a, b) => a + b, 0)
  return { tokens: data.map((x) => x / total) }
})
const routings: Record<string, SequenceRouting> = {
  'public model': { mask: Float32Array.of(0, LEFT_OUT, LEFT_OUT) },
  'router rows': { mask: new Float32Array(INIT.E) },
  gate: { mask: new Float32Array(INIT.E), gate: solveGate(statistics) },
}

const engine = onnxEngine()
const mixture = mixtureWeights(CONFIG, publicModel, zeroRows(CONFIG), [whole, lowRank])
const tokens = Int32Array.from({ length: T }, () => Math.floor(V * random()))
const evaluator = createEvaluator(engine, CONFIG, mixture, INIT)
const [scores = []] = await evaluator.evaluateAll([
  { documents: [{ tokens, bytes: T }], routings: Object.values(routings) },
])
await evaluator.dispose()
for (const [i, [name, routing]] of Object.entries(routings).entries()) {
  const whole = await wholeGraphScores(engine, CONFIG, mixture, INIT, tokens, routing)
  const bits = scores[i]?.bitsPerByte as number
  const expected = whole.nats / Math.LN2 / T
  const error = Math.abs(bits / expected - 1)
  console.log(
    `${name}: ${bits} by layers, ${expected} as a whole, relative difference ${error.toExponential(1)}`,
  )
  if (!(error <= TOLERANCE)) process.exitCode = 1
}
