/**
 * Truncated Poisson sampling (Chua et al. 2024, arXiv 2411.04205): every unit takes part in a step independently with
 * the same probability, and of more than `capacity` units a random part is left out. Knows nothing about texts.
 */
import type { Uniform } from './random.ts'

/**
 * Indexes, from 0 to `units` - 1, of the units of one step; it may be empty.
 * @param uniform for tests only: the guarantee needs samples that nobody can predict.
 */
export function poissonSample(
  { units, sampleRate, capacity }: { units: number; sampleRate: number; capacity: number },
  uniform: Uniform,
): number[] {
  const chosen: number[] = []
  for (let unit = 0; unit < units; unit++) if (uniform() <= sampleRate) chosen.push(unit)
  while (chosen.length > capacity) {
    const index = Math.min(chosen.length - 1, Math.floor(uniform() * chosen.length))
    chosen[index] = chosen.at(-1) as number
    chosen.pop()
  }
  return chosen
}

/**
 * Delta that truncation adds to that of `steps` runs on Poisson samples. Let p be the probability that a sample exceeds
 * the capacity. A run with and one without truncation differ only if a sample exceeds it, so their results differ by at
 * most steps p in total variation, for each of the two neighbouring texts. If untruncated runs are (epsilon, delta)-DP,
 * then truncated ones are (epsilon, delta + (1 + e^epsilon) steps p)-DP. p is bounded by Chernoff's inequality for the
 * binomial distribution of `units` + 1 units, since a neighbouring text may have one more:
 * p <= exp(-n KL(a || rate)) with a = (capacity + 1) / n.
 */
export function truncationDelta({
  units,
  sampleRate,
  capacity,
  steps,
  epsilon,
}: {
  units: number
  sampleRate: number
  capacity: number
  steps: number
  epsilon: number
}): number {
  const n = units + 1
  if (capacity >= n) return 0
  const a = (capacity + 1) / n
  if (a <= sampleRate) return 1
  const rest = a === 1 ? 0 : (1 - a) * Math.log((1 - a) / (1 - sampleRate))
  const divergence = a * Math.log(a / sampleRate) + rest
  return Math.min(1, (1 + Math.exp(epsilon)) * steps * Math.exp(-n * divergence))
}
