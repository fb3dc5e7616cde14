/**
 * Checks of an expert's fetched weights. Each throws an error whose code becomes the refusal. They know nothing about
 * manifests.
 */
import type { ExpertTensor } from '../checkpoint/safetensors.ts'
import { PolicyError } from '../lib/errors.ts'
import { layerName, routerName, STATISTICS_TOKENS } from '../lib/tensor-names.ts'
import { type Params, requireParam } from '../model/params.ts'
import type { AcceptancePolicy } from './policy.ts'

/** Maximum distance of the sum of all shares from 1, for rounding to float32. */
const SHARE_SLACK = 1e-3

type Tensors = ReadonlyMap<string, ExpertTensor>

/** @throws PolicyError `not-finite`, naming tensor and index. */
export function checkFinite(tensors: Tensors): void {
  for (const [name, { data }] of tensors) {
    for (let i = 0; i < data.length; i++) {
      if (!Number.isFinite(data[i])) throw new PolicyError('not-finite', `${name}[${i}] is ${data[i]}`)
    }
  }
}

/** @throws PolicyError `norm-bound` for FFN weights that are too large or differ too much from the public ones. */
export function checkNorms(tensors: Tensors, publicModel: Params, policy: AcceptancePolicy): void {
  for (const [name, tensor] of tensors) {
    if (!name.includes('.experts.1.') || name.endsWith('.lora_B.weight')) continue
    const isFactor = name.endsWith('.lora_A.weight')
    const weight = isFactor ? name.replace('.lora_A.', '.') : name
    const anchor = publicModel.get(weight.replace('.experts.1.', '.'))?.data
    if (anchor === undefined) throw new PolicyError('tensor-name', `${name} has no public counterpart`)
    const other = tensors.get(name.replace('.lora_A.', '.lora_B.')) as ExpertTensor
    const { rms, distance, term } = isFactor
      ? factorNorms(tensor, other, anchor)
      : { ...wholeNorms(tensor.data, anchor), term: 0 }
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
 * Norms of a full-rank weight (`rms`) and of its difference from the public weight (`distance`), as multiples of the
 * public weight's norm.
 */
function wholeNorms(data: Float32Array, anchor: Float32Array): { rms: number; distance: number } {
  let own = 0
  let base = 0
  let delta = 0
  for (let i = 0; i < data.length; i++) {
    const x = data[i] as number
    const a = anchor[i] as number
    own += x * x
    base += a * a
    delta += (x - a) * (x - a)
  }
  return { rms: Math.sqrt(own / base), distance: Math.sqrt(delta / base) }
}

/**
 * The norms of `wholeNorms` for the low-rank weight W + B A, A [r, in] and B [out, r], without computing the product:
 * |B A|^2 is the sum of the elementwise products of B' B and A A', and `rms` is the upper bound |W| + |B A| of
 * |W + B A|. `term` is the maximum norm of the r terms of B A, each the product of a column of B and a row of A.
 */
function factorNorms(
  A: ExpertTensor,
  B: ExpertTensor,
  anchor: Float32Array,
): { rms: number; distance: number; term: number } {
  const [rank, width] = A.shape as [number, number]
  const out = B.shape[0] as number
  let base = 0
  for (const a of anchor) base += a * a
  let delta = 0
  let term = 0
  for (let k = 0; k < rank; k++) {
    for (let l = k; l < rank; l++) {
      let rows = 0
      for (let i = 0; i < width; i++) {
        rows += (A.data[k * width + i] as number) * (A.data[l * width + i] as number)
      }
      let columns = 0
      for (let o = 0; o < out; o++)
        columns += (B.data[o * rank + k] as number) * (B.data[o * rank + l] as number)
      delta += (k === l ? 1 : 2) * rows * columns
      if (k === l) term = Math.max(term, rows * columns)
    }
  }
  // Rounding may make a sum of terms that cancel negative. NaN stays NaN, which is refused.
  const distance = Math.sqrt(delta < 0 ? 0 : delta / base)
  return { rms: 1 + distance, distance, term: Math.sqrt(term / base) }
}

/**
 * Bounds router rows relative to the public model, since a row is as large as the residual stream that it reads is
 * small.
 * @throws PolicyError `router-norm` for a router row whose norm is too large.
 */
export function checkRouterRows(tensors: Tensors, publicModel: Params, policy: AcceptancePolicy): void {
  for (const [layer, rms] of residualRms(publicModel).entries()) {
    const name = routerName(layer)
    const data = tensors.get(name)?.data
    if (data === undefined) continue
    const norm = Math.sqrt(squaredNorm(data))
    const most = policy.maxRouterLogit / rms
    if (norm <= most) continue
    throw new PolicyError(
      'router-norm',
      `${name}: norm ${norm.toFixed(2)}, at most ${most.toFixed(2)} is allowed beside this public model; its owner can train it again with fewer --steps`,
    )
  }
}

/**
 * Root mean square of the elements of the residual stream that the router of each layer reads. The stream is the token
 * embedding plus the normalised output of every block before, whose norm is that of the norm's weights (OLMo-2 norms
 * outputs); the terms are taken as uncorrelated.
 */
function residualRms(publicModel: Params): number[] {
  const embedding = requireParam(publicModel, 'model.embed_tokens.weight')
  const [V, C] = embedding.shape as [number, number]
  let squared = squaredNorm(embedding.data) / V
  const rms: number[] = []
  const normOf = (layer: number, name: string): Float32Array | undefined =>
    publicModel.get(layerName(layer, `${name}.weight`))?.data
  for (let layer = 0; ; layer++) {
    const attention = normOf(layer, 'post_attention_layernorm')
    const feedForward = normOf(layer, 'post_feedforward_layernorm')
    if (attention === undefined || feedForward === undefined) return rms
    squared += squaredNorm(attention)
    rms.push(Math.sqrt(squared / C))
    squared += squaredNorm(feedForward)
  }
}

function squaredNorm(data: Float32Array): number {
  return data.reduce((total, x) => total + x * x, 0)
}

/** @throws PolicyError `statistics-shares` for router statistics that are negative or do not sum to 1. */
export function checkStatistics(tensors: Tensors): void {
  const tokens = tensors.get(STATISTICS_TOKENS)?.data
  if (tokens === undefined) return
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
