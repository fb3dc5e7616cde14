/**
 * The statements protocol: a member says what it holds and receives the signed statements that it lacks.
 * Implements protocols/package-exchange, Statements. Does not open the envelopes.
 */
import type { PeerIdString } from '../identity/keys.ts'
import { equalBytes } from '../lib/bytes.ts'
import { encodeCbor } from '../lib/cbor.ts'
import { Fields } from '../lib/fields.ts'
import { limit } from '../lib/limits.ts'
import { decodeBytesFrame } from '../network/frames.ts'
import type { Answer, Asker } from '../network/network.ts'
import type { ProtocolRow } from '../network/protocol.ts'
import type { StatementsRequest } from '../statements/statement-log.ts'
import type { HeadHandlers } from './heads.ts'

export const STATEMENTS: ProtocolRow = {
  id: '/flexmesh/statements/1.0.0',
  maxRequestBytes: limit('requestBytes'),
  maxResponseBytes: limit('envelopeBytes'),
  maxResponseFrames: limit('statementFrames'),
  timeoutMs: limit('chunkTimeout'),
  timeoutPer: 'answer',
  maxInboundStreams: limit('protocolInboundStreams'),
  // A member asks after every connection and every announcement.
  quota: { burst: 32, everyMs: 50 },
  guests: false,
}

/**
 * Maximum number of requests of one pull. It is below the burst of the quota, and 16 answers hold 65,536 statements;
 * a longer log is completed by later syncs.
 */
const MAX_REQUESTS = 16

export interface StatementsHandlers {
  /** The request to send to a member: the statements that this node holds now. */
  wanted(): StatementsRequest
  /** Envelopes that a member lacks, in the order in which it can verify them. */
  statementsSince(request: StatementsRequest): AsyncIterable<Uint8Array>
  /** Resolves, with any value, once the statement is stored or refused. A refusal is not a rejection. */
  onStatement(envelope: Uint8Array, from: PeerIdString): Promise<unknown>
}

export function decodeStatementsRequest(value: unknown): StatementsRequest {
  const fields = new Fields(value, 'statements request')
  const rosterVersion = fields.uint('rosterVersion')
  const known = fields.list('known', limit('members'), (item, title) => {
    const entry = new Fields(item, title)
    const publisher = entry.text('publisher', 64)
    const seq = entry.uint('seq')
    entry.end()
    return { publisher, seq }
  })
  fields.end()
  return { rosterVersion, known }
}

export function serveStatements({ handlers }: { readonly handlers: StatementsHandlers }): Answer {
  return async function* (value) {
    for await (const bytes of handlers.statementsSince(decodeStatementsRequest(value))) yield { bytes }
  }
}

/** Envelopes of one answer. An answer of `STATEMENTS.maxResponseFrames` envelopes may be incomplete. */
async function* askStatements(
  network: Asker,
  peer: PeerIdString,
  request: StatementsRequest,
  signal: AbortSignal,
): AsyncGenerator<Uint8Array, void, void> {
  for await (const frame of network.ask(peer, STATEMENTS, request, signal)) {
    yield decodeBytesFrame(frame, limit('envelopeBytes'))
  }
}

/**
 * Pull the statements that `peer` has and this node lacks, and give each to `onStatement`. Asks again after an
 * answer that was full or left this node behind, but only if the answer brought something new: the next request then
 * differs from the last one.
 */
export async function pullStatements(
  network: Asker,
  peer: PeerIdString,
  handlers: Pick<StatementsHandlers, 'wanted' | 'onStatement'> & Pick<HeadHandlers, 'isBehind'>,
  signal: AbortSignal,
): Promise<void> {
  let request = handlers.wanted()
  for (let requests = 1; requests <= MAX_REQUESTS; requests++) {
    let count = 0
    for await (const envelope of askStatements(network, peer, request, signal)) {
      count++
      await handlers.onStatement(envelope, peer)
    }
    const isFull = count === STATEMENTS.maxResponseFrames
    const next = handlers.wanted()
    const isNew = !equalBytes(encodeCbor(next), encodeCbor(request))
    if (!isNew || !(isFull || handlers.isBehind())) return
    request = next
  }
}
