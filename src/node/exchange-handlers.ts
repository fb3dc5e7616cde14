/** What the exchange asks of a node's parts, and what it tells them. Decides nothing itself. */
import type { ExchangeHandlers } from '../exchange/handlers.ts'
import { ingestFork, ingestHead, spreadNews } from '../pipeline/forks.ts'
import type { Parts } from '../pipeline/parts.ts'
import { answerWithdrawals } from '../pipeline/receipts.ts'
import { ingest } from '../pipeline.ts'
import type { Log } from '../telemetry/log.ts'
import { rememberAddresses } from './address-book.ts'
import type { LastSeen } from './last-seen.ts'
import type { SyncWatch } from './sync-watch.ts'

export function exchangeHandlers(
  parts: Parts,
  lastSeen: LastSeen,
  watch: SyncWatch,
  log: Log,
): ExchangeHandlers {
  const { membership, statements, queue, catalogue, claims, logs, witness } = parts
  const publicFiles = new Set(membership.charter.publicModel.files.map(({ sha256 }) => sha256))
  return {
    isMember: (peer) => membership.seatOfMember(peer) !== undefined,
    guestsOpen: () => membership.guestsOpen(),
    isRevoked: (peer) => {
      const seat = membership.keys.seatOf(peer)
      return seat !== undefined && membership.isListed(seat) && !membership.isMember(seat)
    },
    rostersSince: ({ rosterVersion, governance }) => [
      ...membership.book.envelopesSince(rosterVersion),
      ...(governance === membership.book.governanceDigest()
        ? []
        : membership.book.governanceEnvelopes().reverse()),
    ],
    charterFor: (token, from) =>
      membership.seatOfMember(from) !== undefined || membership.invitations.isOpen(token)
        ? membership.charterFor(token, from)
        : undefined,
    onMembershipRequest: (envelope) => membership.onRequest(envelope),
    wanted: () => statements.request(),
    statementsSince: async function* (request) {
      const seq = statements.ownSeq()
      yield* statements.since(request)
      watch.sent(seq) // The answer was read to its end.
    },
    isAhead: (request, from) => {
      if (membership.seatOfMember(from) !== undefined) claims.claim(from, statements.claimedOwnSeq(request))
      return statements.isAhead(request)
    },
    onStatement: (envelope) => ingest(parts, envelope),
    onFork: (envelopes) => ingestFork(parts, envelopes),
    judgeHead: (envelope) => {
      const { judgement, head } = statements.judgeHead(envelope)
      // Neither rejects.
      if (head !== undefined) void ingestHead(parts, head, envelope).then(() => spreadNews(parts))
      return judgement
    },
    isBehind: (peer) => {
      const seat = peer === undefined ? undefined : membership.seatOfMember(peer)
      return (peer === undefined || seat !== undefined) && statements.isBehind(seat)
    },
    onPulled: (peer) => {
      claims.asked(peer, statements.ownSeq())
      void answerWithdrawals(parts).then(() => spreadNews(parts)) // Neither rejects.
      logs.settle().catch((error: unknown) => log.warn('checkpoints were not compared with the logs', error))
    },
    onSynced: (peer, addresses, isComplete) => {
      log.debug(`synced with ${peer}`)
      const seat = membership.seatOfMember(peer)
      lastSeen
        .remember(seat ?? peer)
        .catch((error: unknown) => log.warn('when a member was seen last was not written', error))
      if (isComplete && seat !== undefined) {
        watch.told(seat)
        confirm(parts, watch.tellers, log)
          .catch((error: unknown) => log.warn('that this home has caught up was not written', error))
          .finally(() => watch.wake())
      }
      queue.retry()
      parts.requestCosignatures()
      rememberAddresses(catalogue, addresses).catch((error: unknown) =>
        log.warn('addresses of members were not stored, so a restart may not find them', error),
      )
    },
    onAddCheckpoint: (body) => witness.answer(body),
    checkpointsSince: (known) => logs.notes.newsFor(known),
    knownCheckpoints: () => logs.notes.known(),
    onCheckpoint: (news) => logs.onNews(news),
    mayRead: (peer, digest) => membership.seatOfMember(peer) !== undefined || publicFiles.has(digest),
  }
}

/** Number of members that must have told what they hold, if there are so many others: one alone may lag behind or lie. */
const TELLERS = 2

/** Members have told what they hold, so a home that was copied or restored may sign again and use what others publish. */
async function confirm(parts: Parts, tellers: number, log: Log): Promise<void> {
  const { mark, membership, composer } = parts
  const others = membership.roster().members.filter(({ revoked }) => revoked === undefined).length - 1
  if (!mark.isCopied || tellers < Math.min(TELLERS, others)) return
  await mark.confirm()
  await composer.recompose()
  await answerWithdrawals(parts)
  await spreadNews(parts)
  log.info('this home was copied or restored; it has caught up with the members and may sign again')
}
