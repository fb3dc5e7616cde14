/**
 * Implements protocols/expert-package, section "Privacy": what a publisher states about the protection of its text, in
 * whole numbers. Knows the form of the statement only, and computes no epsilon.
 */
import { FormatError } from '../lib/errors.ts'
import type { Fields } from '../lib/fields.ts'

/** As stated by the publisher. */
export type PrivacyStatement = NoGuarantee | DpStatement

export interface NoGuarantee {
  readonly mechanism: 'none'
}

/** A differentially private training. It covers everything that the package contains. */
export interface DpStatement {
  readonly mechanism: 'dp-sgd'
  /** Nobody but the publisher has verified the statement. */
  readonly attestation: 'self'
  readonly unit: 'document' | 'source'
  /** Neighbouring texts differ by one unit that is added or removed. */
  readonly relation: 'add-remove'
  readonly sampler: 'poisson-truncated'
  /** In millionths. */
  readonly epsilonMicro: number
  /** Delta is 1 / `deltaInverse`. */
  readonly deltaInverse: number
  /** The part of delta that pays for truncated batches is 1 / `truncationDeltaInverse`; 0: none. */
  readonly truncationDeltaInverse: number
  /** Standard deviation of the noise as a multiple of the clip, in millionths. */
  readonly noiseMicro: number
  /** Maximum norm of a unit's gradient, in millionths. */
  readonly clipMicro: number
  /** Probability with which a step uses a unit, in billionths. */
  readonly sampleRateNano: number
  readonly steps: number
  /** Number of units of the text. */
  readonly units: number
  /** Maximum number of units of a step. */
  readonly capacity: number
  /** Maximum number of windows of a unit in a step. */
  readonly windowsPerUnit: number
  /**
   * Standard deviation of the noise in the router statistics as a multiple of the maximum change by one unit, in
   * millionths; 0 without statistics.
   */
  readonly statisticsNoiseMicro: number
  /** Name and version of the accountant that computed epsilon. */
  readonly accountant: string
  /** Number of trainings on any of this text from which this one was chosen, itself included. */
  readonly tunedRuns: number
}

const MAX_RATE_NANO = 1e9
const ACCOUNTANT_NAME = /^[a-z0-9][a-z0-9.-]*$/
const MAX_ACCOUNTANT = 40

/** @throws FormatError `bad-field`. */
export function readPrivacy(fields: Fields): PrivacyStatement {
  const mechanism = fields.literal('mechanism', 'none', 'dp-sgd')
  const statement = mechanism === 'none' ? { mechanism } : readDpStatement(fields)
  fields.end()
  return statement
}

function readDpStatement(fields: Fields): DpStatement {
  const positive = (name: string, max = Number.MAX_SAFE_INTEGER): number => fields.uint(name, max, 1)
  const deltaInverse = fields.uint('deltaInverse', Number.MAX_SAFE_INTEGER, 2)
  const truncationDeltaInverse = fields.uint('truncationDeltaInverse')
  if (truncationDeltaInverse !== 0 && truncationDeltaInverse <= deltaInverse) {
    throw new FormatError(
      'bad-field',
      `privacy.truncationDeltaInverse: expected 0 or more than ${deltaInverse}, got ${truncationDeltaInverse}`,
    )
  }
  return {
    mechanism: 'dp-sgd',
    attestation: fields.literal('attestation', 'self'),
    unit: fields.literal('unit', 'document', 'source'),
    relation: fields.literal('relation', 'add-remove'),
    sampler: fields.literal('sampler', 'poisson-truncated'),
    epsilonMicro: positive('epsilonMicro'),
    deltaInverse,
    truncationDeltaInverse,
    noiseMicro: positive('noiseMicro'),
    clipMicro: positive('clipMicro'),
    sampleRateNano: positive('sampleRateNano', MAX_RATE_NANO),
    steps: positive('steps'),
    units: positive('units'),
    capacity: positive('capacity'),
    windowsPerUnit: positive('windowsPerUnit'),
    statisticsNoiseMicro: fields.uint('statisticsNoiseMicro'),
    accountant: fields.text('accountant', MAX_ACCOUNTANT, ACCOUNTANT_NAME),
    tunedRuns: positive('tunedRuns'),
  }
}

/** What a manifest states elsewhere that a differentially private training does not allow or must agree with. */
interface PrivateFacts {
  readonly training: { readonly documents: number; readonly tokens: number }
  readonly eval: readonly { readonly set: string }[]
  readonly expert: { readonly statisticsTokens: number; readonly statisticsEpsilonMilli: number }
}

/**
 * Check that a manifest with a guarantee states no figure of the text that is outside of it.
 * @throws FormatError `bad-field`.
 */
export function checkPrivateFacts(
  privacy: PrivacyStatement | undefined,
  { training, eval: scores, expert }: PrivateFacts,
): void {
  if (privacy?.mechanism !== 'dp-sgd') return
  const outside = 'an exact figure of the text is outside of the guarantee'
  for (const name of ['documents', 'tokens'] as const) {
    if (training[name] !== 0) {
      throw bad(`manifest.training.${name}: expected 0 with dp-sgd (${outside}), got ${training[name]}`)
    }
  }
  if (scores.some(({ set }) => set === 'own')) {
    throw bad(`manifest.eval: expected no result on "own" with dp-sgd (${outside})`)
  }
  const { statisticsTokens, statisticsEpsilonMilli } = expert
  if (statisticsTokens > 0 !== privacy.statisticsNoiseMicro > 0) {
    throw bad(
      `manifest.privacy.statisticsNoiseMicro: expected ${statisticsTokens > 0 ? '1 or more: exact statistics are outside of the guarantee' : '0 without statistics'}, got ${privacy.statisticsNoiseMicro}`,
    )
  }
  if (statisticsTokens > 0 && statisticsEpsilonMilli === 0) {
    throw bad('manifest.expert.statisticsEpsilonMilli: expected 1 or more with dp-sgd, got 0')
  }
}

function bad(message: string): FormatError {
  return new FormatError('bad-field', message)
}
