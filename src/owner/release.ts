/**
 * Prepares a trained expert for publication: the expert with the router statistics that its owner chose to release,
 * the manifest that describes it, and a summary of what leaves the machine. Knows nothing about the log, the store and
 * the network.
 */

import type { Digest } from '../lib/bytes.ts'
import { InputError } from '../lib/errors.ts'
import type { FileRef } from '../lib/file-ref.ts'
import type { FloatDtype } from '../lib/float-formats.ts'
import { limit } from '../lib/limits.ts'
import type { Expert } from '../model/params.ts'
import type { EvalResult, Manifest } from '../packaging/manifest.ts'
import type { AuditStatement } from '../packaging/manifest-audit.ts'
import type { ExpertShape } from '../packaging/tensor-names.ts'
import type { KeptReport } from '../privacy/audit-report.ts'
import type { Attack } from '../privacy/membership-audit.ts'
import { noisedStatistics, noiseMultiplier } from '../privacy/noise.ts'
import { checkStatedEpsilon } from '../privacy/stated-epsilon.ts'
import { privacyStatement } from './privacy-statement.ts'
import type { Score, TrainResult } from './training-folder.ts'

export type StatisticsChoice = 'exact' | 'noised' | 'none'

export interface PublishRequest {
  /** Sign although the home was copied or restored and no member has been reached since. */
  readonly alone?: boolean
  readonly name: string
  /** SPDX expression. */
  readonly license: string
  readonly domain: string
  readonly dtype: FloatDtype
  /** Reduce the difference from the public FFN to this rank. */
  readonly rank?: number | undefined
  /**
   * How the expert's router statistics are published. Undefined: exact ones, or none if the training had a guarantee,
   * because exact statistics are outside of it.
   */
  readonly statistics?: StatisticsChoice | undefined
  /** Epsilon of the noise in thousandths; 0 without noise. */
  readonly epsilonMilli: number
  /** Audit the expert before it is packed; undefined publishes it without an audit. */
  readonly audit?: { readonly acceptedRisk?: string | undefined } | undefined
}

export interface TrainedExpert {
  readonly expert: Expert
  readonly result: TrainResult
}

/** An expert with the statistics that are published, and the manifest's facts about them. */
export interface ReleasedExpert {
  readonly expert: Expert
  /** Number of documents that the published statistics average over; 0 without statistics. */
  readonly statisticsDocuments: number
  readonly statisticsEpsilonMilli: number
  /**
   * Standard deviation of the noise in the statistics as a multiple of the maximum change by one unit of the training's
   * guarantee; 0 without noise, and for a training without a guarantee.
   */
  readonly statisticsNoise: number
}

/** Manifests state bits per byte in millionths. */
const MICRO = 1e6

/** How the statistics of a training are published if the owner chose `choice`. */
export function statisticsChoice(
  choice: StatisticsChoice | undefined,
  { privacy }: Pick<TrainResult, 'privacy'>,
): StatisticsChoice {
  return choice ?? (privacy === undefined ? 'exact' : 'none')
}

/**
 * @throws InputError `not-found` if noise is asked for but the expert has no statistics; `usage` for statistics that a
 * training's guarantee does not cover; `mismatch` for a training that states a lower epsilon than its parameters give.
 */
export function release({ expert, result }: TrainedExpert, request: PublishRequest): ReleasedExpert {
  const { statistics } = expert
  const { privacy, statisticsDocuments: documents } = result
  const { epsilonMilli } = request
  const choice = statisticsChoice(request.statistics, result)
  if (privacy !== undefined) checkStatedEpsilon(privacy)
  if (choice === 'noised' && (statistics === undefined || documents === 0)) {
    throw new InputError(
      'not-found',
      `${request.name} has no router statistics to add noise to: its text has fewer than ${limit('statisticsDocuments')} documents, or it was trained elsewhere; publish it with --router-statistics none`,
    )
  }
  if (choice === 'none' || statistics === undefined || documents === 0) {
    return {
      expert: { ...expert, statistics: undefined },
      statisticsDocuments: 0,
      statisticsEpsilonMilli: 0,
      statisticsNoise: 0,
    }
  }
  if (choice === 'exact') {
    if (privacy !== undefined) throw outsideGuarantee(request.name, 'exact router statistics are')
    return { expert, statisticsDocuments: documents, statisticsEpsilonMilli: 0, statisticsNoise: 0 }
  }
  const perUnit = result.statisticsPerUnit
  if (privacy !== undefined && perUnit === undefined) {
    throw outsideGuarantee(request.name, 'the number of pieces of one unit in its router statistics is')
  }
  const epsilon = epsilonMilli / 1000
  return {
    expert: { ...expert, statistics: noisedStatistics(statistics, documents, epsilon) },
    statisticsDocuments: documents,
    statisticsEpsilonMilli: epsilonMilli,
    statisticsNoise: perUnit === undefined ? 0 : noiseMultiplier(epsilon) / perUnit,
  }
}

function outsideGuarantee(name: string, subject: string): InputError {
  return new InputError(
    'usage',
    `${name} was trained with --epsilon, and ${subject} outside of its guarantee; publish it with --router-statistics none`,
  )
}

/** What a manifest states about its consortium. */
export interface ManifestContext {
  readonly consortium: Digest
  readonly publicModel: Manifest['publicModel']
  readonly rosterVersion: number
  /** Unix seconds. */
  readonly now: number
}

/**
 * The manifest of a released expert, packed and ready to sign, with `link` as its position in the publisher's log.
 * @param tunedRuns number of trainings on any of the text from which this one was chosen, itself included.
 */
export function describeExpert(
  context: ManifestContext,
  request: PublishRequest,
  { statisticsNoise, ...statistics }: Omit<ReleasedExpert, 'expert'>,
  packed: {
    readonly file: FileRef
    readonly shape: ExpertShape
    readonly audit?: KeptReport | undefined
  },
  result: TrainResult,
  link: Pick<Manifest, 'publisher' | 'seq' | 'prev'>,
  tunedRuns: number,
): Manifest {
  const isPrivate = result.privacy !== undefined
  const { audit, shape, file } = packed
  return {
    ...link,
    consortium: context.consortium,
    rosterVersion: context.rosterVersion,
    issuedAt: context.now,
    expiresAt: context.now + limit('manifestLifetime'),
    publicModel: context.publicModel,
    expert: { name: request.name, dtype: request.dtype, ...shape, ...statistics },
    files: [{ role: 'expert', ...file }],
    training: {
      // Exact figures of the text are outside of a guarantee.
      documents: isPrivate ? 0 : result.documents,
      tokens: isPrivate ? 0 : result.tokens,
      steps: result.steps,
      replayShareMilli: result.replayShareMilli,
    },
    eval: [...(isPrivate ? [] : evalResult('own', result.own)), ...evalResult('public', result.public)],
    privacy: privacyStatement(result.privacy, { statisticsNoise, tunedRuns }),
    ...(audit && { audit: auditStatement(audit) }),
    license: request.license,
    domain: request.domain,
    ext: {},
  }
}

/** What a manifest states of a report. Figures of private text stay out of it if the training has a guarantee. */
export function auditStatement({ report, digest }: KeptReport): AuditStatement {
  const { declared, canarySeed: seed, acceptedRisk } = report
  const { canaries, extraction, membership } = report.figures
  const { train, trainPublic, heldOut } = extraction
  const found = ({ at }: Attack): number => at[0]?.found ?? 0
  return {
    report: digest,
    ...(canaries &&
      seed !== undefined && {
        canaries: {
          count: canaries.canaries,
          seed,
          guesses: canaries.guesses,
          right: canaries.right,
          epsilonLowMicro: Math.floor(canaries.epsilonLow * MICRO),
        },
      }),
    ...(declared === undefined && {
      extraction: {
        texts: train.texts,
        extracted: train.extracted,
        extractedPublic: trainPublic.extracted,
        heldOutTexts: heldOut.texts,
        heldOutExtracted: heldOut.extracted,
      },
      membership: {
        members: membership.members,
        others: membership.others,
        byLossRatio: found(membership.lossRatio),
        byMinK: found(membership.minK),
      },
    }),
    ...(acceptedRisk !== undefined && { acceptedRisk }),
  }
}

function evalResult(set: EvalResult['set'], score: Score | undefined): EvalResult[] {
  if (score === undefined) return []
  const micro = (bits: number): number => Math.round(bits * MICRO)
  return [{ set, metric: 'bits-per-byte', before: micro(score.before), after: micro(score.after) }]
}

/** What a publication releases, to whom, and until when; JSON. */
export interface ReleaseSummary {
  readonly name: string
  /** Size and digest of the file that members fetch. */
  readonly bytes: number
  readonly sha256: Digest
  readonly dtype: FloatDtype
  readonly layers: number
  /** Undefined for full weight matrices. */
  readonly rank?: number
  /** Undefined if no router statistics are released. */
  readonly statistics?: {
    readonly tokens: number
    readonly documents: number
    /** 0 without noise. */
    readonly epsilonMilli: number
  }
  readonly training: Manifest['training']
  readonly eval: Manifest['eval']
  readonly privacy: Manifest['privacy']
  /** Undefined if the expert was not audited. */
  readonly audit?: AuditStatement
  readonly license: string
  readonly domain: string
  /** Names of the members that receive it; institutions that join later receive it too. */
  readonly recipients: readonly string[]
  /** End of the consent, Unix seconds. */
  readonly expiresAt: number
  /** Ids of the packages of the same name that it supersedes. */
  readonly replaces: readonly Digest[]
}

/** @param recipients names of the other members */
export function summarizeRelease(
  { expert, files: [file], training, eval: scores, privacy, audit, license, domain, expiresAt }: Manifest,
  recipients: readonly string[],
  replaces: readonly Digest[],
): ReleaseSummary {
  const {
    statisticsTokens: tokens,
    statisticsDocuments: documents,
    statisticsEpsilonMilli: epsilonMilli,
  } = expert
  return {
    name: expert.name,
    bytes: file.size,
    sha256: file.sha256,
    dtype: expert.dtype,
    layers: expert.layers,
    ...(expert.rank === undefined ? {} : { rank: expert.rank }),
    ...(tokens === 0 ? {} : { statistics: { tokens, documents, epsilonMilli } }),
    training,
    eval: scores,
    privacy,
    ...(audit && { audit }),
    license,
    domain,
    recipients,
    expiresAt,
    replaces,
  }
}
