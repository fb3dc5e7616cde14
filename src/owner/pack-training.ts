/**
 * Packs a finished training for publication, in one job: derives the expert that is published, if that is another one
 * than `train` released, chooses its router statistics, and writes its file piece by piece. Weights stay in files. Knows
 * nothing about manifests, the store and the network.
 */
import { dirname } from 'node:path'
import { expertOfTensors, tensorsOfExpert } from '../checkpoint/expert-tensors.ts'
import { ScratchWeights } from '../checkpoint/scratch-weights.ts'
import { eachPercent } from '../lib/each-percent.ts'
import type { HashedFile } from '../lib/file-ref.ts'
import { requireFreeSpace } from '../lib/free-space.ts'
import { packExpert } from '../packaging/package.ts'
import type { ExpertShape } from '../packaging/tensor-names.ts'
import type { KeptReport } from '../privacy/audit-report.ts'
import { hashPieces, writeHashedFile } from '../store/write-hashed.ts'
import { hasText } from './audit-text.ts'
import { type AuditProgress, auditTraining, releaseAudited } from './audit-training.ts'
import { type DeriveProgress, derive } from './derive-expert.ts'
import type { OwnerWorkplace } from './owner-jobs.ts'
import { type PublishRequest, type ReleasedExpert, release, type TrainedExpert } from './release.ts'
import { type PublicationSpending, publicationSpending } from './spend-training.ts'
import { type Calibration, type Score, type TrainResult, trainingDirs } from './training-folder.ts'

export interface PackRequest {
  readonly publish: PublishRequest
  /** Path of the new file; undefined only computes its reference. */
  readonly into: string | undefined
  /** Path for a temporary file, which is removed. */
  readonly scratch: string
}

export type PackProgress =
  | DeriveProgress
  | AuditProgress
  /** Bytes written so far, and in total. */
  | { readonly stage: 'pack'; readonly done: number; readonly total: number }

/** How the published expert differs from the one that `train` released. */
export interface Derivation {
  /** With a rank: the share of the difference's squared norm that it keeps, 0 to 1. */
  readonly energyKept?: number
  readonly own?: Score
  readonly public?: Score
  /** Absent if the expert needed no calibration. */
  readonly calibration?: Calibration
}

/** A training as it is published. */
export interface PackedTraining {
  readonly file: HashedFile
  readonly shape: ExpertShape
  readonly statistics: Omit<ReleasedExpert, 'expert'>
  readonly result: TrainResult
  /** Number of trainings on any of the text from which this one was chosen, itself included. */
  readonly tunedRuns: number
  /** What the publication takes of the account of privacy; undefined if it takes nothing. */
  readonly spending: PublicationSpending | undefined
  /** Undefined if the expert is published as `train` released it. */
  readonly derivation: Derivation | undefined
  /** Undefined if it was not audited. */
  readonly audit: KeptReport | undefined
}

/**
 * Pack a training.
 * @throws InputError `not-found` before the training has finished, `usage` for a rank that does not fit, `disk-full`,
 * `audit-failed`; as `release` and `packExpert`; the signal's reason.
 */
export async function packTraining(
  workplace: OwnerWorkplace,
  { publish, into, scratch }: PackRequest,
  signal: AbortSignal,
  report: (progress: PackProgress) => void,
): Promise<PackedTraining> {
  const { publicModel } = workplace
  const tell = eachPercent<PackProgress>(report, ({ stage }) => stage)
  const scratchWeights = await ScratchWeights.create(scratch)
  try {
    const { trained, derivation } = await derive(workplace, publish, scratchWeights, signal, tell)
    const { expert, ...statistics } = release(trained, publish)
    const packed = packExpert(tensorsOfExpert(publicModel.config, expert), publish.dtype)
    const published = {
      expert: await expertOfTensors(publicModel.config, packed.tensors, signal),
      result: trained.result,
    }
    const audit = await auditOf(workplace, publish, published, derivation, signal, tell)
    const { privacy } = trained.result
    const account = await publicationSpending(
      publicModel,
      workplace.training,
      publish.name,
      privacy,
      statistics.statisticsNoise,
      signal,
    )
    const pieces = packed.pieces({
      signal,
      onProgress: (done, total) => tell({ stage: 'pack', done, total }),
    })
    if (into !== undefined) await requireFreeSpace(dirname(into), packed.bytes)
    const file = await (into === undefined
      ? hashPieces(pieces, signal)
      : writeHashedFile(into, pieces, signal))
    const { shape } = packed
    return { file, shape, statistics, result: trained.result, ...account, derivation, audit }
  } finally {
    await scratchWeights.remove()
  }
}

/**
 * Audits the expert unless the owner has declined. Without its text, as for an expert trained elsewhere, nobody can.
 * @param published the expert with the values that its file holds
 */
async function auditOf(
  workplace: OwnerWorkplace,
  { name, audit, rank, dtype }: PublishRequest,
  published: TrainedExpert,
  derivation: Derivation | undefined,
  signal: AbortSignal,
  report: (progress: PackProgress) => void,
): Promise<KeptReport | undefined> {
  if (audit === undefined || !(await hasText(trainingDirs(workplace.training, name)))) return undefined
  const derivedBias = derivation?.calibration?.bias ?? 0
  const found = await auditTraining(workplace, { ...published, rank, derivedBias, dtype }, signal, report)
  return releaseAudited(workplace, found, audit.acceptedRisk)
}
