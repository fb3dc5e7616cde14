/**
 * The join protocol: a peer that holds an invitation asks for the charter, the rosters and the
 * statements about the consortium, and then for membership. Implements protocols/package-exchange, Join. Does not decide who becomes a member.
 */
import { JOIN_STATUS, type JoinStatus, openMembershipRequest } from '../consortium/membership-request.ts'
import type { PeerIdString } from '../identity/keys.ts'
import { ExchangeError } from '../lib/errors.ts'
import { Fields } from '../lib/fields.ts'
import { limit } from '../lib/limits.ts'
import { decodeBytesFrame, firstFrame, requireFrame } from '../network/frames.ts'
import type { Answer, Asker, Network } from '../network/network.ts'
import type { ProtocolRow } from '../network/protocol.ts'

export const JOIN: ProtocolRow = {
  id: '/flexmesh/join/2.0.0',
  maxRequestBytes: limit('envelopeBytes'),
  maxResponseBytes: limit('envelopeBytes'),
  maxResponseFrames: limit('statementFrames'),
  timeoutMs: limit('requestTimeout'),
  timeoutPer: 'answer',
  maxInboundStreams: limit('protocolInboundStreams'),
  // While a joining node waits for approval, it asks once a second.
  quota: { burst: 16, everyMs: 500 },
  guests: 'all',
  sends: (value) => {
    const isCharter = decodeJoinRequest(value).kind === 'charter'
    return () => (isCharter ? { kind: 'charter', isSingle: true } : { kind: 'join' })
  },
}

export type JoinRequest =
  | { readonly kind: 'charter'; readonly token: string }
  | { readonly kind: 'membership'; readonly envelope: Uint8Array }

export interface JoinHandlers {
  /**
   * The charter, then the signed rosters and the statements about the consortium. Undefined when `token` belongs to no open invitation and `from` is
   * not a member.
   */
  charterFor(token: string, from: PeerIdString): readonly Uint8Array[] | undefined
  onMembershipRequest(envelope: Uint8Array, from: PeerIdString): Promise<JoinStatus>
}

export function decodeJoinRequest(value: unknown): JoinRequest {
  const fields = new Fields(value, 'join request')
  const kind = fields.literal('kind', 'charter', 'membership')
  const request: JoinRequest =
    kind === 'charter'
      ? { kind, token: fields.text('token', 32, /^[a-f0-9]{32}$/) }
      : { kind, envelope: fields.bytes('envelope', { max: limit('envelopeBytes') }) }
  fields.end()
  return request
}

export function decodeStatusFrame(value: unknown): JoinStatus {
  const fields = new Fields(value, 'join answer')
  const status = fields.literal('status', ...JOIN_STATUS)
  fields.end()
  return status
}

/** A request with the token of an open invitation also admits its sender as a guest. */
export function serveJoin({
  handlers,
  network,
}: {
  readonly handlers: JoinHandlers
  readonly network: Pick<Network, 'admitGuest'>
}): Answer {
  const admit = (from: PeerIdString, token: string): void => {
    if (!network.admitGuest(from, token)) throw new ExchangeError('refused', `${from}: too many guests`)
  }
  return async function* (value, from) {
    const request = decodeJoinRequest(value)
    if (request.kind === 'membership') {
      const status = await handlers.onMembershipRequest(request.envelope, from)
      if (status === 'pending') admit(from, openMembershipRequest(request.envelope).token)
      yield { status }
      return
    }
    const envelopes = handlers.charterFor(request.token, from)
    if (envelopes === undefined) throw new ExchangeError('refused', 'unknown or expired invitation')
    admit(from, request.token)
    for (const bytes of envelopes) yield { bytes }
  }
}

/** Envelopes of the charter, then of signed rosters and statements about the consortium. @throws ExchangeError `refused` for a wrong token. */
export async function askCharter(
  network: Asker,
  peer: PeerIdString,
  token: string,
  signal: AbortSignal,
): Promise<Uint8Array[]> {
  const request: JoinRequest = { kind: 'charter', token }
  const envelopes: Uint8Array[] = []
  for await (const frame of network.ask(peer, JOIN, request, signal)) {
    envelopes.push(decodeBytesFrame(frame, limit('envelopeBytes')))
  }
  return envelopes
}

/** Send a signed membership request. @throws FormatError `truncated` when the answer is empty. */
export async function askMembership(
  network: Asker,
  peer: PeerIdString,
  envelope: Uint8Array,
  signal: AbortSignal,
): Promise<JoinStatus> {
  const request: JoinRequest = { kind: 'membership', envelope }
  const frame = await firstFrame(network.ask(peer, JOIN, request, signal))
  return decodeStatusFrame(requireFrame(frame, 'join answer'))
}
