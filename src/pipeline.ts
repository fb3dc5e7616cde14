/**
 * The data path, in order. Read this first, then follow the imports.
 *
 * `publish`   load -> release -> pack -> store -> judge our own -> sign -> log -> decide -> compose -> announce
 * `withdraw`  find -> sign -> log -> leave out -> compose -> announce
 * `ingest`    open and verify once -> log -> queue; a log that contradicts itself ends the use of its packages
 * `prepare`   check manifest -> fetch; called by the queue, for several packages at once
 * `judge`     check weights -> measure -> decide -> compose; called by the queue, for one package at a time
 * `upkeep`    drop experts whose consent has expired, retry writes that failed; called every hour
 *
 * node/restore.ts reads the disk when a node opens; node/operator.ts carries out the operator's decisions.
 */
import {
  type AcceptanceContext,
  judgeManifest,
  type OpenedManifest,
  refusedEnvelope,
  type Verdict,
} from './acceptance/accept.ts'
import type { AcceptedExperts } from './acceptance/accepted-experts.ts'
import type { QueuedPackage } from './acceptance/fair-lines.ts'
import { readLoggedManifest } from './acceptance/logged-manifest.ts'
import type { PackageStates } from './acceptance/package-states.ts'
import type { AcceptancePolicy } from './acceptance/policy.ts'
import type { AcceptanceQueue, JudgeFetched } from './acceptance/queue.ts'
import type { Standing } from './acceptance/standing.ts'
import type { Verdicts } from './acceptance/verdicts.ts'
import type { PublicModel } from './checkpoint/public-model.ts'
import type { Composer } from './composition/composer.ts'
import type { Membership } from './consortium/membership.ts'
import { seal } from './identity/envelope.ts'
import type { Identity } from './identity/keys.ts'
import { MEDIA_TYPES } from './identity/media-types.ts'
import { type JudgedPackage, refusedFile } from './jobs/judge-package.ts'
import type { NodeJobRunner } from './jobs/table.ts'
import { type Digest, digestOf } from './lib/bytes.ts'
import { FlexMeshError, InputError } from './lib/errors.ts'
import type { FileRef } from './lib/file-ref.ts'
import { resultOf } from './lib/jobs.ts'
import { limit } from './lib/limits.ts'
import type { Serial } from './lib/serial.ts'
import { describeExpert, type PublishRequest, type TrainedExpert } from './owner/release.ts'
import type { Trainings } from './owner/trainings.ts'
import { openForkProof } from './packaging/fork-proof.ts'
import { encodeManifest, type Manifest, openManifest } from './packaging/manifest.ts'
import {
  type ManifestStatement,
  openStatementOfAnyKind,
  type WithdrawalStatement,
} from './packaging/open-statement.ts'
import type { PackedExpert } from './packaging/package.ts'
import type { ForkEnvelopes } from './statements/fork.ts'
import type { Head } from './statements/head.ts'
import type { StatementLog } from './statements/statement-log.ts'
import { encodeWithdrawal, type Withdrawal } from './statements/withdrawal.ts'
import type { BlobStore } from './store/blob-store.ts'
import type { DiskSpace } from './store/disk-space.ts'
import type { HomeMark } from './store/home-mark.ts'
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
  | {
      readonly event: 'forked'
      readonly institution: string
      readonly peerId: string
      /** Whether it is this node's own log. */
      readonly isOwn: boolean
    }

export interface FetchOptions {
  readonly signal: AbortSignal
  /** Called with the number of verified bytes on disk. */
  readonly onProgress: (doneBytes: number) => void
}

/** The parts of a node that the data path runs through. Each owns its own state. */
export interface Parts {
  readonly identity: Identity
  readonly publicModel: PublicModel
  readonly blobs: BlobStore
  readonly membership: Membership
  readonly statements: StatementLog
  readonly trainings: Trainings
  readonly mark: HomeMark
  readonly policy: AcceptancePolicy
  /** Runs long computations. */
  readonly jobs: NodeJobRunner
  readonly queue: AcceptanceQueue
  /** States of the packages that have no verdict yet. */
  readonly states: PackageStates
  readonly space: DiskSpace
  readonly verdicts: Verdicts
  readonly accepted: AcceptedExperts
  readonly standing: Standing
  readonly composer: Composer
  /** Our own statements are signed and logged one after the other. */
  readonly signing: Serial
  /**
   * Bring a file into the blob store. @throws ExchangeError; VerificationError if the signer of the reference lied;
   * InputError `disk-full`.
   */
  readonly fetch: (file: FileRef, options: FetchOptions) => Promise<void>
  /** Whether something was learned that other members may not have heard of. */
  readonly news: { isPending: boolean }
  /** Announce our head to connected members; without a network nothing happens. */
  readonly sendHead: (head: Uint8Array) => Promise<void>
  readonly log: Log
  readonly onEvent: (event: PipelineEvent) => void
  /** Unix seconds. */
  readonly now: () => number
  /** Aborted when the node stops. */
  readonly signal: AbortSignal
}

/** A package that is ready to be judged and signed. */
interface Draft {
  readonly manifest: Manifest
  readonly packed: PackedExpert
}

/** What was or would be published. */
export interface Publication {
  readonly manifest: Manifest
  /** Ids of the standing packages of this name, which the new one supersedes. */
  readonly replaces: readonly Digest[]
}

/** Load, release, pack and describe. @throws as `publish`. */
async function draftOf(
  parts: Parts,
  request: PublishRequest,
  derived: TrainedExpert | undefined,
): Promise<Draft> {
  const { packed, statistics, result } = await parts.trainings.pack(request, derived)
  const link = await parts.statements.next()
  const manifest = describeExpert(manifestContext(parts), request, statistics, packed, result, link)
  // Fail before minutes of measuring if the manifest cannot be encoded, or if the roster has ended and no member would
  // accept the package.
  encodeManifest(manifest)
  parts.membership.checkRosterNotEnded()
  checkNotForked(parts)
  if (request.alone !== true) checkCaughtUp(parts)
  return { manifest, packed }
}

/** What `publish` would publish. Stores, judges and signs nothing. @throws as `publish`, but for a failing judgement. */
export async function previewPublication(
  parts: Parts,
  request: PublishRequest,
  derived?: TrainedExpert,
): Promise<Publication> {
  const { manifest } = await draftOf(parts, request, derived)
  return { manifest, replaces: await ownPackages(parts, request.name) }
}

/**
 * Publish a finished training, or an expert that was derived from it, such as one of lower rank. If this node's own
 * checks refuse the package, it is not signed. Earlier packages of the same name are withdrawn as superseded.
 * @throws InputError `not-found`, `not-acceptable`, `behind`, `disk-full`; FormatError `bad-field` for a licence or domain that
 * a manifest cannot hold; VerificationError `expired` after the end of the roster.
 */
export async function publish(
  parts: Parts,
  request: PublishRequest,
  derived?: TrainedExpert,
): Promise<Publication & { readonly id: Digest }> {
  const { statements, signing } = parts
  const { manifest: draft, packed } = await draftOf(parts, request, derived)
  const endHold = parts.accepted.hold(draft)
  let isLogged = false
  try {
    await parts.blobs.putHashed(packed.parts, { ref: packed.file, chunkHashes: packed.chunkHashes })
    const { verdict, tensors } = await judgeOwn(parts, draft)
    const published = await signing.run(async () => {
      const replaces = await ownPackages(parts, request.name)
      checkPlace(parts, replaces)
      const manifest = { ...draft, ...(await statements.next()) }
      const payload = encodeManifest(manifest)
      const id = digestOf(payload)
      const envelope = seal(MEDIA_TYPES.manifest, payload, [parts.identity])
      await parts.mark.replace() // Before the log holds the statement: what follows that must not fail.
      await logManifest(parts, { kind: 'manifest', manifest, id, envelope }, true)
      isLogged = true
      parts.standing.add({ manifest, id })
      await parts.accepted.decide({ manifest, id }, { ...verdict, id }, tensors, endHold)
      await signWithdrawals(parts, replaces, 'superseded')
      return { id, manifest, replaces }
    })
    await parts.composer.recompose()
    parts.onEvent({ event: 'published', id: published.id, expert: request.name })
    await announce(parts)
    return published
  } catch (error) {
    endHold() // A second call has no effect.
    if (!isLogged) await parts.accepted.deleteFiles(draft)
    throw error
  }
}

/**
 * @param superseded packages that the new one replaces
 * @throws InputError `not-acceptable`: other nodes would let the package wait.
 */
function checkPlace({ standing, identity, policy }: Parts, superseded: readonly Digest[]): void {
  const { maxPackagesPerPublisher: most } = policy
  if (standing.count(identity.peerId, superseded) < most) return
  throw new InputError(
    'not-acceptable',
    `${most} packages of this node stand, which is the most that others use; withdraw one first`,
  )
}

/** @throws InputError `not-acceptable`: nobody would use the package. */
function checkNotForked({ statements, identity }: Parts): void {
  if (!statements.isForked(identity.peerId)) return
  throw new InputError(
    'not-acceptable',
    'the key of this node has signed two different histories, so no member uses its packages; ask a founder to revoke it, then join again with a new home',
  )
}

/** Whether the home was copied or restored, and none of the other members has been reached since. */
export function isBehind({ mark, membership, identity }: Parts): boolean {
  const hasOthers = membership
    .roster()
    .members.some(({ peerId, revoked }) => peerId !== identity.peerId && revoked === undefined)
  return mark.isCopied && hasOthers
}

/**
 * Call this before anything is signed that follows what this node has signed before.
 * @throws InputError `behind` if the home was copied or restored and no member has been reached since.
 */
export function checkCaughtUp(parts: Parts): void {
  if (!isBehind(parts)) return
  throw new InputError(
    'behind',
    'this home folder was copied or restored from a backup, so other members may hold later statements of this node; start the node and try again once it has reached a member. If nothing was signed since the copy was made and no member can be reached, --alone signs all the same',
  )
}

/**
 * Withdraw every standing package of our own that has this name.
 * @param alone sign although the home was copied and no member has been reached
 * @throws InputError `not-found`, `behind`.
 */
export async function withdraw(parts: Parts, name: string, alone = false): Promise<Digest[]> {
  if (!alone) checkCaughtUp(parts)
  const ids = await parts.signing.run(async () => {
    const ids = await ownPackages(parts, name)
    if (ids.length === 0) throw new InputError('not-found', `no published expert named ${name}`)
    await signWithdrawals(parts, ids, 'owner-request')
    return ids
  })
  await parts.composer.recompose()
  await announce(parts)
  return ids
}

/** Sign a new head and announce it. Call this after our log or the roster has grown. */
export async function announce(parts: Parts): Promise<void> {
  await parts.sendHead(await parts.statements.renewHead(await ownPackages(parts)))
}

/**
 * Take in one statement from a member. Opens it and verifies its signature here, and only here. Resolves when the
 * statement is logged or refused; a manifest is also queued, and the queue calls `prepare` later. A head is only
 * compared with its publisher's log.
 * @returns whether the statement was new to us.
 */
export async function ingest(parts: Parts, envelope: Uint8Array): Promise<boolean> {
  let publisher: string | undefined
  let wasForked = true
  try {
    const statement = openStatementOfAnyKind(envelope)
    switch (statement.kind) {
      case 'roster':
        return await ingestRoster(parts, envelope)
      case 'withdrawal':
        publisher = statement.withdrawal.publisher
        wasForked = parts.statements.isForked(publisher)
        return await ingestWithdrawal(parts, statement)
      case 'manifest': {
        publisher = statement.manifest.publisher
        wasForked = parts.statements.isForked(publisher)
        if (!(await logManifest(parts, statement))) return false
        if (parts.standing.add(statement)) parts.queue.add(queued(statement))
        return true
      }
      case 'head':
        await ingestHead(parts, statement.head, envelope)
        return false
    }
  } catch (error) {
    if (publisher !== undefined && !wasForked && parts.statements.isForked(publisher)) {
      await actOnFork(parts, publisher)
    }
    if (!isRefusal(error)) {
      parts.log.warn('a statement could not be kept now and comes again with the next sync', error)
      return false
    }
    // The peer may hold a later roster or predecessors that we lack. It sends the statement again after those.
    if (error.code === 'not-a-member' || error.code === 'replayed') return false
    // Recorded under the envelope's digest, not the statement's id, so that a forged copy cannot get the genuine
    // statement refused. A publisher is named only if its signature was verified.
    await parts.verdicts.putEnvelope(refusedEnvelope(digestOf(envelope), error, parts.now(), publisher))
    return false
  }
}

async function ingestRoster(parts: Parts, envelope: Uint8Array): Promise<boolean> {
  const { membership, accepted, composer } = parts
  if (!(await membership.onRoster(envelope))) return false
  if ((await accepted.dropUncovered()).length > 0) await composer.recompose()
  parts.news.isPending = true
  return true
}

/** Compare a head, whose signature was verified, with its publisher's log: the two may prove a fork. Never rejects. */
export async function ingestHead(parts: Parts, head: Head, envelope: Uint8Array): Promise<void> {
  try {
    if (await parts.statements.compareHead(head, envelope)) await actOnFork(parts, head.publisher)
  } catch (error) {
    parts.log.warn('a head was not compared with the log of its publisher', error)
  }
}

/**
 * Take in a proof that a publisher has forked.
 * @returns whether it is the first against this publisher.
 */
export async function ingestFork(parts: Parts, envelopes: ForkEnvelopes): Promise<boolean> {
  const { statements, membership } = parts
  try {
    const fork = openForkProof(envelopes, membership.consortium)
    if (!(await statements.keepFork(fork))) return false
    await actOnFork(parts, fork.publisher)
    return true
  } catch (error) {
    parts.log.warn('a proof that a member has forked could not be kept', error)
    return false
  }
}

/** Stop using the packages of a publisher that has forked, and tell people and the other members. */
async function actOnFork(parts: Parts, publisher: string): Promise<void> {
  const { membership, identity, accepted, composer } = parts
  const isOwn = publisher === identity.peerId
  const institution = membership.institutionOf(publisher)
  parts.onEvent({ event: 'forked', institution, peerId: publisher, isOwn })
  if ((await accepted.dropUncovered()).length > 0) await composer.recompose()
  parts.news.isPending = true
}

/**
 * Announce our head if this node has learned a roster or a fork, so that the other members ask it. One announcement for
 * all that one pull has brought: heads must not be issued faster than time passes. Never rejects.
 */
export async function spreadNews(parts: Parts): Promise<void> {
  if (!parts.news.isPending) return
  parts.news.isPending = false
  try {
    await announce(parts)
  } catch (error) {
    parts.log.warn(
      'what this node has learned was not announced; members learn it with their next sync',
      error,
    )
  }
}

async function ingestWithdrawal(parts: Parts, statement: WithdrawalStatement): Promise<boolean> {
  const isNew = await logWithdrawal(parts, statement)
  if (!isNew) return false
  const dropped = await applyWithdrawal(parts, statement.withdrawal)
  if (dropped > 0) await parts.composer.recompose()
  return true
}

/** A package of the log as the queue keeps it. */
export function queued({ id, manifest }: OpenedManifest): QueuedPackage {
  return { id, publisher: manifest.publisher, seq: manifest.seq }
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
 * Run the checks that need no weights, then bring the package's file. A package that fails a check is refused here.
 * @returns how to judge it; undefined if there is nothing to judge.
 * @throws if the file cannot be fetched now, because of a local fault or because no connected member delivers it.
 */
export async function prepare(
  parts: Parts,
  { id }: QueuedPackage,
  signal: AbortSignal,
): Promise<JudgeFetched | undefined> {
  const { accepted, composer } = parts
  if (accepted.has(id)) {
    // An earlier attempt may have failed after the expert was accepted.
    if (!composer.serves(id)) await composer.recompose()
    return undefined
  }
  const envelope = await parts.statements.envelope(id)
  if (envelope === undefined) return undefined
  const statement: ManifestStatement = { kind: 'manifest', ...openManifest(envelope), envelope }
  if (await accepted.isRefusedByOperator(id)) {
    await accepted.deleteFiles(statement.manifest) // The fetch may have ended after the refusal.
    return undefined
  }
  if (!parts.standing.claim(statement)) return undefined // It waits for a place.
  parts.membership.checkRosterNotEnded()
  const beforeFetch = judgeManifest(statement, acceptanceContext(parts))
  if (beforeFetch.outcome === 'refused') {
    await accepted.decide(statement, beforeFetch, undefined)
    return undefined
  }
  const endHold = accepted.hold(statement.manifest)
  try {
    const refusal = await fetchFile(parts, statement, beforeFetch, signal)
    if (refusal === undefined) return () => judge(parts, statement, endHold).finally(endHold)
    await accepted.decide(statement, refusal, undefined, endHold)
    endHold()
    return undefined
  } catch (error) {
    endHold()
    throw error
  }
}

/**
 * Judge a package whose file is in the store. The verdict is on disk before the expert is composed.
 * @param endHold ends the hold on the package's file
 * @throws if no verdict can be reached now, because of a local fault.
 */
async function judge(parts: Parts, statement: ManifestStatement, endHold: () => void): Promise<void> {
  const { accepted, composer, states } = parts
  if (await accepted.isRefusedByOperator(statement.id)) return
  const report = (check: string): void => states.set(statement.id, { kind: 'judging', check })
  report('manifest')
  // Judged again, before and after: a withdrawal or a new roster may come while the file is fetched and measured.
  const before = judgeManifest(statement, acceptanceContext(parts))
  const published = accepted.list().filter(({ peerId }) => peerId === parts.identity.peerId)
  const judged = await judgeWeightsOf(
    parts,
    statement,
    before,
    report,
    published.map(({ name }) => name),
  )
  const afterwards = judgeManifest(statement, acceptanceContext(parts))
  const verdict = afterwards.outcome === 'refused' ? afterwards : judged.verdict
  if (await accepted.decide(statement, verdict, judged.tensors, endHold)) await composer.recompose()
}

/** A package of our own, whose file is in the store. @throws InputError `not-acceptable`. */
async function judgeOwn(parts: Parts, manifest: OpenedManifest['manifest']): Promise<JudgedPackage> {
  const draft = { manifest, id: digestOf(encodeManifest(manifest)) }
  const beforeFetch = judgeManifest(draft, acceptanceContext(parts))
  const judged = await judgeWeightsOf(parts, draft, beforeFetch, () => undefined)
  if (judged.verdict.outcome === 'accepted') return judged
  const { code, reason } = judged.verdict
  throw new InputError(
    'not-acceptable',
    `not published, because this node refuses it itself: ${code}, ${reason}`,
  )
}

async function judgeWeightsOf(
  parts: Parts,
  opened: OpenedManifest,
  beforeFetch: Verdict,
  report: (check: string) => void,
  trainingsExcept?: readonly string[],
): Promise<JudgedPackage> {
  if (beforeFetch.outcome === 'refused') return { verdict: beforeFetch }
  const { jobs, trainings, policy, composer, signal } = parts
  const { topK, router } = composer
  const publicStatistics = await trainings.publicStatistics()
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
  }
  return resultOf(jobs.run('judge', request, signal), ({ check }) => report(check))
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
async function fetchFile(
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

/** Stop using packages whose owner's consent has ended, and retry writes that failed. */
export async function upkeep(parts: Parts): Promise<void> {
  const { accepted, composer } = parts
  const dropped = await accepted.dropExpired()
  if (dropped.length > 0) await composer.recompose()
  await queuePlaced(parts)
  await accepted.flush()
}

/**
 * At start: withdraw older versions of our own packages, if a crash came after a new version was logged and before the
 * older ones were withdrawn.
 */
export async function supersedeOlder(parts: Parts): Promise<void> {
  const own = parts.accepted
    .manifests()
    .filter(({ manifest }) => manifest.publisher === parts.identity.peerId)
    .sort((a, b) => a.manifest.seq - b.manifest.seq)
  const latest = new Map(own.map(({ manifest, id }) => [manifest.expert.name, id]))
  const older = own.filter(({ manifest, id }) => latest.get(manifest.expert.name) !== id).map(({ id }) => id)
  if (older.length === 0 || parts.mark.isCopied) return
  await parts.signing.run(() => signWithdrawals(parts, older, 'superseded'))
  await parts.composer.recompose()
}

/** Our own packages that are not withdrawn, oldest first; those of one name if it is given. */
async function ownPackages(parts: Parts, name?: string): Promise<Digest[]> {
  const { peerId } = parts.identity
  const ids: Digest[] = []
  for await (const { envelope, digest } of parts.statements.of(peerId)) {
    const manifest = readLoggedManifest(envelope)
    if (manifest === undefined || (name !== undefined && manifest.expert.name !== name)) continue
    if (!parts.accepted.isWithdrawn(peerId, digest)) ids.push(digest)
  }
  return ids
}

/** Sign, log and carry out withdrawals of our own packages, in batches of at most `digestsPerStatement`. */
async function signWithdrawals(
  parts: Parts,
  ids: readonly Digest[],
  reason: Withdrawal['reason'],
): Promise<void> {
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
    await parts.mark.replace() // Before the log holds the withdrawal, which must then have its effect.
    await logWithdrawal(parts, { kind: 'withdrawal', withdrawal, id: digestOf(payload), envelope }, true)
    await applyWithdrawal(parts, withdrawal)
  }
}

/** @returns number of experts that were in use. */
async function applyWithdrawal(parts: Parts, { publisher, manifests, reason }: Withdrawal): Promise<number> {
  parts.standing.remove(publisher, manifests)
  const dropped = await parts.accepted.withdraw(publisher, manifests, reason)
  parts.queue.restart(manifests, publisher)
  await queuePlaced(parts)
  for (const { institution, id } of dropped) parts.onEvent({ event: 'withdrawn', institution, id })
  return dropped.length
}

/** Judge packages that have waited for a place among their publisher's packages and have one now. */
async function queuePlaced({ standing, statements, queue }: Parts): Promise<void> {
  for (const id of standing.takePlaced()) {
    const envelope = await statements.envelope(id)
    if (envelope !== undefined) queue.add(queued(openManifest(envelope)))
  }
}

function logManifest(
  { statements }: Parts,
  { manifest, id, envelope }: ManifestStatement,
  isOwn = false,
): Promise<boolean> {
  const { consortium } = manifest
  const statement = { kind: 'manifest', link: manifest, consortium, id, envelope } as const
  return statements.append(isOwn ? { ...statement, isDraft: true } : statement)
}

function logWithdrawal(
  { statements }: Parts,
  { withdrawal, id, envelope }: WithdrawalStatement,
  isOwn = false,
): Promise<boolean> {
  const { consortium } = withdrawal
  const statement = { kind: 'withdrawal', link: withdrawal, consortium, id, envelope } as const
  return statements.append(isOwn ? { ...statement, isDraft: true } : statement)
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
      params: publicModel.params,
    },
    policy,
    isWithdrawn: (publisher, id) => accepted.isWithdrawn(publisher, id),
    isForked: (publisher) => statements.isForked(publisher),
    now: parts.now(),
  }
}

/** True if the signed or received data is at fault; false for faults of this machine or the network. */
export function isRefusal(error: unknown): error is FlexMeshError {
  return error instanceof FlexMeshError && ['format', 'verification', 'policy'].includes(error.family)
}
