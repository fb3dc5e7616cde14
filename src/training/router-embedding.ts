/**
 * Computes the initial router rows: the domain embedding of the owner's text minus those of public text and of
 * background, in the hidden states that each layer's router reads, whitened by their second moments (section 3.3.2 of
 * the FlexOlmo paper uses an embedding model that fits only large models). Without whitening, the few large
 * directions of the hidden states hide the difference; a whitened row separates the texts from the first step, so
 * that public text keeps its expert. Background is random tokens. It stands for the domains of other owners, whose
 * text no owner sees; without it a row selects its expert for everything that is not public text. Fixing the public
 * row at zero loses nothing, since softmax depends on differences only. Knows no files.
 */

import { matMul, sum, type Tensor, zeros } from '@tensorflow/tfjs'
import { dot } from '../lib/dot.ts'
import { mulberry32 } from '../lib/random.ts'
import { denseName } from '../lib/tensor-names.ts'
import type { ModelConfig } from '../model/config.ts'
import { forward } from '../model/transformer.ts'
import { loadParams, type WeightMap } from '../model/weights.ts'
import type { Engine } from '../tensor/engine.ts'

/** Scale of the logits: the targets of the regression are half a unit above and below zero. */
const SCALE = 6
/** Ridge as a share of the mean eigenvalue. */
const RIDGE = 0.01
const BACKGROUND_WINDOWS = 64
const BACKGROUND_SEED = 1
const TOLERANCE = 1e-6
/** Maximum steps per unknown: with rounding errors, conjugate gradients may need more than n steps. */
const STEPS_PER_UNKNOWN = 4
const B = 8
const T = 64

/** Token ids per window. */
export const EMBEDDING_WINDOW = T

export interface EmbeddingSource {
  /** Windows of EMBEDDING_WINDOW token ids each. */
  readonly own: readonly Int32Array[]
  readonly public: readonly Int32Array[]
}

/** First moment [C] and second moment [C, C] of a router's inputs. */
interface Moments {
  readonly mean: Float64Array
  readonly second: Float64Array
}

/** Each list has one row [C] per layer. */
export interface RouterEmbedding {
  /** The owner's initial router rows. */
  readonly rows: readonly Float32Array[]
  /** Rows whose product with every token is as close to 1 as a row allows: they express a bias as a row. */
  readonly constantRows: readonly Float32Array[]
}

export async function embedForRouter(
  engine: Engine,
  config: ModelConfig,
  publicModel: WeightMap,
  source: EmbeddingSource,
): Promise<RouterEmbedding> {
  const { hiddenSize: C, numHiddenLayers: L } = config
  const compiled = await engine.compile(
    (tensors) => {
      const weights = (name: string): Tensor => tensors[denseName(name)] ?? (zeros([1, C]) as Tensor)
      const { routerInputs } = forward(config, weights, weights('ids'), { B, T, E: 1, topK: 1, bias: false })
      const out: Record<string, Tensor> = {}
      routerInputs.forEach((u, layer) => {
        out[`mean.${layer}`] = sum(u, 0) // (C)
        out[`second.${layer}`] = matMul(u as never, u as never, true, false) // (C, C)
      })
      return out
    },
    {
      inputs: { ids: { shape: [B, T], dtype: 'int32' } },
      frozen: Object.fromEntries(await loadParams(publicModel)),
    },
  )
  const momentsOf = async (windows: readonly Int32Array[]): Promise<Moments[]> => {
    const moments = Array.from({ length: L }, () => ({
      mean: new Float64Array(C),
      second: new Float64Array(C * C),
    }))
    const batches = Math.max(1, Math.floor(windows.length / B))
    for (let batch = 0; batch < batches; batch++) {
      const ids = new Int32Array(B * T)
      for (let row = 0; row < B; row++) {
        const window = windows[(batch * B + row) % windows.length] as Int32Array
        ids.set(window.subarray(0, T), row * T)
      }
      const sums = await compiled.run({ ids })
      moments.forEach(({ mean, second }, layer) => {
        accumulate(mean, sums[`mean.${layer}`] as Float32Array, 1 / (batches * B * T))
        accumulate(second, sums[`second.${layer}`] as Float32Array, 1 / (batches * B * T))
      })
    }
    return moments
  }
  try {
    const own = await momentsOf(source.own)
    const shared = await momentsOf(source.public)
    const background = await momentsOf(randomWindows(config.vocabSize))
    const layers = own.map((moments, layer) =>
      regress(moments, [shared[layer] as Moments, background[layer] as Moments]),
    )
    return { rows: layers.map(({ row }) => row), constantRows: layers.map(({ constantRow }) => constantRow) }
  } finally {
    await compiled.dispose()
  }
}

function accumulate(target: Float64Array, values: Float32Array | Float64Array, factor: number): void {
  for (let i = 0; i < target.length; i++) target[i] = (target[i] as number) + (values[i] as number) * factor
}

function randomWindows(vocabSize: number): Int32Array[] {
  const random = mulberry32(BACKGROUND_SEED)
  return Array.from({ length: BACKGROUND_WINDOWS }, () =>
    Int32Array.from({ length: T }, () => Math.floor(random() * vocabSize)),
  )
}

/**
 * With S the sum of all second moments: row = SCALE (S + r I)^-1 (mean of own - sum of the other means), and
 * constantRow = (S + r I)^-1 (sum of all means), the ridge regression of the constant 1.
 */
function regress(own: Moments, others: readonly Moments[]): { row: Float32Array; constantRow: Float32Array } {
  const C = own.mean.length
  const difference = own.mean.slice()
  const total = own.mean.slice()
  const second = own.second.slice()
  for (const other of others) {
    accumulate(difference, other.mean, -1)
    accumulate(total, other.mean, 1)
    accumulate(second, other.second, 1)
  }
  let trace = 0
  for (let i = 0; i < C; i++) trace += second[i * C + i] as number
  const ridge = (RIDGE * trace) / C
  for (let i = 0; i < C; i++) second[i * C + i] = (second[i * C + i] as number) + ridge
  return {
    row: Float32Array.from(solve(second, difference), (x) => SCALE * x),
    constantRow: Float32Array.from(solve(second, total)),
  }
}

/** x with A x = b for a symmetric positive definite A [n, n], by conjugate gradients. */
function solve(A: Float64Array, b: Float64Array): Float64Array {
  const n = b.length
  const x = new Float64Array(n)
  const residual = b.slice()
  const direction = b.slice()
  const image = new Float64Array(n)
  let norm = dot(residual, residual)
  const enough = norm * TOLERANCE * TOLERANCE
  for (let step = 0; step < STEPS_PER_UNKNOWN * n && norm > enough; step++) {
    for (let i = 0; i < n; i++) image[i] = dot(A.subarray(i * n, (i + 1) * n), direction)
    const stride = norm / dot(direction, image)
    for (let i = 0; i < n; i++) {
      x[i] = (x[i] as number) + stride * (direction[i] as number)
      residual[i] = (residual[i] as number) - stride * (image[i] as number)
    }
    const next = dot(residual, residual)
    const turn = next / norm
    for (let i = 0; i < n; i++) direction[i] = (residual[i] as number) + turn * (direction[i] as number)
    norm = next
  }
  return x
}
