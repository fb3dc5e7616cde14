/**
 * AdamW with global-norm clipping, in place over the trainable parameters (flexolmo 2.2). State is
 * three numbers a parameter and a step counter. Knows no model and no tensor library.
 */
export interface AdamWInit {
  readonly beta1: number
  readonly beta2: number
  readonly epsilon: number
  readonly weightDecay: number
  readonly maxGradNorm: number
}

export const ADAMW_DEFAULTS: AdamWInit = {
  beta1: 0.9,
  beta2: 0.95,
  epsilon: 1e-8,
  weightDecay: 0,
  maxGradNorm: 1,
}

export type Arrays = ReadonlyMap<string, Float32Array>

/** Guards the division when every gradient is zero; as torch.nn.utils.clip_grad_norm_. */
const CLIP_EPSILON = 1e-6

export class AdamW {
  readonly #init: AdamWInit
  readonly first = new Map<string, Float32Array>()
  readonly second = new Map<string, Float32Array>()
  step = 0

  constructor(init: AdamWInit, params: Arrays) {
    this.#init = init
    for (const [name, values] of params) {
      this.first.set(name, new Float32Array(values.length))
      this.second.set(name, new Float32Array(values.length))
    }
  }

  /**
   * One update of `params` from `gradients` (same names and lengths).
   * @returns the gradient norm before clipping.
   */
  update(params: Arrays, gradients: Arrays, learningRate: number): number {
    const { beta1, beta2, epsilon, weightDecay, maxGradNorm } = this.#init
    const norm = globalNorm(gradients)
    const clip = Math.min(1, maxGradNorm / (norm + CLIP_EPSILON))
    this.step++
    const correct1 = 1 - beta1 ** this.step
    const correct2 = 1 - beta2 ** this.step
    const decay = 1 - learningRate * weightDecay
    for (const [name, p] of params) {
      const g = gradients.get(name) as Float32Array
      const m = this.first.get(name) as Float32Array
      const v = this.second.get(name) as Float32Array
      const rate = learningRate / correct1
      for (let i = 0; i < p.length; i++) {
        const gi = (g[i] as number) * clip
        const mi = beta1 * (m[i] as number) + (1 - beta1) * gi
        const vi = beta2 * (v[i] as number) + (1 - beta2) * gi * gi
        m[i] = mi
        v[i] = vi
        p[i] = (p[i] as number) * decay - (rate * mi) / (Math.sqrt(vi / correct2) + epsilon)
      }
    }
    return norm
  }
}

export function globalNorm(gradients: Arrays): number {
  let total = 0
  for (const g of gradients.values()) {
    let part = 0
    for (let i = 0; i < g.length; i++) part += (g[i] as number) * (g[i] as number)
    total += part
  }
  return Math.sqrt(total)
}
