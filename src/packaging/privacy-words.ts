/** How a manifest's statement about privacy reads. Prints nothing itself. */
import type { PrivacyStatement } from './manifest-privacy.ts'

const MICRO = 1e6

/** @param privacy undefined for a manifest that does not state anything. */
export function privacyWords(privacy: PrivacyStatement | undefined): string {
  if (privacy === undefined) return 'privacy not stated'
  if (privacy.mechanism === 'none') return 'no privacy guarantee'
  return `epsilon ${epsilonWords(privacy.epsilonMicro / MICRO)}, delta ${deltaWords(1 / privacy.deltaInverse)} per ${privacy.unit}, as its publisher states`
}

/** Two digits after the point, without zeros at the end; rounded up, because less would promise too much. */
export function epsilonWords(epsilon: number | null): string {
  return epsilon === null ? 'no bound' : String(Math.ceil(epsilon * 100 - 1e-3) / 100)
}

export function deltaWords(delta: number): string {
  return delta.toExponential(1).replace('.0e', 'e')
}
