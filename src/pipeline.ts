/**
 * The data path, in order; read this first, then the file that each line names.
 *
 * `publish`   load -> release -> pack -> store -> judge -> sign -> log -> accept -> compose -> announce
 * `withdraw`  find -> sign -> log -> leave out -> compose -> announce
 * `ingest`    open and verify once -> log -> queue
 * `judge`     check manifest -> fetch -> check weights -> measure -> decide -> compose
 * `dropExpired` when an owner's consent has ended
 *
 * node/restore.ts reads back what the disk holds, node/operator.ts carries out the operator's word.
 */
import {
  type AcceptanceContext,
  FILE_CHECK,
  judgeManifest,
  judgeWeights,
  type OpenedManifest,
  refusedEnvelope,
  type Tensors,
  type Verdict,
} from './acceptance/accept.ts'
import type { AcceptedExpert, AcceptedExperts } from './acceptance/accepted-experts.ts'
import { readLoggedManifest } from './acceptance/logged-manifest.ts'
import { type MeasureInit, measure } from './acceptance/measure.ts'
import type { AcceptancePolicy } from './acceptance/policy.ts'
import type { AcceptanceQueue } from './acceptance/queue.ts'
import type { Verdicts } from './acceptance/verdicts.ts'
import { expertOfTensors, tensorsOfExpert } from './checkpoint/expert-tensors.ts'
import type { PublicModel } from './checkpoint/public-model.ts'
import type { Composer } from './composition/composer.ts'
import type { Membership } from './consortium/membership.ts'
import { seal, signerOf } from './identity/envelope.ts'
import type { Identity } from './identity/keys.ts'
import { MEDIA_TYPES } from './identity/media-types.ts'
import { type Digest, digestOf } from './lib/bytes.ts'
import { FlexMeshError, InputError } from './lib/errors.ts'
import type { FileRef } from './lib/file-ref.ts'
import { limit } from './lib/limits.ts'
import type { Serial } from './lib/serial.ts'
import type { Expert } from './model/params.ts'
import { describeExpert, type PublishRequest, release, type TrainedExpert } from './owner/release.ts'
import type { Trainings } from './owner/trainings.ts'
import { encodeManifest } from './packaging/manifest.ts'
import {
  type ManifestStatement,
  openStatementOfAnyKind,
  type WithdrawalStatement,
} from './packaging/open-statement.ts'
import { packExpert } from './packaging/package.ts'
import type { StatementLog } from './statements/statement-log.ts'
import { encodeWithdrawal, type Withdrawal } from './statements/withdrawal.ts'
import type { BlobStore } from './store/blob-store.ts'
import type { Log } from './telemetry/log.ts'

/** What happens on the data path, for people and logs. */
export type PipelineEvent =
  | { readonly event: 'published'; readonly id: Digest; readonly expert: string }
  | {
      readonly event: 'fetching'
      readonly expert: string
      readonly institution: string
      readonly bytes: number
    }
  | { readonly event: 'withdrawn'; readonly institution: string; readonly id: Digest }

/** The parts of a node that the data path runs through. Each owns its own state. */
export interface Parts {
  readonly identity: Identity
  readonly publicModel: PublicModel
  readonly blobs: BlobStore
  readonly membership: Membership
  readonly statements: StatementLog
  readonly trainings: Trainings
  readonly policy: AcceptancePolicy
  readonly measuring: MeasureInit
  readonly queue: AcceptanceQueue
  readonly verdicts: Verdicts
  readonly accepted: AcceptedExperts
  readonly composer: Composer
  /** Our own statements are signed and logged one after the other. */
  readonly signing: Serial
  /** Bring a file into the blob store. @throws ExchangeError; VerificationError for a file that is not as signed. */
  readonly fetch: (file: FileRef) => Promise<void>
  /** Announce our head to connected members; without a network nothing happens. */
  readonly sendHead: (head: Uint8Array) => Promise<void>
  readonly log: Log
  readonly onEvent: (event: PipelineEvent) => void
  /** Unix seconds. */
  readonly now: () => number
  /** Aborted when the node stops. */
  readonly signal: AbortSignal
}

/**
 * Publish a finished training, or what was derived from it. A package that this node refuses itself is never signed.
 * Earlier packages of the same name are withdrawn as superseded.
 * @returns the package id.
 * @throws InputError `not-found`, `not-acceptable`, `disk-full`; FormatError `bad-field` for a licence or domain that
 * a manifest cannot hold.
 */
export async function publish(
  parts: Parts,
  request: PublishRequest,
  derived?: TrainedExpert,
): Promise<Digest> {
  const { statements, signing } = parts
  const trained = derived ?? (await parts.trainings.load(request.name))
  const released = release(trained, request)
  const packed = packExpert(tensorsOfExpert(parts.publicModel.config, released.expert), request.dtype)
  const draft = describeExpert(
    manifestContext(parts),
    request,
    released,
    packed,
    trained.result,
    await statements.next(),
  )
  encodeManifest(draft) // Refuses what no manifest can hold before minutes of measuring.
  await parts.blobs.put(packed.parts)
  const { verdict, tensors } = await judgeOwn(parts, draft)
  const id = await signing.run(async () => {
    const older = await standingPackages(parts, request.name)
    const manifest = { ...draft, ...(await statements.next()) }
    const payload = encodeManifest(manifest)
    const id = digestOf(payload)
    const envelope = seal(MEDIA_TYPES.manifest, payload, [parts.identity])
    await logManifest(parts, { kind: 'manifest', manifest, id, envelope })
    await parts.accepted.decide({ manifest, id }, { ...verdict, id }, tensors)
    await takeBack(parts, older, 'superseded')
    return id
  })
  await parts.composer.recompose()
  parts.onEvent({ event: 'published', id, expert: request.name })
  await announce(parts)
  return id
}

/** Withdraw every standing package of our own that has this name. @throws InputError `not-found`. */
export async function withdraw(parts: Parts, name: string): Promise<Digest[]> {
  const ids = await parts.signing.run(async () => {
    const ids = await standingPackages(parts, name)
    if (ids.length === 0) throw new InputError('not-found', `no published expert named ${name}`)
    await takeBack(parts, ids, 'owner-request')
    return ids
  })
  await parts.composer.recompose()
  await announce(parts)
  return ids
}

/** Sign our head anew and announce it, because our log or the roster has grown. */
export async function announce(parts: Parts): Promise<void> {
  await parts.sendHead(await parts.statements.renewHead(await standingPackages(parts)))
}

/**
 * One statement from a member: opened and verified here, once. Resolves when it is kept or refused; weights are judged
 * later, from the queue.
 * @returns whether it was new to us.
 */
export async function ingest(parts: Parts, envelope: Uint8Array): Promise<boolean> {
  try {
    const statement = openStatementOfAnyKind(envelope)
    switch (statement.kind) {
      case 'roster':
        return await ingestRoster(parts, envelope)
      case 'withdrawal':
        return await ingestWithdrawal(parts, statement)
      case 'manifest': {
        const isNew = await logManifest(parts, statement)
        if (isNew) parts.queue.add(statement)
        return isNew
      }
      case 'head':
        return false
    }
  } catch (error) {
    if (!isRefusal(error)) {
      parts.log.warn('a statement could not be kept now and comes again with the next sync', error)
      return false
    }
    // Named by its envelope: a bad copy of a statement must not be taken for the statement.
    await parts.verdicts.putEnvelope(
      refusedEnvelope(digestOf(envelope), error, parts.now(), signerOf(envelope)),
    )
    return false
  }
}

async function ingestRoster(parts: Parts, envelope: Uint8Array): Promise<boolean> {
  const { membership, accepted, composer } = parts
  if (!(await membership.onRoster(envelope))) return false
  const dropped = await accepted.dropUncovered((publisher, seq) => membership.mayPublish(publisher, seq))
  if (dropped.length > 0) await composer.recompose()
  return true
}

async function ingestWithdrawal(parts: Parts, statement: WithdrawalStatement): Promise<boolean> {
  const isNew = await logWithdrawal(parts, statement)
  if (!isNew) return false
  await leaveOut(parts, statement.withdrawal)
  await parts.composer.recompose()
  return true
}

/**
 * Judge one package: everything that needs no weights, then fetch, then everything that does. The verdict is on disk
 * before the expert is composed.
 * @throws whatever keeps this node from a verdict: local trouble, or no member that has the file.
 */
export async function judge(parts: Parts, statement: ManifestStatement): Promise<void> {
  const { accepted } = parts
  if (accepted.has(statement.id)) return
  const context = acceptanceContext(parts)
  const first = judgeManifest(statement, context)
  const judged = await judgeFetched(parts, statement, first, context).catch((error: unknown) => {
    // A withdrawal that came meanwhile has deleted the file.
    if (!accepted.isWithdrawn(statement.manifest.publisher, statement.id)) throw error
    return { verdict: first, tensors: undefined }
  })
  // Judged again: a withdrawal or a new roster may have come while the weights were measured.
  const last = judgeManifest(statement, acceptanceContext(parts))
  const verdict = last.outcome === 'refused' ? last : judged.verdict
  if (await accepted.decide(statement, verdict, judged.tensors)) await parts.composer.recompose()
}

async function judgeFetched(
  parts: Parts,
  statement: ManifestStatement,
  first: Verdict,
  context: AcceptanceContext,
): Promise<Judged> {
  if (first.outcome === 'refused') return { verdict: first }
  const refusal = await fetchFile(parts, statement, first)
  if (refusal !== undefined) return { verdict: refusal }
  return judgeFile(parts, statement, first, context, async () => {
    const published = parts.accepted.list().filter(({ peerId }) => peerId === parts.identity.peerId)
    const unpublished = await parts.trainings.unpublished(published.map(({ name }) => name))
    return [...baseline(parts, statement), ...unpublished]
  })
}

/** A package of our own, whose file is in the store. @throws InputError `not-acceptable`. */
async function judgeOwn(parts: Parts, manifest: OpenedManifest['manifest']): Promise<Judged> {
  const context = acceptanceContext(parts)
  const draft = { manifest, id: digestOf(encodeManifest(manifest)) }
  const first = judgeManifest(draft, context)
  const judged = await judgeFile(parts, draft, first, context, async () => baseline(parts, draft))
  if (judged.verdict.outcome === 'accepted') return judged
  await parts.accepted.deleteFiles(manifest)
  const { code, reason } = judged.verdict
  throw new InputError(
    'not-acceptable',
    `not published, because this node refuses it itself: ${code}, ${reason}`,
  )
}

interface Judged {
  readonly verdict: Verdict
  /** Undefined if the weights were not unpacked. */
  readonly tensors?: Tensors | undefined
}

async function judgeFile(
  parts: Parts,
  opened: OpenedManifest,
  first: Verdict,
  context: AcceptanceContext,
  baselineOf: () => Promise<readonly Expert[]>,
): Promise<Judged> {
  if (first.outcome === 'refused') return { verdict: first }
  const [file] = opened.manifest.files
  const weights = await parts.blobs.readAll(file.sha256, file.size, parts.signal)
  return judgeWeights(first, opened, weights, context, async (tensors) =>
    measure(
      parts.measuring,
      await baselineOf(),
      expertOfTensors(parts.publicModel.config, tensors),
      parts.signal,
    ),
  )
}

/** Experts in use, but for earlier versions of the candidate. */
function baseline({ accepted }: Parts, { manifest }: OpenedManifest): Expert[] {
  return accepted
    .list()
    .filter(({ peerId, name }) => peerId !== manifest.publisher || name !== manifest.expert.name)
    .map(({ expert }) => expert)
}

/** @returns a refusal of a file that is not as its publisher signed it. @throws ExchangeError, InputError. */
async function fetchFile(
  parts: Parts,
  { manifest }: ManifestStatement,
  soFar: Verdict,
): Promise<Verdict | undefined> {
  const [file] = manifest.files
  if (await parts.blobs.has(file.sha256)) return undefined
  parts.onEvent({
    event: 'fetching',
    expert: manifest.expert.name,
    institution: parts.membership.institutionOf(manifest.publisher),
    bytes: file.size,
  })
  try {
    await parts.fetch(file)
    return undefined
  } catch (error) {
    if (!isRefusal(error)) throw error
    const { code, message: reason } = error
    return { ...soFar, outcome: 'refused', check: FILE_CHECK, code, reason }
  }
}

/** Stop using packages whose owner's consent has ended. */
export async function dropExpired(parts: Parts): Promise<void> {
  if ((await parts.accepted.dropExpired()).length > 0) await parts.composer.recompose()
}

/** Our own packages that are neither withdrawn nor expired, oldest first; those of one name if it is given. */
async function standingPackages(parts: Parts, name?: string): Promise<Digest[]> {
  const { peerId } = parts.identity
  const ids: Digest[] = []
  for await (const { envelope, digest } of parts.statements.of(peerId)) {
    const manifest = readLoggedManifest(envelope)
    if (manifest === undefined || (name !== undefined && manifest.expert.name !== name)) continue
    if (parts.accepted.isWithdrawn(peerId, digest) || manifest.expiresAt < parts.now()) continue
    ids.push(digest)
  }
  return ids
}

/** Sign, log and carry out withdrawals of our own packages, as many in one as a statement may name. */
async function takeBack(parts: Parts, ids: readonly Digest[], reason: Withdrawal['reason']): Promise<void> {
  const most = limit('digestsPerStatement')
  for (let from = 0; from < ids.length; from += most) {
    const withdrawal: Withdrawal = {
      ...(await parts.statements.next()),
      consortium: parts.membership.consortium,
      manifests: ids.slice(from, from + most),
      reason,
      issuedAt: parts.now(),
    }
    const payload = encodeWithdrawal(withdrawal)
    const envelope = seal(MEDIA_TYPES.withdrawal, payload, [parts.identity])
    await logWithdrawal(parts, { kind: 'withdrawal', withdrawal, id: digestOf(payload), envelope })
    await leaveOut(parts, withdrawal)
  }
}

async function leaveOut(parts: Parts, { publisher, manifests }: Withdrawal): Promise<void> {
  const left: readonly AcceptedExpert[] = await parts.accepted.withdraw(publisher, manifests)
  for (const { institution, id } of left) parts.onEvent({ event: 'withdrawn', institution, id })
}

function logManifest({ statements }: Parts, { manifest, id, envelope }: ManifestStatement): Promise<boolean> {
  const { consortium } = manifest
  return statements.append({ kind: 'manifest', link: manifest, consortium, id, envelope })
}

function logWithdrawal(
  { statements }: Parts,
  { withdrawal, id, envelope }: WithdrawalStatement,
): Promise<boolean> {
  const { consortium } = withdrawal
  return statements.append({ kind: 'withdrawal', link: withdrawal, consortium, id, envelope })
}

function manifestContext({ membership, now }: Parts): Parameters<typeof describeExpert>[0] {
  const { name, digest, tokenizerDigest } = membership.charter.publicModel
  return {
    consortium: membership.consortium,
    publicModel: { name, digest, tokenizerDigest },
    rosterVersion: membership.roster().version,
    now: now(),
  }
}

function acceptanceContext(parts: Parts): AcceptanceContext {
  const { membership, accepted, policy, publicModel } = parts
  const { digest, tokenizerDigest, config: shape } = membership.charter.publicModel
  return {
    consortium: membership.consortium,
    roster: membership.roster(),
    publicModel: { digest, tokenizerDigest, shape, params: publicModel.params },
    policy,
    isWithdrawn: (publisher, id) => accepted.isWithdrawn(publisher, id),
    now: parts.now(),
  }
}

/** What somebody signed or sent is at fault; everything else is trouble of this machine or the network. */
export function isRefusal(error: unknown): error is FlexMeshError {
  return error instanceof FlexMeshError && ['format', 'verification', 'policy'].includes(error.family)
}
