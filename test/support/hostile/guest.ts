/** What a hostile peer can do about invitations: prove a token, guess tokens, ask for membership in any name. */
import type { Connection } from '@libp2p/interface'
import { sealMembershipRequest } from '../../../src/consortium/membership-request.ts'
import type { Digest } from '../../../src/lib/bytes.ts'
import type { HostilePeer } from './peer.ts'
import { cborFrame } from './wire.ts'

const JOIN = '/flexmesh/join/2.0.0'

/** Ask for the charter with any token. @returns the decoded frames of the answer. */
export function askCharter(peer: HostilePeer, connection: Connection, token: string): Promise<unknown[]> {
  return peer.request(connection, JOIN, cborFrame({ kind: 'charter', token }))
}

/** Ask for membership under any name. @returns the decoded frames of the answer. */
export function askMembership(
  peer: HostilePeer,
  connection: Connection,
  request: { readonly consortium: Digest; readonly institution: string; readonly token: string },
): Promise<unknown[]> {
  const { identity, peerId } = peer
  const issuedAt = Math.floor(Date.now() / 1000)
  const envelope = sealMembershipRequest({ ...request, peerId, issuedAt }, identity)
  return peer.request(connection, JOIN, cborFrame({ kind: 'membership', envelope }))
}
