/**
 * Reports packages of this node whose consent ends soon: once when at most 30 days are left, and once when at most 7
 * are. Reports again after a restart. Knows nothing about where reports go.
 */
import type { OpenedManifest } from '../acceptance/accept.ts'
import type { Digest } from '../lib/bytes.ts'

const DAY_SECONDS = 86_400
/** Days before the end of the consent, ascending. */
const WARNING_DAYS = [7, 30]

export interface EndingConsent {
  readonly id: Digest
  /** Name of the expert. */
  readonly expert: string
  readonly publisher: string
  /** Unix seconds. */
  readonly expiresAt: number
  /** Whole days, 0 on the last one. */
  readonly daysLeft: number
}

/** Packages in use whose consent ends within 30 days, the first to end first. @param now Unix seconds */
export function endingConsents(packages: readonly OpenedManifest[], now: number): EndingConsent[] {
  return packages
    .map(({ id, manifest: { expert, publisher, expiresAt } }) => ({
      id,
      expert: expert.name,
      publisher,
      expiresAt,
      daysLeft: Math.max(0, Math.floor((expiresAt - now) / DAY_SECONDS)),
    }))
    .filter(({ daysLeft }) => stageOf(daysLeft) !== undefined)
    .sort((a, b) => a.expiresAt - b.expiresAt)
}

export class ConsentWarnings {
  /** Entries are `id days`. */
  readonly #reported = new Set<string>()

  /** Those that have not been reported at this stage yet. */
  due(packages: readonly OpenedManifest[], now: number): EndingConsent[] {
    return endingConsents(packages, now).filter(({ id, daysLeft }) => {
      const entry = `${id} ${stageOf(daysLeft)}`
      if (this.#reported.has(entry)) return false
      this.#reported.add(entry)
      return true
    })
  }
}

function stageOf(daysLeft: number): number | undefined {
  return WARNING_DAYS.find((days) => daysLeft <= days)
}
