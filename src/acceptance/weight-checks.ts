/**
 * Checks of an expert's fetched weights. Each throws an error whose code becomes the refusal. Those of finite values and
 * norms share one pass over the file. They know nothing about manifests.
 */
import { shortDigest } from '../lib/bytes.ts'
import { PolicyError, VerificationError } from '../lib/errors.ts'
import { layerName, routerName, STATISTICS_TOKENS } from '../lib/tensor-names.ts'
import { requireWeight, valuePieces, type Weight, type WeightMap, wholeValues } from '../model/weights.ts'
import type { AcceptancePolicy } from './policy.ts'
import type { Norms, WeightScan } from './weight-scan.ts'
import { isNearlySame } from './weight-sketch.ts'
import type { ForbiddenWeights } from './withdrawn-weights.ts'

/** Maximum distance of the sum of all shares from 1, for rounding to float32. */
const SHARE_SLACK = 1e-3

/** @throws PolicyError `not-finite`, naming tensor and index. */
export async function checkFinite(scan: WeightScan, signal?: AbortSignal): Promise<void> {
  await scan.norms(signal)
}

/** @throws PolicyError `norm-bound` for FFN weights that are too large or differ too much from the public ones. */
export async function checkNorms(
  scan: WeightScan,
  policy: AcceptancePolicy,
  signal?: AbortSignal,
): Promise<void> {
  const { tensors, publicModel } = scan
  const norms = await scan.norms(signal)
  for (const [name, tensor] of tensors) {
    if (!name.includes('.experts.1.') || name.endsWith('.lora_B.weight')) continue
    const isFactor = name.endsWith('.lora_A.weight')
    const weight = isFactor ? name.replace('.lora_A.', '.') : name
    const anchor = publicModel.get(weight.replace('.experts.1.', '.'))
    if (anchor === undefined) throw new PolicyError('tensor-name', `${name} has no public counterpart`)
    const { rms, distance, term } = isFactor
      ? await factorNorms(
          tensor,
          requireWeight(tensors, name.replace('.lora_A.', '.lora_B.')),
          anchor,
          signal,
        )
      : { ...(norms.get(name) as Norms), term: 0 }
    if (!(rms <= policy.maxTensorRmsRatio) || !(distance <= policy.maxDeltaRatio)) {
      throw new PolicyError(
        'norm-bound',
        `${weight}: ${rms.toFixed(2)} times the public tensor's norm, at most ${policy.maxTensorRmsRatio} is allowed; ${distance.toFixed(2)} away from it, at most ${policy.maxDeltaRatio}; its owner can train it again with fewer --steps`,
      )
    }
    // Large terms that cancel give a small sum, which consists of rounding errors.
    if (!(term <= policy.maxDeltaRatio)) {
      throw new PolicyError(
        'norm-bound',
        `${weight}: one term of its difference has ${term.toFixed(2)} times the public tensor's norm`,
      )
    }
  }
}

/**
 * The norms of the low-rank weight W + B A, A [r, in] and B [out, r], without computing the product: |B A|^2 is the sum
 * of the elementwise products of B' B and A A', and `rms` is the upper bound |W| + |B A| of |W + B A|. `term` is the
 * maximum norm of the r terms of B A, each the product of a column of B and a row of A.
 */
async function factorNorms(
  A: Weight,
  B: Weight,
  anchor: Weight,
  signal?: AbortSignal,
): Promise<Norms & { readonly term: number }> {
  const [rank, width] = A.shape as [number, number]
  const out = B.shape[0] as number
  const base = await squaredNorm(anchor, signal)
  const a = await wholeValues(A, signal)
  // Columns of B become rows, so that both products read memory in order.
  const b = transposed(await wholeValues(B, signal), out, rank)
  let delta = 0
  let term = 0
  for (let k = 0; k < rank; k++) {
    signal?.throwIfAborted()
    for (let l = k; l < rank; l++) {
      const product = rowProduct(a, k, l, width) * rowProduct(b, k, l, out)
      delta += (k === l ? 1 : 2) * product
      if (k === l) term = Math.max(term, product)
    }
  }
  // Rounding may make a sum of terms that cancel negative. NaN stays NaN, which is refused.
  const distance = Math.sqrt(delta < 0 ? 0 : delta / base)
  return { rms: 1 + distance, distance, term: Math.sqrt(term / base) }
}

/** The transpose of a matrix [rows, columns]. */
function transposed(matrix: Float32Array, rows: number, columns: number): Float32Array {
  const out = new Float32Array(matrix.length)
  for (let i = 0; i < rows; i++) {
    for (let j = 0; j < columns; j++) out[j * rows + i] = matrix[i * columns + j] as number
  }
  return out
}

/** Product of rows k and l of a matrix of rows [width]. */
function rowProduct(matrix: Float32Array, k: number, l: number, width: number): number {
  let sum = 0
  for (let i = 0, x = k * width, y = l * width; i < width; i++) {
    sum += (matrix[x + i] as number) * (matrix[y + i] as number)
  }
  return sum
}

/** @throws VerificationError `withdrawn` for an FFN that is nearly that of a withdrawn package. */
export async function checkNotWithdrawn(
  scan: WeightScan,
  forbidden: readonly ForbiddenWeights[],
  signal?: AbortSignal,
): Promise<void> {
  if (forbidden.length === 0) return
  const sketch = await scan.sketch(signal)
  const same = forbidden.find((withdrawn) => isNearlySame(withdrawn.sketch, sketch))
  if (same === undefined) return
  throw new VerificationError(
    'withdrawn',
    `its weights are nearly those of ${shortDigest(same.id)}, which was withdrawn`,
  )
}

/**
 * Bounds router rows relative to the public model, since a row is as large as the residual stream that it reads is
 * small.
 * @throws PolicyError `router-norm` for a router row whose norm is too large.
 */
export async function checkRouterRows(
  { tensors, publicModel }: Pick<WeightScan, 'tensors' | 'publicModel'>,
  policy: AcceptancePolicy,
  signal?: AbortSignal,
): Promise<void> {
  for (const [layer, rms] of (await residualRmsOnce(publicModel, signal)).entries()) {
    const name = routerName(layer)
    const row = tensors.get(name)
    if (row === undefined) continue
    const norm = Math.sqrt(await squaredNorm(row, signal))
    const most = policy.maxRouterLogit / rms
    if (norm <= most) continue
    throw new PolicyError(
      'router-norm',
      `${name}: norm ${norm.toFixed(2)}, at most ${most.toFixed(2)} is allowed beside this public model; its owner can train it again with fewer --steps`,
    )
  }
}

/** Results of `residualRms`, which reads the whole token embedding, by public model. */
const KNOWN_RMS = new WeakMap<WeightMap, readonly number[]>()

async function residualRmsOnce(publicModel: WeightMap, signal?: AbortSignal): Promise<readonly number[]> {
  const rms = KNOWN_RMS.get(publicModel) ?? (await residualRms(publicModel, signal))
  KNOWN_RMS.set(publicModel, rms)
  return rms
}

/**
 * Root mean square of the elements of the residual stream that the router of each layer reads. The stream is the token
 * embedding plus the normalised output of every block before, whose norm is that of the norm's weights (OLMo-2 norms
 * outputs); the terms are taken as uncorrelated.
 */
async function residualRms(publicModel: WeightMap, signal?: AbortSignal): Promise<number[]> {
  const embedding = requireWeight(publicModel, 'model.embed_tokens.weight')
  const [V, C] = embedding.shape as [number, number]
  let squared = (await squaredNorm(embedding, signal)) / V
  const rms: number[] = []
  for (let layer = 0; ; layer++) {
    const attention = publicModel.get(layerName(layer, 'post_attention_layernorm.weight'))
    const feedForward = publicModel.get(layerName(layer, 'post_feedforward_layernorm.weight'))
    if (attention === undefined || feedForward === undefined) return rms
    squared += await squaredNorm(attention, signal)
    rms.push(Math.sqrt(squared / C))
    squared += await squaredNorm(feedForward, signal)
  }
}

async function squaredNorm(weight: Weight, signal?: AbortSignal): Promise<number> {
  let total = 0
  for await (const piece of valuePieces(weight, signal)) {
    for (let i = 0; i < piece.length; i++) total += (piece[i] as number) * (piece[i] as number)
  }
  return total
}

/** @throws PolicyError `statistics-shares` for router statistics that are negative or do not sum to 1. */
export async function checkStatistics(tensors: WeightMap, signal?: AbortSignal): Promise<void> {
  const weight = tensors.get(STATISTICS_TOKENS)
  if (weight === undefined) return
  checkShares(await wholeValues(weight, signal))
}

/** @throws PolicyError `statistics-shares` for shares that are negative or do not sum to 1. */
export function checkShares(tokens: Float32Array): void {
  const negative = tokens.findIndex((share) => !(share >= 0))
  if (negative >= 0) {
    throw new PolicyError(
      'statistics-shares',
      `router statistics: the share of token ${negative} is ${tokens[negative]}, expected 0 or more`,
    )
  }
  const total = tokens.reduce((sum, share) => sum + share, 0)
  if (!(Math.abs(total - 1) <= SHARE_SLACK)) {
    throw new PolicyError(
      'statistics-shares',
      `router statistics: the shares of all tokens make ${total.toFixed(4)}, expected 1`,
    )
  }
}
