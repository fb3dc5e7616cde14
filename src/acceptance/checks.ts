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

/** @throws PolicyError `norm-bound` for an FFN tensor that is too large or too far from the public one. */
export function checkNorms(tensors: Tensors, publicModel: Params, policy: AcceptancePolicy): void {
  for (const [name, { data }] of tensors) {
    if (!name.includes('.experts.1.')) continue
    const anchor = publicModel.get(name.replace('.experts.1.', '.'))?.data
    if (anchor === undefined) throw new PolicyError('tensor-name', `${name} has no public counterpart`)
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
    const rms = Math.sqrt(own / base)
    const distance = Math.sqrt(delta / base)
    if (!(rms <= policy.maxTensorRmsRatio) || !(distance <= policy.maxDeltaRatio)) {
      throw new PolicyError(
        'norm-bound',
        `${name}: ${rms.toFixed(2)} times the public tensor's norm, ${distance.toFixed(2)} away from it`,
      )
    }
  }
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
