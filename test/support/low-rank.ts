/** Experts of full and of low rank beside the golden public model. */
import { mulberry32 } from '../../src/lib/random.ts'
import { lowRankOf } from '../../src/model/low-rank.ts'
import { materialised } from '../../src/model/merged-weight.ts'
import { type Expert, mixtureWeights, zeroRows } from '../../src/model/params.ts'
import { loadParams, type Param } from '../../src/model/weights.ts'
import { onnx as engine } from './engines.ts'
import { goldenConfig, goldenPublic } from './golden.ts'

const { hiddenSize: C, numHiddenLayers: L } = goldenConfig
export const publicModel = goldenPublic()

/** Largest absolute difference between two lists. */
export const maxDifference = (a: ArrayLike<number>, b: ArrayLike<number>): number =>
  Array.from(a).reduce((max, x, i) => Math.max(max, Math.abs(x - (b[i] as number))), 0)

/** An expert of full rank whose FFN is the public one plus random numbers. */
export function fullExpert(seed: number): Expert<Param> {
  const random = mulberry32(seed)
  const ffn = new Map<string, Param>()
  for (let layer = 0; layer < L; layer++) {
    for (const projection of ['gate_proj', 'up_proj', 'down_proj']) {
      const source = publicModel.get(`model.layers.${layer}.mlp.${projection}.weight`) as Param
      const data = source.data.map((x) => x + 0.2 * (random() - 0.5))
      ffn.set(`${layer}.${projection}`, { shape: source.shape, data })
    }
  }
  return {
    ffn,
    routerRows: Array.from({ length: L }, () => Float32Array.from({ length: C }, () => random() - 0.5)),
    bias: undefined,
  }
}

/** Number of experts of the mixtures below. */
export const E = 4
/** Experts of rank 4, of full rank, and of rank 3. */
export const guests = [
  (await lowRankOf(engine, fullExpert(5), publicModel, 4)).expert,
  fullExpert(6),
  (await lowRankOf(engine, fullExpert(7), publicModel, 3)).expert,
]
const mixtureOf = (experts: readonly Expert<Param>[]) =>
  mixtureWeights(goldenConfig, publicModel, zeroRows(goldenConfig), experts)
/** A mixture with low-rank experts as factors. */
export const factored = mixtureOf(guests)
/** The same mixture with their merged weights. */
export const merged = await loadParams(
  mixtureWeights(
    goldenConfig,
    publicModel,
    zeroRows(goldenConfig),
    guests.map((expert): Expert => materialised(expert, publicModel)),
  ),
)
export const text = Int32Array.from({ length: 40 }, (_, i) => (7 * i + 3) % goldenConfig.vocabSize)
