/**
 * AdamW with clipping by global norm, which updates the trainable parameters in place (FlexOlmo paper, section 4.4).
 * Its state is two moments per parameter and a step counter. Does not know models or tensor libraries.
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

/** Avoids a division by zero when every gradient is zero, as in torch.nn.utils.clip_grad_norm_. */
const CLIP_EPSILON = 1e-6

export class AdamW {
  readonly #init: AdamWInit
  /** First moments by parameter name. */
  readonly first = new Map<string, Float32Array>()
  /** Second moments by parameter name. */
  readonly second = new Map<string, Float32Array>()
  /** Number of updates so far. */
  step = 0

  constructor(init: AdamWInit, params: Arrays) {
    this.#init = init
    for (const [name, values] of params) {
      this.first.set(name, new Float32Array(values.length))
      this.second.set(name, new Float32Array(values.length))
    }
  }

  /**
   * Update `params` once from `gradients`, which have the same names and lengths.
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
    // Constants are folded, and numerator and denominator are multiplied by sqrt(correct2), so that the loop takes one
    // division and one square root per parameter.
    const root2 = Math.sqrt(correct2)
    const rate = (learningRate / correct1) * root2
    const floor = epsilon * root2
    const gain1 = (1 - beta1) * clip
    const gain2 = (1 - beta2) * clip * clip
    for (const [name, p] of params) {
      const g = gradients.get(name) as Float32Array
      const m = this.first.get(name) as Float32Array
      const v = this.second.get(name) as Float32Array
      for (let i = 0; i < p.length; i++) {
        const gi = g[i] as number
        const mi = beta1 * (m[i] as number) + gain1 * gi
        const vi = beta2 * (v[i] as number) + gain2 * gi * gi
        m[i] = mi
        v[i] = vi
        p[i] = (p[i] as number) * decay - (rate * mi) / (Math.sqrt(vi) + floor)
      }
    }
    return norm
  }
}

export function globalNorm(gradients: Arrays): number {
  let total = 0
  for (const g of gradients.values()) total += sumOfSquares(g)
  return Math.sqrt(total)
}

/** Keeps four partial sums, so that no addition waits for the previous one. */
function sumOfSquares(x: Float32Array): number {
  let [a, b, c, d] = [0, 0, 0, 0]
  const whole = x.length & ~3
  for (let i = 0; i < whole; i += 4) {
    a += (x[i] as number) ** 2
    b += (x[i + 1] as number) ** 2
    c += (x[i + 2] as number) ** 2
    d += (x[i + 3] as number) ** 2
  }
  for (let i = whole; i < x.length; i++) a += (x[i] as number) ** 2
  return a + b + c + d
}
