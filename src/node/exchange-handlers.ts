/** What the exchange asks of a node's parts, and what it tells them. Decides nothing itself. */
import type { ExchangeHandlers } from '../exchange/handlers.ts'
import { ingest, ingestFork, ingestHead, type Parts } from '../pipeline.ts'
import type { Catalogue } from '../store/catalogue.ts'
import type { Log } from '../telemetry/log.ts'
import { rememberAddresses } from './address-book.ts'

export function exchangeHandlers(parts: Parts, catalogue: Catalogue, log: Log): ExchangeHandlers {
  const { membership, statements, queue } = parts
  const publicFiles = new Set(membership.charter.publicModel.files.map(({ sha256 }) => sha256))
  return {
    isMember: (peer) => membership.isMember(peer),
    guestsOpen: () => membership.guestsOpen(),
    isRevoked: (peer) => membership.isListed(peer) && !membership.isMember(peer),
    rostersSince: (version) => membership.envelopesSince(version),
    charterFor: (token, from) =>
      membership.isMember(from) || membership.invitations.isOpen(token)
        ? membership.charterFor(token, from)
        : undefined,
    onMembershipRequest: (envelope) => membership.onRequest(envelope),
    wanted: () => statements.request(),
    statementsSince: (request) => statements.since(request),
    isAhead: (request) => statements.isAhead(request),
    onStatement: (envelope) => ingest(parts, envelope),
    onFork: (envelopes) => ingestFork(parts, envelopes),
    judgeHead: (envelope) => {
      const { judgement, head } = statements.judgeHead(envelope)
      if (head !== undefined) void ingestHead(parts, head, envelope) // Never rejects.
      return judgement
    },
    isBehind: () => statements.isBehind(),
    onSynced: (peer, addresses) => {
      log.debug(`synced with ${peer}`)
      if (membership.isMember(peer)) {
        confirm(parts, log).catch((error: unknown) =>
          log.warn('that this home has caught up was not written', error),
        )
      }
      queue.retry()
      rememberAddresses(catalogue, addresses).catch((error: unknown) =>
        log.warn('addresses of members were not stored, so a restart may not find them', error),
      )
    },
    mayRead: (peer, digest) => membership.isMember(peer) || publicFiles.has(digest),
  }
}

/** A member has told what it holds of this node, so a home that was copied or restored may sign again, and use what others publish. */
async function confirm({ mark, composer }: Parts, log: Log): Promise<void> {
  if (!mark.isCopied) return
  await mark.confirm()
  await composer.recompose()
  log.info('this home was copied or restored; it has caught up with the members and may sign again')
}
