/** Checks on an expert's values. Each throws PolicyError with its code. Knows no manifest. */
import { cholesky } from '../lib/cholesky.ts'
import { PolicyError } from '../lib/errors.ts'
import type { Params } from '../model/params.ts'
import type { ExpertTensor } from '../packaging/package.ts'
import { STATISTICS_MEAN, STATISTICS_SECOND } from '../packaging/tensor-names.ts'
import type { AcceptancePolicy } from './policy.ts'

/** Features have a norm of at most 1; what rounding may add. */
const NORM_SLACK = 1e-4
/** Added to a diagonal before factorising, as a share of the trace: sixteen times what rounding to float32 moves. */
const ROUNDING_RIDGE = 1e-6

type Tensors = ReadonlyMap<string, ExpertTensor>

/** @throws PolicyError `not-finite`, naming tensor and index. */
export function checkFinite(tensors: Tensors): void {
  for (const [name, { data }] of tensors) {
    for (let i = 0; i < data.length; i++) {
      if (!Number.isFinite(data[i])) throw new PolicyError('not-finite', `${name}[${i}] is ${data[i]}`)
    }
  }
}

/** @throws PolicyError `norm-bound` for FFN weights that are too large or too far from the public ones. */
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
        `${weight}: ${rms.toFixed(2)} times the public tensor's norm, ${distance.toFixed(2)} away from it`,
      )
    }
    // Terms that cancel give a small sum that rounding decides.
    if (!(term <= policy.maxDeltaRatio)) {
      throw new PolicyError(
        'norm-bound',
        `${weight}: one term of its difference has ${term.toFixed(2)} times the public tensor's norm`,
      )
    }
  }
}

/** Norms as multiples of the public tensor's: of the weight, and of its difference from the public one. */
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
 * The same for W + B A, A [r, in] and B [out, r], without making it: |B A|^2 is the sum over the products of B' B and
 * A A', and |W + B A| at most |W| + |B A|. `term` is the largest norm of one of the r terms.
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
  // Rounding may leave a sum of terms that cancel below zero, but not what is not a number.
  const distance = Math.sqrt(delta < 0 ? 0 : delta / base)
  return { rms: 1 + distance, distance, term: Math.sqrt(term / base) }
}

/** @throws PolicyError `router-norm` for a row too long or a positive bias. */
export function checkRouterRows(tensors: Tensors, policy: AcceptancePolicy): void {
  for (const [name, { data }] of tensors) {
    if (name.endsWith('mlp.gate.weight')) {
      const norm = Math.sqrt(data.reduce((total, x) => total + x * x, 0))
      if (!(norm <= policy.maxRouterRowNorm)) {
        throw new PolicyError(
          'router-norm',
          `${name}: norm ${norm.toFixed(2)}, at most ${policy.maxRouterRowNorm} is allowed`,
        )
      }
    }
  }
}

/**
 * Router statistics can be those of features: mean outer product of vectors no longer than 1, and their mean.
 * An outer product is symmetric by its packing; a covariance that is positive semi-definite makes `second` so.
 * @throws PolicyError `statistics-norm`, `statistics-covariance`.
 */
export function checkStatistics(tensors: Tensors): void {
  const second = tensors.get(STATISTICS_SECOND)?.data
  const mean = tensors.get(STATISTICS_MEAN)?.data
  if (second === undefined || mean === undefined) return
  const C = mean.length
  const norm = Math.sqrt(mean.reduce((total, x) => total + x * x, 0))
  let trace = 0
  for (let i = 0, at = 0; i < C; at += C - i, i++) trace += second[at] as number
  if (!(trace > 0 && trace <= 1 + NORM_SLACK) || !(norm <= 1 + NORM_SLACK)) {
    throw new PolicyError(
      'statistics-norm',
      `router statistics: trace ${trace.toFixed(3)}, norm of the mean ${norm.toFixed(3)}; features of norm 1 or less give 0 to 1`,
    )
  }
  const covariance = new Float64Array(C * C)
  let at = 0
  for (let i = 0; i < C; i++) {
    for (let j = i; j < C; j++) {
      covariance[j * C + i] = (second[at++] as number) - (mean[i] as number) * (mean[j] as number)
    }
    covariance[i * C + i] = (covariance[i * C + i] as number) + ROUNDING_RIDGE * trace
  }
  if (cholesky(covariance, C) === undefined) {
    throw new PolicyError(
      'statistics-covariance',
      'router statistics: no features have this mean and this mean outer product, as their covariance is not positive semi-definite',
    )
  }
}
