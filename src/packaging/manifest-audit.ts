/**
 * Implements protocols/expert-package, section "Audit": what a publisher states about the attacks that it tried on its
 * own expert. Nobody can verify the figures; whoever has the report can verify that it is the one that was meant.
 */
import { readLabel } from '../identity/statement.ts'
import type { Digest } from '../lib/bytes.ts'
import { FormatError } from '../lib/errors.ts'
import type { Fields } from '../lib/fields.ts'
import { MAX_SEED } from '../lib/random.ts'
import type { PrivacyStatement } from './manifest-privacy.ts'

export interface AuditStatement {
  /** Digest of the report, which stays with the owner. */
  readonly report: Digest
  /** Absent if no canaries were hidden in the text. */
  readonly canaries?: CanaryFigures
  /** Both absent for a training with a guarantee, which does not cover figures of private text. */
  readonly extraction?: ExtractionFigures
  readonly membership?: MembershipFigures
  /** Why the owner publishes although the audit stopped it; absent if it did not. */
  readonly acceptedRisk?: string
}

export interface CanaryFigures {
  readonly count: number
  /** From which the public model writes the same canaries again. */
  readonly seed: number
  readonly guesses: number
  readonly right: number
  /** Lower bound on epsilon with 95 % confidence, in millionths. */
  readonly epsilonLowMicro: number
}

/** Numbers of pieces of text, and how many of them can be extracted. */
export interface ExtractionFigures {
  readonly texts: number
  readonly extracted: number
  readonly extractedPublic: number
  readonly heldOutTexts: number
  readonly heldOutExtracted: number
}

/** Numbers of pieces of text, and how many members are recognised while at most 1 % of the others are accused. */
export interface MembershipFigures {
  readonly members: number
  readonly others: number
  readonly byLossRatio: number
  readonly byMinK: number
}

const MAX_CANARIES = 10_000
/** Epsilon 64. */
const MAX_EPSILON_MICRO = 64_000_000
const MAX_REASON = 200

/** @throws FormatError `bad-field`. */
export function readAudit(fields: Fields): AuditStatement {
  const value: AuditStatement = {
    report: fields.digest('report'),
    ...(fields.has('canaries') ? { canaries: readCanaries(fields.object('canaries')) } : {}),
    ...(fields.has('extraction') ? { extraction: readExtraction(fields.object('extraction')) } : {}),
    ...(fields.has('membership') ? { membership: readMembership(fields.object('membership')) } : {}),
    ...(fields.has('acceptedRisk') ? { acceptedRisk: readLabel(fields, 'acceptedRisk', MAX_REASON) } : {}),
  }
  fields.end()
  if ((value.extraction === undefined) !== (value.membership === undefined)) {
    throw new FormatError(
      'bad-field',
      'manifest.audit: expected extraction and membership, or neither of them',
    )
  }
  return value
}

/**
 * Check that a manifest with a guarantee states no figure of the text that an audit found outside of it.
 * @throws FormatError `bad-field`.
 */
export function checkAuditedFacts(
  audit: AuditStatement | undefined,
  privacy: PrivacyStatement | undefined,
): void {
  if (privacy?.mechanism !== 'dp-sgd' || audit?.extraction === undefined) return
  throw new FormatError(
    'bad-field',
    'manifest.audit.extraction: expected nothing with dp-sgd (an exact figure of the text is outside of the guarantee), got an object',
  )
}

function readCanaries(fields: Fields): CanaryFigures {
  const count = fields.uint('count', MAX_CANARIES, 1)
  const guesses = fields.uint('guesses', count)
  const value = {
    count,
    seed: fields.uint('seed', MAX_SEED),
    guesses,
    right: fields.uint('right', guesses),
    epsilonLowMicro: fields.uint('epsilonLowMicro', MAX_EPSILON_MICRO),
  }
  fields.end()
  return value
}

function readExtraction(fields: Fields): ExtractionFigures {
  const texts = fields.uint('texts')
  const heldOutTexts = fields.uint('heldOutTexts')
  const value = {
    texts,
    extracted: fields.uint('extracted', texts),
    extractedPublic: fields.uint('extractedPublic', texts),
    heldOutTexts,
    heldOutExtracted: fields.uint('heldOutExtracted', heldOutTexts),
  }
  fields.end()
  return value
}

function readMembership(fields: Fields): MembershipFigures {
  const members = fields.uint('members')
  const value = {
    members,
    others: fields.uint('others'),
    byLossRatio: fields.uint('byLossRatio', members),
    byMinK: fields.uint('byMinK', members),
  }
  fields.end()
  return value
}
