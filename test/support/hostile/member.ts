/**
 * A hostile member: it joins the consortium of a real node by the specified protocol and may then lie about everything.
 * Its statements are whatever bytes a test hands it, and so are the answers of its other protocols.
 */
import type { Connection, Stream } from '@libp2p/interface'
import { decodeInvite } from '../../../src/consortium/invite.ts'
import type { Digest } from '../../../src/lib/bytes.ts'
import type { FlexMeshNode } from '../../../src/node/node.ts'
import { askCharter, askMembership } from './guest.ts'
import { type HostileOptions, HostilePeer } from './peer.ts'
import { cborFrame } from './wire.ts'

export const STATEMENTS = '/flexmesh/statements/3.0.0'
export const ADDRESSES = '/flexmesh/addresses/1.0.0'

export interface HostileMember {
  readonly peer: HostilePeer
  readonly consortium: Digest
  /** The topic on which the members announce their heads. */
  readonly topic: string
  /** Envelopes of the charter and of all rosters at the time of joining. */
  readonly charter: readonly Uint8Array[]
  /** Envelopes that this member offers; a test may change the list at any time. */
  readonly statements: Uint8Array[]
  /** Frames of the answer to a request for addresses. */
  readonly addresses: { readonly peerId: string; readonly addresses: readonly string[] }[]
  /** Connect to an honest node as a member. */
  connect(node: Pick<FlexMeshNode, 'addresses'>): Promise<Connection>
}

/** What joining needs of a founder's node, which may run in another process. */
export interface Founder extends Pick<FlexMeshNode, 'addresses' | 'invite'> {
  approve(who: string): Promise<unknown>
}

/** Join under a name, with a founder's approval. The node stays in control of the key made from `seed`. */
export async function joinAsMember(
  founder: Founder,
  institution: string,
  seed: number,
  options: HostileOptions = {},
): Promise<HostileMember> {
  const peer = await HostilePeer.start(seed, options)
  const { consortium, token, addresses } = decodeInvite(await founder.invite())
  const asGuest = await peer.dial(addresses[0] as string)
  await askCharter(peer, asGuest, token)
  await askMembership(peer, asGuest, { consortium, institution, token })
  await founder.approve(peer.peerId)
  const charter = await askCharter(peer, asGuest, token)
  await asGuest.close()
  const statements: Uint8Array[] = []
  const told: HostileMember['addresses'] = []
  const answerAll = (frames: () => Iterable<unknown>) => async (stream: Stream) => {
    // After the request: libp2p loses an answer that arrives complete while the asking side still negotiates.
    for await (const _ of stream) {
      for (const frame of frames()) stream.send(cborFrame(frame))
      return stream.close()
    }
  }
  await peer.serve(
    STATEMENTS,
    answerAll(() => statements.map((bytes) => ({ bytes }))),
  )
  await peer.serve(
    ADDRESSES,
    answerAll(() => told),
  )
  return {
    peer,
    consortium,
    topic: `/flexmesh/${consortium.replace('sha256:', '')}/heads/1.0.0`,
    charter: charter.map((frame) => (frame as { bytes: Uint8Array }).bytes),
    statements,
    addresses: told,
    connect: (node) => peer.dial(node.addresses()[0] as string),
  }
}
