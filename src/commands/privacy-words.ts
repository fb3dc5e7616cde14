/** How a manifest's statement about privacy reads. Prints nothing itself. */
import type { PrivacyStatement } from '../packaging/manifest-privacy.ts'

const MICRO = 1e6

/** A few words; undefined if the manifest does not state anything. */
export function privacyWords(privacy: PrivacyStatement | undefined): string {
  if (privacy === undefined) return 'privacy not stated'
  if (privacy.mechanism === 'none') return 'no privacy guarantee'
  return `${epsilonWords(privacy.epsilonMicro / MICRO)}, delta ${deltaWords(1 / privacy.deltaInverse)} per ${privacy.unit}, as its publisher states`
}

/** As in `epsilon 2`; rounded up, because a rounded-down epsilon would promise too much. */
export function epsilonWords(epsilon: number): string {
  return Number.isFinite(epsilon) ? `epsilon ${roundedUp(epsilon)}` : 'no bound'
}

export function deltaWords(delta: number): string {
  return delta.toExponential(1).replace('.0e', 'e')
}

/** Two digits after the point, without zeros at the end. */
export function roundedUp(value: number): string {
  return String(Math.ceil(value * 100 - 1e-3) / 100)
}
