/**
 * `RouterStatistics` of a text: what model/solved-router calls features, of whole sequences on an engine, and
 * their first and second moments. Knows neither whose text it is nor what is published of it.
 *
 * A document here is a stretch of at most STATISTICS_WINDOW tokens. Each counts the same: features are averaged
 * over a document's tokens first, then over documents. A feature is a weighted mean of unit vectors, so its norm
 * is at most 1 and so are those of a document's mean and of its mean outer product (Frobenius). Exchanging one
 * of n documents therefore moves `mean` by at most 2/n (L2) and `second` by at most 2/n (Frobenius).
 */
import {
  add,
  div,
  matMul,
  maximum,
  mul,
  reshape,
  scalar,
  softmax,
  sqrt,
  square,
  sum,
  type Tensor,
  tensor,
} from '@tensorflow/tfjs'
import type { ModelConfig } from '../model/config.ts'
import { linear, type Weights } from '../model/layers.ts'
import { layerName, type Params } from '../model/params.ts'
import { decayWeights, type Gate, type RouterStatistics } from '../model/solved-router.ts'
import { firstRouterInput } from '../model/transformer.ts'
import type { Compiled, Engine } from '../tensor/engine.ts'

/** Tokens of a document at most. */
export const STATISTICS_WINDOW = 128
/** Documents that statistics average over at most: their mean is then known to a 23rd of their spread. */
export const STATISTICS_DOCUMENTS = 512

const B = 8
const T = STATISTICS_WINDOW
/** Below this a row has no direction; keeps its feature finite. */
const LEAST_NORM = 1e-20

/**
 * Features (N, C) of router inputs u (N, C), N = B * T: the decayed mean of whole sequences, as one product with
 * the weights that each token has in the mean of a later one.
 */
function decayedMeans(u: Tensor, b: number, t: number): Tensor {
  const C = u.shape[1] as number
  const unit = div(u, maximum(sqrt(sum(square(u), 1, true)), scalar(LEAST_NORM)))
  const means = matMul(tensor(decayWeights(t), [1, t, t]), reshape(unit, [b, t, C]) as never) // (B, T, C)
  return reshape(means, [b * t, C])
}

/** Inputs: ids (B, T), and `share` (N), what each token counts for. */
function compileOnFeatures(
  engine: Engine,
  config: ModelConfig,
  publicModel: Params,
  results: (features: Tensor, share: Tensor) => Record<string, Tensor>,
): Promise<Compiled> {
  const first = layerName(0, '')
  const isNeeded = (name: string): boolean =>
    name === 'model.embed_tokens.weight' || (name.startsWith(first) && !name.includes('.mlp.'))
  return engine.compile(
    (tensors) => {
      const weights: Weights = (name) => tensors[name] as Tensor
      const u = firstRouterInput(config, weights, weights('ids'), { B, T })
      return results(decayedMeans(u, B, T), reshape(weights('share'), [B * T, 1]))
    },
    {
      inputs: { ids: { shape: [B, T], dtype: 'int32' }, share: { shape: [B * T] } },
      frozen: Object.fromEntries([...publicModel].filter(([name]) => isNeeded(name))),
    },
  )
}

/** Run over all documents, each with a share of 1 in all; adds up the results in double precision. */
async function sumOver(
  compiled: Compiled,
  documents: readonly Int32Array[],
  sums: Readonly<Record<string, Float64Array>>,
  signal?: AbortSignal,
): Promise<void> {
  const ids = new Int32Array(B * T)
  const share = new Float32Array(B * T)
  for (let at = 0; at < documents.length; at += B) {
    signal?.throwIfAborted()
    ids.fill(0)
    share.fill(0)
    documents.slice(at, at + B).forEach((document, row) => {
      const tokens = document.subarray(0, T)
      ids.set(tokens, row * T)
      share.fill(1 / tokens.length, row * T, row * T + tokens.length)
    })
    const out = await compiled.run({ ids, share })
    for (const [name, total] of Object.entries(sums)) {
      const values = out[name] as Float32Array
      for (let i = 0; i < total.length; i++) total[i] = (total[i] as number) + (values[i] as number)
    }
  }
}

/**
 * Moments of the features of documents, of at least one token each; only the first STATISTICS_WINDOW count.
 * @throws RangeError without documents.
 */
export async function routerStatistics(
  engine: Engine,
  config: ModelConfig,
  publicModel: Params,
  documents: readonly Int32Array[],
  signal?: AbortSignal,
): Promise<RouterStatistics> {
  const n = documents.length
  if (n === 0) throw new RangeError('router statistics: expected at least one document')
  const { hiddenSize: C } = config
  const compiled = await compileOnFeatures(engine, config, publicModel, (features, share) => {
    const counted = mul(features, share)
    return { mean: sum(counted, 0), second: matMul(counted as never, features as never, true) }
  })
  try {
    const sums = { mean: new Float64Array(C), second: new Float64Array(C * C) }
    await sumOver(compiled, documents, sums, signal)
    const second = new Float32Array((C * (C + 1)) / 2)
    let at = 0
    for (let i = 0; i < C; i++) {
      for (let j = i; j < C; j++) second[at++] = (sums.second[i * C + j] as number) / n
    }
    return { second, mean: Float32Array.from(sums.mean, (total) => total / n) }
  } finally {
    await compiled.dispose()
  }
}

/**
 * Mean probability of each expert of a gate, over the tokens of a document first, then over documents.
 * @throws RangeError without documents.
 */
export async function gateShares(
  engine: Engine,
  config: ModelConfig,
  publicModel: Params,
  { weights, offsets }: Gate,
  documents: readonly Int32Array[],
  signal?: AbortSignal,
): Promise<Float64Array> {
  const n = documents.length
  if (n === 0) throw new RangeError('gate shares: expected at least one document')
  const E = offsets.length
  const compiled = await compileOnFeatures(engine, config, publicModel, (features, share) => {
    const logits = add(linear(features, tensor(weights, [E, config.hiddenSize])), tensor(offsets, [1, E]))
    return { shares: sum(mul(softmax(logits), share), 0) }
  })
  try {
    const sums = { shares: new Float64Array(E) }
    await sumOver(compiled, documents, sums, signal)
    return sums.shares.map((total) => total / n)
  } finally {
    await compiled.dispose()
  }
}
