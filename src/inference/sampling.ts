/**
 * Chooses the next token from logits: greedily, or by seeded sampling with temperature and nucleus (top-p). Does not
 * know tokens beyond their ids.
 */
import { mulberry32 } from '../lib/random.ts'

export interface Sampling {
  /** 0 chooses the most likely token. */
  readonly temperature: number
  /** In (0, 1]: samples from the smallest set of most likely tokens with at least this probability. */
  readonly topP: number
  readonly seed: number
}

/** @returns a function from logits [V] to a token id; it advances the seeded generator. */
export function chooseToken(sampling: Sampling): (logits: Float32Array) => number {
  const random = mulberry32(sampling.seed)
  return (logits) => (sampling.temperature === 0 ? argMax(logits) : nucleus(logits, sampling, random))
}

function argMax(logits: Float32Array): number {
  let best = 0
  for (let i = 1; i < logits.length; i++) if ((logits[i] as number) > (logits[best] as number)) best = i
  return best
}

function nucleus(logits: Float32Array, { temperature, topP }: Sampling, random: () => number): number {
  const peak = logits[argMax(logits)] as number
  const weights = Float64Array.from(logits, (z) => Math.exp((z - peak) / temperature))
  const order = Array.from(weights.keys()).sort((a, b) => (weights[b] as number) - (weights[a] as number))
  const total = weights.reduce((a, b) => a + b, 0)
  let kept = 0
  let mass = 0
  while (kept < order.length && mass < topP * total) mass += weights[order[kept++] as number] as number
  let target = random() * mass
  for (let i = 0; i < kept; i++) {
    target -= weights[order[i] as number] as number
    if (target < 0) return order[i] as number
  }
  return order[Math.max(0, kept - 1)] as number
}
