/**
 * Audits a finished training as it would be published, with the text that it was trained on, and keeps the report in its
 * folder. An expert that was audited before is not audited again. Knows nothing about packages.
 */
import { expertOfTensors, tensorsOfExpert } from '../checkpoint/expert-tensors.ts'
import { fromUtf8 } from '../lib/bytes.ts'
import { InputError } from '../lib/errors.ts'
import { fileRefOfPath } from '../lib/file-ref.ts'
import { pathExists, readFileBounded, writeFileAtomic } from '../lib/files.ts'
import type { FloatDtype } from '../lib/float-formats.ts'
import { packExpert } from '../packaging/package.ts'
import { auditExpert, piecesFor } from '../privacy/audit-expert.ts'
import { findingsOf } from '../privacy/audit-policy.ts'
import {
  type AuditReport,
  type AuditSubject,
  isReleased,
  type KeptReport,
  kept,
  reportBytes,
  reportLines,
  reportOf,
} from '../privacy/audit-report.ts'
import { auditText } from './audit-text.ts'
import type { OwnerWorkplace } from './owner-jobs.ts'
import type { TrainedExpert } from './release.ts'
import { PUBLISHED_DTYPE } from './train-defaults.ts'
import { loadTrained, type TrainingDirs, trainingDirs } from './training-folder.ts'

export type AuditProgress = { readonly stage: 'audit'; readonly done: number; readonly total: number }

/** Steps in which progress is counted. */
const PROGRESS_STEPS = 1000
const MAX_REPORT_BYTES = 2 ** 20

/** An expert with the values that its published file holds. */
export interface AuditedExpert extends TrainedExpert {
  /** Format to which its FFN weights are rounded. */
  readonly dtype: FloatDtype
  /** Rank to which it is reduced for its publication. */
  readonly rank: number | undefined
  /** Number that the calibration for its publication has added to its router logits. */
  readonly derivedBias: number
}

/** What `flexmesh audit` asks for. */
export interface AuditRequest {
  readonly name: string
}

/**
 * Audits a training as `train` released it and as `publish` rounds it by default.
 * @throws as `auditTraining`; InputError `not-found`.
 */
export async function auditReleased(
  workplace: OwnerWorkplace,
  { name }: AuditRequest,
  signal: AbortSignal,
  report: (progress: AuditProgress) => void,
): Promise<KeptReport> {
  const { publicModel, training } = workplace
  const { expert, result } = await loadTrained(publicModel, training, name)
  const dtype = PUBLISHED_DTYPE
  const { tensors } = packExpert(tensorsOfExpert(publicModel.config, expert), dtype)
  const rounded = await expertOfTensors(publicModel.config, tensors, signal)
  return auditTraining(
    workplace,
    { expert: rounded, result, rank: undefined, derivedBias: 0, dtype },
    signal,
    report,
  )
}

/**
 * Audits an expert, unless the report of an earlier audit holds for it.
 * @throws as `auditText`; the signal's reason; as `WeightSource.read`.
 */
export async function auditTraining(
  workplace: OwnerWorkplace,
  audited: AuditedExpert,
  signal: AbortSignal,
  report: (progress: AuditProgress) => void,
): Promise<KeptReport> {
  const { engine, publicModel, training } = workplace
  const { expert, result, rank = 0, derivedBias, dtype } = audited
  const { name } = result
  const dirs = trainingDirs(training, name)
  const released = await loadTrained(publicModel, training, name)
  const lowered = (released.result.calibration?.bias ?? 0) + derivedBias
  const { ref } = await fileRefOfPath(dirs.expert, signal)
  const subject: AuditSubject = { training: name, expert: ref.sha256, rank, dtype, lowered }
  const earlier = await loadReport(dirs)
  if (earlier !== undefined && isSame(earlier.subject, subject)) return kept(earlier)
  const started = performance.now()
  report({ stage: 'audit', done: 0, total: PROGRESS_STEPS })
  const { config, weights, tokenizer } = publicModel
  const { train, heldOut, hidden } = await auditText(publicModel, dirs, name, piecesFor(config))
  const { privacy } = result
  const figures = await auditExpert(
    { engine, config, weights, endOfText: tokenizer.endOfText, expert, lowered },
    { train, heldOut, canaries: hidden?.canaries ?? [] },
    privacy?.delta ?? 0,
    {
      signal,
      onProgress: (share) =>
        report({ stage: 'audit', done: Math.floor(share * PROGRESS_STEPS), total: PROGRESS_STEPS }),
    },
  )
  const found = reportOf({
    subject,
    ...(privacy && { declared: { epsilon: privacy.epsilon, delta: privacy.delta } }),
    ...(hidden && { canarySeed: hidden.seed }),
    figures,
    findings: findingsOf(figures, privacy?.epsilon),
    at: Math.floor(Date.now() / 1000),
    seconds: (performance.now() - started) / 1000,
  })
  return keep(dirs, found)
}

/**
 * Records why an expert is published although its audit stops it.
 * @throws InputError `audit-failed` if the audit stops it and no reason was given, or if it has shown a bug.
 */
export async function releaseAudited(
  { training }: Pick<OwnerWorkplace, 'training'>,
  { report }: KeptReport,
  acceptedRisk: string | undefined,
): Promise<KeptReport> {
  const { acceptedRisk: _, ...found } = report
  const accepts = found.outcome === 'stop' && acceptedRisk !== undefined
  const decided = accepts ? { ...found, acceptedRisk } : found
  if (isReleased(decided)) return keep(trainingDirs(training, found.subject.training), decided)
  const reasons = found.findings.filter(({ severity }) => severity !== 'warn').map(({ words }) => words)
  const next =
    found.outcome === 'bug'
      ? ''
      : '; train on more text or for fewer steps, or with --epsilon, or publish with --accept-risk REASON, which the package then states'
  throw new InputError(
    'audit-failed',
    `the audit of ${found.subject.training} stops its publication: ${reasons.join('; ')}${next}`,
  )
}

async function keep(dirs: TrainingDirs, report: AuditReport): Promise<KeptReport> {
  await writeFileAtomic(dirs.auditWords, `${reportLines(report).join('\n')}\n`)
  await writeFileAtomic(dirs.audit, reportBytes(report))
  return kept(report)
}

/** The report of the latest audit of a training; undefined if it has none that this version understands. */
async function loadReport(dirs: TrainingDirs): Promise<AuditReport | undefined> {
  if (!(await pathExists(dirs.audit))) return undefined
  try {
    const report = JSON.parse(fromUtf8(await readFileBounded(dirs.audit, MAX_REPORT_BYTES))) as AuditReport
    return report.version === 1 ? report : undefined
  } catch {
    return undefined // A damaged report is written again.
  }
}

function isSame(a: AuditSubject, b: AuditSubject): boolean {
  const keys: readonly (keyof AuditSubject)[] = ['training', 'expert', 'rank', 'dtype', 'lowered']
  return keys.every((key) => a[key] === b[key])
}
