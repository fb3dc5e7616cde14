/** Strangers and guests of a node while an invitation is open: what they learn, and how long they keep a place. */
import type { Connection } from '@libp2p/interface'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { decodeInvite, type Invite } from '../../src/consortium/invite.ts'
import { digestBytes } from '../../src/lib/bytes.ts'
import { joinConsortium } from '../../src/node/join.ts'
import type { FlexMeshNode } from '../../src/node/node.ts'
import { cleanUp } from '../support/folders.ts'
import { newHome } from '../support/homes.ts'
import { askCharter, askMembership } from '../support/hostile/guest.ts'
import { ADDRESSES, joinAsMember, STATEMENTS } from '../support/hostile/member.ts'
import { closed, HostilePeer, stopHostilePeers } from '../support/hostile/peer.ts'
import { cborFrame } from '../support/hostile/wire.ts'
import { network, now, type TestNetwork } from '../support/network.ts'
import { tinyModel } from '../support/tiny-model.ts'

const BLOB = '/flexmesh/blob/1.0.0'
const JOIN = '/flexmesh/join/2.0.0'
const HIDDEN = ['/ipfs/id/1.0.0', '/ipfs/ping/1.0.0', '/meshsub/1.1.0', '/meshsub/1.2.0', '/floodsub/1.0.0']

let net: TestNetwork
let hospital: FlexMeshNode
let invitation: string
let invite: Invite
let seed = 100

beforeAll(async () => {
  net = await network(['Hospital'], await tinyModel())
  hospital = net.nodes[0] as FlexMeshNode
})
beforeEach(async () => {
  invitation = await hospital.invite()
  invite = decodeInvite(invitation)
})
afterEach(stopHostilePeers)
afterAll(async () => {
  await net?.close()
  await cleanUp()
})

async function stranger(): Promise<{ peer: HostilePeer; connection: Connection }> {
  const peer = await HostilePeer.start(seed++)
  return { peer, connection: await peer.dial(hospital.addresses()[0] as string) }
}

/** A request for the hashes of a file of the public model. */
function publicFile(): Uint8Array {
  const [file] = hospital.charter.publicModel.files
  return cborFrame({ kind: 'hashes', digest: digestBytes(file?.sha256 as never) })
}

describe('a stranger without a token, while an invitation is open', () => {
  it('is answered on the join protocol only', async () => {
    const { connection } = await stranger()
    expect(await openTo(connection)).toEqual([JOIN])
  })

  it('is not sent announcements, and no stream is opened to it', async () => {
    const { peer, connection } = await stranger()
    const opened: string[] = []
    for (const protocol of HIDDEN) await peer.serve(protocol, () => void opened.push(protocol))
    await hospital.announce()
    await closed(connection)
    expect(opened).toEqual([])
    expect(peer.node.services.pubsub.getTopics()).toEqual([])
  })

  it('is disconnected when it asks nothing', async () => {
    const { connection } = await stranger()
    await closed(connection)
  })

  it('is refused and disconnected when it shows a wrong token', async () => {
    const { peer, connection } = await stranger()
    expect(await askCharter(peer, connection, 'ab'.repeat(16))).toEqual([{ error: 'refused' }])
    await closed(connection)
  })

  it('is refused and disconnected when it asks for membership with a wrong token', async () => {
    const { peer, connection } = await stranger()
    const { consortium } = invite
    const request = { consortium, institution: 'Mallory', token: 'ab'.repeat(16) }
    expect(await askMembership(peer, connection, request)).toEqual([{ status: 'refused' }])
    await closed(connection)
  })
})

describe('a guest that has shown its token', () => {
  it('reads the files of the public model, and sees no other protocol', async () => {
    const { peer, connection } = await stranger()
    await askCharter(peer, connection, invite.token)
    const [hashes] = await peer.request(connection, BLOB, publicFile())
    expect(hashes).toHaveProperty('bytes')
    expect(await openTo(connection)).toEqual([BLOB, JOIN])
  })

  it('cannot share its token with many: two peers are admitted, and one request waits', async () => {
    const answers: unknown[] = []
    for (let i = 0; i < 4; i++) {
      const { peer, connection } = await stranger()
      const { consortium, token } = invite
      const request = { consortium, institution: `Institution ${i}`, token }
      answers.push((await askMembership(peer, connection, request))[0])
    }
    const refused = { status: 'refused' }
    expect(answers).toEqual([{ status: 'pending' }, refused, refused, refused])
    const waiting = hospital.membership.invitations.requests().filter(({ token }) => token === invite.token)
    expect(waiting.map(({ institution }) => institution)).toEqual(['Institution 0'])
  })

  it('with the token of an institution that has joined is refused', async () => {
    const home = await newHome('Library')
    await joinConsortium({ home, now }, invitation, new AbortController().signal, ({ stage }) => {
      if (stage === 'waiting') void hospital.approve('Library')
    })
    await hospital.invite()
    const { peer, connection } = await stranger()
    expect(await askCharter(peer, connection, invite.token)).toEqual([{ error: 'refused' }])
    // Its node does not run, so it could endorse nothing in the tests that follow.
    await net.quorum.revoke('Library', 'left')
  })
})

describe('an invited institution', () => {
  it('joins while strangers take every place again and again', async () => {
    const attack = new AbortController()
    const peers = await Promise.all(Array.from({ length: 12 }, () => HostilePeer.start(seed++)))
    const address = hospital.addresses()[0] as string
    const hammer = async (peer: HostilePeer): Promise<void> => {
      while (!attack.signal.aborted) {
        const connection = await peer.dial(address).catch(() => undefined)
        if (connection !== undefined) await closed(connection)
      }
    }
    const attacks = peers.map(hammer)
    const home = await newHome('Archive')
    await joinConsortium({ home, now }, invitation, new AbortController().signal, ({ stage }) => {
      if (stage === 'waiting') void hospital.approve('Archive')
    })
    attack.abort()
    await stopHostilePeers()
    await Promise.all(attacks)
    const names = hospital.membership.roster().members.map(({ institution }) => institution)
    expect(names).toContain('Archive')
    await net.quorum.revoke('Archive', 'left')
  })
})

describe('a member that is revoked', () => {
  it('may still read the roster that says so, and nothing else, and is then disconnected', async () => {
    const member = await joinAsMember(net.quorum, 'Mallory', seed++)
    const first = await member.connect(hospital)
    await net.quorum.revoke('Mallory', 'compromised')
    await closed(first)
    const again = await member.connect(hospital)
    const request = cborFrame({ rosterVersion: 1, governance: new Uint8Array(32), known: [] })
    const frames = await member.peer.request(again, STATEMENTS, request)
    const version = hospital.membership.roster().version
    expect(frames).toHaveLength(version - 1)
    await expect(member.peer.request(again, BLOB, publicFile())).rejects.toThrow(/protocol/i)
    await closed(again)
    expect(hospital.connectedMembers()).toEqual([])
  })
})

/** The protocols on which a node lets a peer open a stream. */
async function openTo(connection: Connection): Promise<string[]> {
  const protocols: string[] = []
  for (const protocol of [...HIDDEN, STATEMENTS, ADDRESSES, BLOB, JOIN]) {
    const stream = await connection.newStream(protocol).catch(() => undefined)
    if (stream === undefined) continue
    protocols.push(protocol)
    stream.abort(new Error('only opened to see that it can be'))
  }
  return protocols
}
