/**
 * What a node answers on each stream protocol, and what it needs of the rest of the program for that.
 * Knows neither streams nor who is allowed to ask.
 */

import type { JoinStatus } from '../consortium/membership-request.ts'
import type { PeerIdString } from '../identity/keys.ts'
import type { Digest } from '../lib/bytes.ts'
import { ExchangeError } from '../lib/errors.ts'
import type { MemberAddresses, Mesh } from '../network/mesh.ts'
import type { StatementsRequest } from '../statements/statement-log.ts'
import type { BlobStore } from '../store/blob-store.ts'
import { serveBlob } from './fetch-blob.ts'
import {
  decodeAddressesRequest,
  decodeBlobRequest,
  decodeJoinRequest,
  decodeStatementsRequest,
} from './messages.ts'
import type { ProtocolName } from './protocols.ts'

export interface ExchangeHandlers {
  isMember(peerId: PeerIdString): boolean
  /** Whether strangers may connect to join, because an invitation is open. */
  guestsOpen(): boolean
  /** Charter first, then rosters from version 2; undefined for a token that opens nothing. */
  charterFor(token: string): readonly Uint8Array[] | undefined
  onMembershipRequest(envelope: Uint8Array, from: PeerIdString): Promise<JoinStatus>
  /** What we want of a peer that we sync with. */
  wanted(): StatementsRequest
  /** Envelopes that a peer lacks, in the order in which it can check them. */
  statementsSince(request: StatementsRequest): AsyncIterable<Uint8Array>
  /** Resolves once the statement is kept or refused; a refusal is no rejection. */
  onStatement(envelope: Uint8Array, from: PeerIdString): Promise<void>
  /** Judge an announced head before it is relayed; `accept` also starts a sync with its sender. */
  judgeHead(envelope: Uint8Array): 'accept' | 'reject' | 'ignore'
  /** Whether something was announced that we do not hold. */
  isBehind(): boolean
  /** A sync with a member is complete; `addresses` are where members can be reached after a restart. */
  onSynced(peer: PeerIdString, addresses: readonly MemberAddresses[]): void
  mayRead(peerId: PeerIdString, digest: Digest): boolean
}

/** The frames of an answer. */
export type Answer = (request: unknown, from: PeerIdString, signal: AbortSignal) => AsyncIterable<unknown>

export function answersOf(
  handlers: ExchangeHandlers,
  blobs: BlobStore,
  mesh: Mesh,
): Readonly<Record<ProtocolName, Answer>> {
  return {
    async *join(value) {
      const request = decodeJoinRequest(value)
      if (request.kind === 'membership') {
        yield { status: await handlers.onMembershipRequest(request.envelope, '') }
        return
      }
      const envelopes = handlers.charterFor(request.token)
      if (envelopes === undefined) throw new ExchangeError('refused', 'unknown or expired invitation')
      for (const bytes of envelopes) yield { bytes }
    },
    async *statements(value) {
      for await (const bytes of handlers.statementsSince(decodeStatementsRequest(value))) yield { bytes }
    },
    async *addresses(value) {
      decodeAddressesRequest(value)
      for (const { peerId, addresses } of await mesh.known()) yield { peerId, addresses: [...addresses] }
    },
    async *blob(value, from, signal) {
      const request = decodeBlobRequest(value)
      if (!handlers.mayRead(from, request.digest)) {
        throw new ExchangeError('not-found', `no file ${request.digest}`)
      }
      yield* serveBlob(blobs, request, signal)
    },
  }
}
