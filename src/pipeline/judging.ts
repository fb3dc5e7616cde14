/**
 * The parts of `prepare` and `judge`: the file, the checks of its weights, the context of the checks. Decides nothing.
 */
import {
  type AcceptanceContext,
  judgeManifest,
  type OpenedManifest,
  type Verdict,
} from '../acceptance/accept.ts'
import type { QueuedPackage } from '../acceptance/fair-lines.ts'
import { readLoggedManifest } from '../acceptance/logged-manifest.ts'
import type { Judging } from '../acceptance/package-states.ts'
import { refusedFile } from '../jobs/judge-package.ts'
import { digestOf } from '../lib/bytes.ts'
import { InputError, VerificationError } from '../lib/errors.ts'
import { resultOf } from '../lib/jobs.ts'
import { encodeManifest, type Manifest } from '../packaging/manifest.ts'
import type { ManifestStatement } from '../packaging/open-statement.ts'
import type { PublishOptions } from './before-signing.ts'
import { isRefusal, type Parts } from './parts.ts'

/** A package of the log as the queue keeps it. */
export function queued({ id, manifest }: OpenedManifest): QueuedPackage {
  return { id, publisher: manifest.publisher, seq: manifest.seq }
}

/** Every logged manifest of a publisher, in order. */
export async function* packagesOf(
  statements: Parts['statements'],
  publisher: string,
): AsyncGenerator<OpenedManifest, void, void> {
  for await (const { envelope, digest: id } of statements.of(publisher)) {
    const manifest = readLoggedManifest(envelope)
    if (manifest !== undefined) yield { id, manifest }
  }
}

/** At most `max` packages of a publisher that have a place and no verdict, from statement `fromSeq` on. */
export async function unjudged(
  parts: Parts,
  publisher: string,
  fromSeq: number,
  max: number,
): Promise<QueuedPackage[]> {
  const found: QueuedPackage[] = []
  for await (const { envelope, digest: id } of parts.statements.of(publisher, fromSeq)) {
    const manifest = readLoggedManifest(envelope)
    if (manifest === undefined || !parts.standing.has(publisher, id)) continue
    if ((await parts.verdicts.get(id)) !== undefined) continue
    found.push(queued({ id, manifest }))
    if (found.length === max) break
  }
  return found
}

/**
 * A package of our own, whose file is in the store.
 * @throws InputError `not-acceptable`; the reason of the signal.
 */
export async function judgeOwn(
  parts: Parts,
  manifest: OpenedManifest['manifest'],
  { signal, onProgress }: PublishOptions,
): Promise<Verdict> {
  const draft = { manifest, id: digestOf(encodeManifest(manifest)), isDraft: true }
  const beforeFetch = judgeManifest(draft, await acceptanceContext(parts, draft))
  const judged = await judgeWeightsOf(parts, draft, beforeFetch, {
    report: (progress) => onProgress?.({ stage: 'judge', ...progress }),
    signal: signal === undefined ? parts.signal : AbortSignal.any([parts.signal, signal]),
  })
  if (judged.outcome === 'accepted') return judged
  const { code, reason } = judged
  throw new InputError(
    'not-acceptable',
    `not published, because this node refuses it itself: ${code}, ${reason}`,
  )
}

interface JudgeOptions {
  readonly report: (progress: Judging) => void
  /** Default: none are measured beside the package. */
  readonly trainingsExcept?: readonly string[]
  /** Default: aborted when the node stops. */
  readonly signal?: AbortSignal
}

export async function judgeWeightsOf(
  parts: Parts,
  opened: OpenedManifest,
  beforeFetch: Verdict,
  { report, trainingsExcept, signal = parts.signal }: JudgeOptions,
): Promise<Verdict> {
  if (beforeFetch.outcome === 'refused') return beforeFetch
  const { jobs, trainings, policy, composer, withdrawnWeights } = parts
  const { topK, router } = composer
  const publicStatistics = await trainings.publicStatistics()
  const withdrawn = {
    seed: await withdrawnWeights.seed(),
    forbidden: await withdrawnWeights.sketchesOf(await withdrawnWeights.against(opened)),
  }
  const baseline = baselineOf(parts, opened)
  const request = {
    opened,
    soFar: beforeFetch,
    policy,
    baseline,
    trainingsExcept,
    topK,
    router,
    publicStatistics,
    withdrawn,
  }
  const { verdict, sketch } = await resultOf(jobs.run('judge', request, signal), report)
  if (sketch !== undefined) await withdrawnWeights.keep(opened.manifest, sketch)
  return verdict
}

/** What a candidate is measured against: the experts in use, without earlier versions of the candidate. */
function baselineOf({ accepted }: Parts, { manifest }: OpenedManifest): Manifest[] {
  return accepted
    .manifests()
    .map((one) => one.manifest)
    .filter(
      ({ publisher, expert }) => publisher !== manifest.publisher || expert.name !== manifest.expert.name,
    )
}

/**
 * Bring the package's file into the store.
 * @returns a refusal if the publisher lied about its file; undefined if the file is in the store.
 * @throws ExchangeError, InputError.
 */
export async function fetchFile(
  parts: Parts,
  { id, manifest }: ManifestStatement,
  beforeFetch: Verdict,
  signal: AbortSignal,
): Promise<Verdict | undefined> {
  const { blobs, space, states } = parts
  const [file] = manifest.files
  if (await blobs.has(file.sha256)) return undefined
  const received = await blobs.partialBytes(file)
  const claim = await space.claim(file.size - received)
  const onProgress = (doneBytes: number): void => {
    claim.remaining(file.size - doneBytes)
    states.set(id, { kind: 'fetching', doneBytes, totalBytes: file.size })
  }
  onProgress(received)
  parts.onEvent({
    event: 'fetching',
    expert: manifest.expert.name,
    institution: parts.membership.institutionOf(manifest.publisher),
    bytes: file.size,
  })
  try {
    await parts.fetch(file, { signal, onProgress })
    return undefined
  } catch (error) {
    if (isRefusal(error)) return refusedFile(beforeFetch, error)
    if (!(error instanceof InputError && error.code === 'disk-full')) throw error
    const neededBytes = file.size - (await blobs.partialBytes(file))
    throw new InputError('disk-full', error.message, { ...error.fields, neededBytes }, error)
  } finally {
    claim.release()
  }
}

/** What the checks of one package may depend on, as it is now. */
export async function acceptanceContext(parts: Parts, opened: OpenedManifest): Promise<AcceptanceContext> {
  const withdrawn = await parts.withdrawnWeights.against(opened)
  const { membership, statements, accepted, policy, publicModel } = parts
  const { digest, tokenizerDigest, config: shape, files } = membership.charter.publicModel
  return {
    consortium: membership.consortium,
    roster: membership.roster(),
    publicModel: {
      digest,
      tokenizerDigest,
      files: new Set(files.map(({ sha256 }) => sha256)),
      shape,
      weights: publicModel.weights,
    },
    policy,
    self: membership.seat,
    isWithdrawn: (publisher, id) => accepted.isWithdrawn(publisher, id),
    withdrawnFiles: new Set(withdrawn.map(({ file }) => file)),
    counts: (publisher, seq) => membership.keys.historyOf(publisher).counts(seq),
    isForked: (publisher) => statements.isForked(publisher),
    now: parts.now(),
  }
}

/** @throws VerificationError `not-final` if the policy demands finality that the manifest of another member lacks. */
export function checkFinal({ policy, logs, membership }: Parts, { publisher, seq }: Manifest): void {
  if (policy.requireFinal !== true || publisher === membership.seat || seq <= logs.finalSize(publisher))
    return
  throw new VerificationError(
    'not-final',
    `${logs.needed()} members must cosign its manifest before this node uses it, and fewer have done so`,
  )
}
