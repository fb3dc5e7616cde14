/**
 * The data path, in order. Read this first, then follow the imports.
 *
 * `publish`   load -> derive -> audit -> release -> pack -> store -> judge our own -> sign -> spend -> log -> decide ->
 *             compose -> announce
 * `withdraw`  find -> sign -> log -> leave out -> compose -> announce
 * `ingest`    open and verify once -> log -> queue; a log that contradicts itself ends the use of its packages
 * `prepare`   check manifest -> fetch; called by the queue, for several packages at once
 * `judge`     check weights -> measure -> decide -> compose; called by the queue, for one package at a time
 * `upkeep`    drop experts whose consent has expired, retry writes that failed; called every hour
 *
 * What they share is in pipeline/. node/restore.ts reads the disk when a node opens; node/operator.ts carries out the
 * operator's decisions.
 */

import { judgeManifest, refusedEnvelope, type Verdict } from './acceptance/accept.ts'
import type { QueuedPackage } from './acceptance/fair-lines.ts'
import type { Judging } from './acceptance/package-states.ts'
import type { JudgeFetched } from './acceptance/queue.ts'
import { seal } from './identity/envelope.ts'
import { MEDIA_TYPES } from './identity/media-types.ts'
import { type Digest, digestOf } from './lib/bytes.ts'
import { InputError } from './lib/errors.ts'
import { removeLeftOver } from './lib/files.ts'
import type { PublishRequest } from './owner/release.ts'
import { encodeManifest, type Manifest, openManifest } from './packaging/manifest.ts'
import {
  type ManifestStatement,
  openStatementOfAnyKind,
  type WithdrawalStatement,
} from './packaging/open-statement.ts'
import {
  checkCaughtUp,
  checkPlace,
  draftOf,
  maySign,
  mustCatchUp,
  type Publication,
  type PublishOptions,
} from './pipeline/before-signing.ts'
import { actOnChained, logChained, receiveChained } from './pipeline/chained-effects.ts'
import { actOnFork, ingestHead } from './pipeline/forks.ts'
import { actOnRoster } from './pipeline/governance.ts'
import {
  acceptanceContext,
  checkFinal,
  fetchFile,
  judgeOwn,
  judgeWeightsOf,
  queued,
} from './pipeline/judging.ts'
import {
  announce,
  applyWithdrawal,
  logManifest,
  logWithdrawal,
  noticeSetBack,
  ownPackages,
  queuePlaced,
  signWithdrawals,
} from './pipeline/own-log.ts'
import { isRefusal, type Parts } from './pipeline/parts.ts'
import { answerWithdrawals } from './pipeline/receipts.ts'

/** What `publish` would publish. Stores, judges and signs nothing. @throws as `publish`, but for a failing judgement. */
export async function previewPublication(
  parts: Parts,
  request: PublishRequest,
  options: PublishOptions = {},
): Promise<Publication> {
  const { manifest, packed } = await draftOf(parts, request, undefined, options)
  return { manifest, replaces: await ownPackages(parts, request.name), derivation: packed.derivation }
}

/**
 * Publish a finished training, or an expert that is derived from it, such as one of lower rank. If this node's own
 * checks refuse the package, it is not signed. Earlier packages of the same name are withdrawn as superseded.
 * @throws InputError `not-found`, `not-acceptable`, `behind`, `disk-full`; FormatError `bad-field` for a licence or
 * domain that a manifest cannot hold; VerificationError `expired` after the end of the roster; the reason of the
 * signal, which has no effect once the package is judged.
 */
export async function publish(
  parts: Parts,
  request: PublishRequest,
  options: PublishOptions = {},
): Promise<Publication & { readonly id: Digest }> {
  const { statements, signing, blobs } = parts
  const into = blobs.temporaryPath()
  let endHold = (): void => undefined
  let draft: Manifest | undefined
  let isLogged = false
  try {
    const { manifest, packed } = await draftOf(parts, request, into, options)
    draft = manifest
    endHold = parts.accepted.files.hold(draft)
    await blobs.adopt(into, packed.file)
    const verdict = await judgeOwn(parts, draft, options)
    const published = await signing.run(async () => {
      if (request.alone !== true) checkCaughtUp(parts) // Again: judging takes long.
      const replaces = await ownPackages(parts, request.name)
      checkPlace(parts, replaces)
      const manifest = { ...(draft as Manifest), ...(await statements.next()) }
      const payload = encodeManifest(manifest)
      const id = digestOf(payload)
      const envelope = seal(MEDIA_TYPES.manifest, payload, [parts.identity])
      // Before anything can leave this machine.
      const { spending } = packed
      if (spending !== undefined) {
        await parts.trainings.budget.spend(spending.texts, spending.planned, spending.instead)
      }
      await parts.mark.replace() // Before the log holds the statement: what follows that must not fail.
      await logManifest(parts, { kind: 'manifest', manifest, id, envelope }, true)
      isLogged = true
      parts.standing.add({ manifest, id })
      await parts.accepted.decide({ manifest, id }, { ...verdict, id }, endHold)
      await signWithdrawals(parts, replaces, 'superseded')
      return { id, manifest, replaces, derivation: packed.derivation }
    })
    await parts.composer.recompose()
    parts.onEvent({ event: 'published', id: published.id, expert: request.name })
    await announce(parts)
    return published
  } catch (error) {
    endHold() // A second call has no effect.
    await removeLeftOver(into) // A thread that died while it wrote has left it.
    if (draft !== undefined && !isLogged) await parts.accepted.files.delete(draft)
    throw error
  }
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

/**
 * Take in one statement from a member. Opens it and verifies its signature here, and only here. Resolves when the
 * statement is logged or refused; a manifest is also queued, and the queue calls `prepare` later. A head is only
 * compared with its publisher's log.
 * @returns whether the statement was new to us.
 */
export async function ingest(parts: Parts, envelope: Uint8Array): Promise<boolean> {
  let publisher: string | undefined
  let wasForked = true
  let isKept = false
  try {
    const statement = openStatementOfAnyKind(envelope, parts.statements.signers)
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
        await noticeSetBack(parts, publisher)
        if (parts.standing.add(statement)) parts.queue.add(queued(statement))
        return true
      }
      case 'chained': {
        const { statement: further } = statement
        publisher = further.value.publisher
        wasForked = parts.statements.isForked(publisher)
        isKept = await receiveChained(parts, further)
        if (!(await logChained(parts, further))) return isKept
        await noticeSetBack(parts, publisher)
        await actOnChained(parts, further)
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
    if (error.code === 'not-a-member' || error.code === 'replayed') return isKept
    // Recorded under the envelope's digest, not the statement's id, so that a forged copy cannot get the genuine
    // statement refused. A publisher is named only if its signature was verified.
    await parts.verdicts.putEnvelope(refusedEnvelope(digestOf(envelope), error, parts.now(), publisher))
    return false
  }
}

async function ingestRoster(parts: Parts, envelope: Uint8Array): Promise<boolean> {
  if (!(await parts.membership.onRoster(envelope))) return false
  await actOnRoster(parts)
  return true
}

async function ingestWithdrawal(parts: Parts, statement: WithdrawalStatement): Promise<boolean> {
  const isNew = await logWithdrawal(parts, statement)
  if (!isNew) return false
  await noticeSetBack(parts, statement.withdrawal.publisher)
  const { withdrawal, id } = statement
  const dropped = await applyWithdrawal(parts, { ...withdrawal, id }, withdrawal)
  if (dropped > 0) await parts.composer.recompose()
  return true
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
  const statement: ManifestStatement = {
    kind: 'manifest',
    ...openManifest(envelope, parts.statements.signers),
    envelope,
  }
  if (await accepted.isRefusedByOperator(id)) {
    await accepted.files.delete(statement.manifest) // The fetch may have ended after the refusal.
    return undefined
  }
  if (!parts.standing.claim(statement)) return undefined // It waits for a place.
  checkFinal(parts, statement.manifest)
  parts.membership.checkRosterNotEnded()
  const beforeFetch = judgeManifest(statement, await acceptanceContext(parts, statement))
  if (beforeFetch.outcome === 'refused') {
    await accepted.decide(statement, beforeFetch, undefined)
    return undefined
  }
  const endHold = accepted.files.hold(statement.manifest)
  try {
    const refusal = await fetchFile(parts, statement, beforeFetch, signal)
    if (refusal === undefined) return () => judge(parts, statement, endHold).finally(endHold)
    await accepted.decide(statement, refusal, endHold)
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
export async function judge(parts: Parts, statement: ManifestStatement, endHold: () => void): Promise<void> {
  const { accepted, composer, verdicts } = parts
  if (await accepted.isRefusedByOperator(statement.id)) return
  await verdicts.beginJudging(statement.id)
  try {
    const verdict = await verdictOn(parts, statement)
    if (await accepted.decide(statement, verdict, endHold)) await composer.recompose()
  } finally {
    await verdicts.endJudging(statement.id)
  }
}

async function verdictOn(parts: Parts, statement: ManifestStatement): Promise<Verdict> {
  const { accepted, states } = parts
  const report = (progress: Judging): void => states.set(statement.id, { kind: 'judging', ...progress })
  report({ check: 'manifest' })
  // Judged again, before and after: a withdrawal or a new roster may come while the file is fetched and measured.
  const before = judgeManifest(statement, await acceptanceContext(parts, statement))
  const published = accepted.list().filter(({ peerId }) => peerId === parts.membership.seat)
  const trainingsExcept = published.map(({ name }) => name)
  const judged = await judgeWeightsOf(parts, statement, before, { report, trainingsExcept })
  const afterwards = judgeManifest(statement, await acceptanceContext(parts, statement))
  return afterwards.outcome === 'refused' ? afterwards : judged
}

/** Stop using packages whose owner's consent has ended, and retry writes that failed. */
export async function upkeep(parts: Parts): Promise<void> {
  const { accepted, composer } = parts
  const dropped = await accepted.dropExpired()
  if (dropped.length > 0) await composer.recompose()
  queuePlaced(parts)
  await accepted.flush()
  await answerWithdrawals(parts)
}

/**
 * At start: withdraw older versions of our own packages, if a crash came after a new version was logged and before the
 * older ones were withdrawn.
 */
export async function supersedeOlder(parts: Parts): Promise<void> {
  const own = parts.accepted
    .manifests()
    .filter(({ manifest }) => manifest.publisher === parts.membership.seat)
    .sort((a, b) => a.manifest.seq - b.manifest.seq)
  const latest = new Map(own.map(({ manifest, id }) => [manifest.expert.name, id]))
  const older = own.filter(({ manifest, id }) => latest.get(manifest.expert.name) !== id).map(({ id }) => id)
  if (older.length === 0 || mustCatchUp(parts) || !maySign(parts, 'packages')) return
  await parts.signing.run(() => signWithdrawals(parts, older, 'superseded'))
  await parts.composer.recompose()
}
