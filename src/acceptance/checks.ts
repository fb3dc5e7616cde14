/** Checks on an expert's values. Each throws PolicyError with its code. Knows no manifest. */
import { PolicyError } from '../lib/errors.ts'
import type { Params } from '../model/params.ts'
import type { ExpertTensor } from '../packaging/package.ts'
import type { AcceptancePolicy } from './policy.ts'

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
