/**
 * The statements protocol: a member says what it holds and receives the signed statements that it lacks.
 * Implements protocols/package-exchange, Statements. Does not open the envelopes.
 */
import { setImmediate } from 'node:timers/promises'
import type { PeerIdString } from '../identity/keys.ts'
import { digestBytes, digestOf, equalBytes, toHex } from '../lib/bytes.ts'
import { encodeCbor } from '../lib/cbor.ts'
import { Fields } from '../lib/fields.ts'
import { limit } from '../lib/limits.ts'
import { decodeBytesFrame } from '../network/frames.ts'
import type { Answer, Asker } from '../network/network.ts'
import type { ProtocolRow } from '../network/protocol.ts'
import { decodeForkFrame, type ForkEnvelopes, forkFrame } from '../statements/fork.ts'
import type { Offered, StatementsRequest } from '../statements/log-answers.ts'
import type { ExchangeHandlers } from './handlers.ts'

export const STATEMENTS: ProtocolRow = {
  id: '/flexmesh/statements/3.0.0',
  maxRequestBytes: limit('requestBytes'),
  // A proof of a fork holds two envelopes; 64 bytes hold what CBOR adds.
  maxResponseBytes: 2 * limit('envelopeBytes') + 64,
  maxResponseFrames: limit('statementFrames'),
  timeoutMs: limit('chunkTimeout'),
  timeoutPer: 'answer',
  maxInboundStreams: limit('protocolInboundStreams'),
  // A member asks after every connection and every announcement; a decision of the consortium is several of them.
  quota: { burst: 128, everyMs: 25 },
  guests: 'revoked',
  sends: () => (_, frame) => ({ kind: isForkFrame(frame) ? 'fork' : 'statement', isSingle: true }),
}

/**
 * Maximum number of requests of one pull. It is below the burst of the quota, and 16 answers hold 65,536 statements;
 * a longer log is completed by later syncs.
 */
const MAX_REQUESTS = 16

/**
 * Maximum number of statements of one answer that bring nothing new. An honest member sends none, unless others have
 * sent them meanwhile; then the next request says so.
 */
const MAX_USELESS = 64
/** Time after which the other work of the node gets its turn, ms. */
const TURN_MS = 20

export interface StatementsHandlers {
  /** The request to send to a member: the statements that this node holds now. */
  wanted(): StatementsRequest
  /** What a member lacks, in the order in which it can verify it. */
  statementsSince(request: StatementsRequest): AsyncIterable<Offered>
  /** Whether the member that sent a request holds something that this node lacks. */
  isAhead(request: StatementsRequest, from: PeerIdString): boolean
  /** What shows a peer that it was revoked: signed rosters and statements about the consortium that it lacks. */
  rostersSince(request: StatementsRequest): readonly Uint8Array[]
  /** Resolves once the statement is stored or refused, with whether it was new. A refusal is not a rejection. */
  onStatement(envelope: Uint8Array, from: PeerIdString): Promise<boolean>
  /** Resolves once a proof that a member has forked is stored or refused, with whether it was new. */
  onFork(envelopes: ForkEnvelopes): Promise<boolean>
}

export function encodeStatementsRequest({ rosterVersion, governance, known }: StatementsRequest): unknown {
  return {
    rosterVersion,
    governance: digestBytes(governance),
    known: known.map((log) => ({ ...log, last: digestBytes(log.last) })),
  }
}

export function decodeStatementsRequest(value: unknown): StatementsRequest {
  const fields = new Fields(value, 'statements request')
  const rosterVersion = fields.uint('rosterVersion')
  const governance = `sha256:${toHex(fields.bytes('governance', 32))}` as const
  const known = fields.list('known', limit('members'), (item, title) => {
    const entry = new Fields(item, title)
    const publisher = entry.text('publisher', 64)
    const seq = entry.uint('seq')
    const last = `sha256:${toHex(entry.bytes('last', 32))}` as const
    const forked = entry.bool('forked')
    entry.end()
    return { publisher, seq, last, forked }
  })
  fields.end()
  return { rosterVersion, governance, known }
}

/**
 * A request also shows what its sender holds, so a node that lacks something of it asks in turn. A peer that is not a
 * member any more receives rosters and statements about the consortium only.
 */
export function serveStatements(init: {
  readonly handlers: StatementsHandlers & Pick<ExchangeHandlers, 'isMember'>
  /** Pull soon from a member, if this node still lacks then what its request has named. */
  readonly pullFrom: (peer: PeerIdString, request: StatementsRequest) => void
}): Answer {
  const { handlers, pullFrom } = init
  /** The last request of each peer that made this node ask in turn: the same one again brings nothing more. */
  const acted = new Map<PeerIdString, string>()
  return async function* (value, from) {
    const request = decodeStatementsRequest(value)
    if (handlers.isAhead(request, from)) {
      const key = digestOf(encodeCbor(encodeStatementsRequest(request)))
      if (acted.get(from) !== key) pullFrom(from, request)
      acted.set(from, key)
    }
    if (!handlers.isMember(from)) {
      for (const bytes of handlers.rostersSince(request)) yield { bytes }
      return
    }
    for await (const offered of handlers.statementsSince(request)) {
      yield offered.kind === 'fork' ? forkFrame(offered.envelopes) : { bytes: offered.envelope }
    }
  }
}

/** Frames of one answer. An answer of `STATEMENTS.maxResponseFrames` frames may be incomplete. */
async function* askStatements(
  network: Asker,
  peer: PeerIdString,
  request: StatementsRequest,
  signal: AbortSignal,
): AsyncGenerator<Offered, void, void> {
  const encoded = encodeStatementsRequest(request)
  for await (const frame of network.ask(peer, STATEMENTS, encoded, signal)) yield decodeStatementsFrame(frame)
}

function isForkFrame(frame: unknown): boolean {
  return typeof frame === 'object' && frame !== null && Object.hasOwn(frame, 'fork')
}

/** @throws FormatError `bad-field`. */
export function decodeStatementsFrame(frame: unknown): Offered {
  return isForkFrame(frame)
    ? { kind: 'fork', envelopes: decodeForkFrame(frame) }
    : { kind: 'statement', envelope: decodeBytesFrame(frame, limit('envelopeBytes')) }
}

/**
 * Pull the statements that `peer` has and this node lacks, and give each to `onStatement`. Asks again after an
 * answer that was full or held what could not be kept yet, but only if the answer brought something new: the next request
 * then differs from the last one.
 * @returns whether the last answer ended by itself: then this node holds all that `peer` holds.
 */
export async function pullStatements(
  network: Asker,
  peer: PeerIdString,
  handlers: Pick<StatementsHandlers, 'wanted' | 'onStatement' | 'onFork'>,
  signal: AbortSignal,
): Promise<boolean> {
  let request = handlers.wanted()
  let isComplete = false
  for (let requests = 1; requests <= MAX_REQUESTS; requests++) {
    let count = 0
    let useless = 0
    let turned = performance.now()
    for await (const offered of askStatements(network, peer, request, signal)) {
      count++
      const isNew =
        offered.kind === 'fork'
          ? await handlers.onFork(offered.envelopes)
          : await handlers.onStatement(offered.envelope, peer)
      if (!isNew && ++useless === MAX_USELESS) break
      if (performance.now() - turned < TURN_MS) continue
      await setImmediate() // Statements that are here already would keep everything else from running.
      turned = performance.now()
    }
    // An answer that was broken off may hold more, like a full one.
    const isFull = count === STATEMENTS.maxResponseFrames || useless === MAX_USELESS
    isComplete = !isFull
    const next = handlers.wanted()
    // A statement that could not be kept yet may be kept now that its publisher's admission is known. One that another
    // member has sent meanwhile counts as held.
    const isPostponed = useless > 0 && heldBy(next) - heldBy(request) < count
    const isNew = !equalBytes(
      encodeCbor(encodeStatementsRequest(next)),
      encodeCbor(encodeStatementsRequest(request)),
    )
    if (!isNew || !(isFull || isPostponed)) break
    request = next
  }
  return isComplete
}

/** Number of statements and signed rosters that the sender of a request holds. */
function heldBy({ rosterVersion, known }: StatementsRequest): number {
  return known.reduce((sum, { seq }) => sum + seq, rosterVersion)
}
