/** Attacks of a member on the network of the others. Each ends with honest members that go on. */
import type { Connection } from '@libp2p/interface'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { digestBytes } from '../../src/lib/bytes.ts'
import { limit } from '../../src/lib/limits.ts'
import type { FlexMeshNode } from '../../src/node/node.ts'
import { cleanUp } from '../support/folders.ts'
import { ADDRESSES, type HostileMember, joinAsMember, STATEMENTS } from '../support/hostile/member.ts'
import { closed, stopHostilePeers } from '../support/hostile/peer.ts'
import { cborFrame, emptyMaps, frameOf, nestedLists, varint } from '../support/hostile/wire.ts'
import { network, type TestNetwork } from '../support/network.ts'
import { tinyModel } from '../support/tiny-model.ts'

const MIB = 2 ** 20
const BLOB = '/flexmesh/blob/1.0.0'

let net: TestNetwork
let hospital: FlexMeshNode
let archive: FlexMeshNode
let mallory: HostileMember
let seed = 150

beforeAll(async () => {
  net = await network(['Hospital', 'Archive'], await tinyModel())
  ;[hospital, archive] = net.nodes as [FlexMeshNode, FlexMeshNode]
  await net.connected()
})
beforeEach(async () => {
  mallory = await joinAsMember(net.quorum, `Mallory ${seed}`, seed++)
})
afterEach(async () => {
  await stopHostilePeers()
  // Honest members are still connected and still exchange statements.
  expect(hospital.connectedMembers()).toContain(archive.identity.peerId)
  if (hospital.membership.isMember(mallory.peer.peerId)) {
    await net.quorum.revoke(mallory.peer.peerId, 'compromised')
  }
  const version = hospital.membership.roster().version
  await net.watch.until('the next roster', () => archive.membership.roster().version === version)
})
afterAll(async () => {
  await net?.close()
  await cleanUp()
})

/** Answer the next request for statements with these bytes. Resolves once the stream has ended. */
async function answered(bytes: Uint8Array): Promise<void> {
  const ended = Promise.withResolvers<void>()
  await mallory.peer.serve(STATEMENTS, (stream) => {
    stream.addEventListener('close', () => ended.resolve())
    for (let at = 0; at < bytes.length && stream.status === 'open'; at += MIB) {
      stream.send(bytes.subarray(at, at + MIB))
    }
  })
  await ended.promise
}

/** Let everybody in this process act. */
const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve))

/** Resident bytes that a node adds while `attack` runs. The attacker runs in this process, too, and is small. */
async function growthDuring(attack: () => Promise<void>): Promise<number> {
  const before = process.memoryUsage.rss()
  let most = before
  const timer = setInterval(() => {
    most = Math.max(most, process.memoryUsage.rss())
  }, 20)
  await attack()
  clearInterval(timer)
  return Math.max(most, process.memoryUsage.rss()) - before
}

describe('a member that answers with CBOR made to cost memory', () => {
  it.each([
    ['three million empty maps', () => frameOf(emptyMaps(3_000_000))],
    ['lists nested three million times', () => frameOf(nestedLists(3_000_000))],
    ['a frame that says it has 2^63 bytes', () => varint(2n ** 63n)],
    ['a frame that says it has 2^64 - 1 bytes', () => varint(2n ** 64n - 1n)],
    ['a small frame nested 5000 times', () => frameOf(nestedLists(5000))],
    ['a small frame with 12,000 items', () => frameOf(emptyMaps(12_000))],
  ])('%s: is refused after few answers, with little memory', async (_, make) => {
    const bytes = make()
    const growth = await growthDuring(async () => {
      // A broken answer counts four faults of twenty.
      for (let answers = 0; answers < 6; answers++) {
        const connection = await mallory.connect(hospital)
        await Promise.race([answered(bytes), closed(connection)])
        await connection.close()
      }
    })
    const again = await mallory.connect(hospital).catch(() => undefined)
    if (again !== undefined) await closed(again)
    expect(growth).toBeLessThan(128 * MIB)
  })
})

describe('a member that floods', () => {
  /** Resolves once the hospital has closed the connection and refuses another one. */
  async function refused(connection: Connection): Promise<void> {
    await closed(connection)
    const again = await mallory.connect(hospital).catch(() => undefined)
    if (again !== undefined) await closed(again)
  }

  it('the topic with announcements that are not signed heads is cut off', async () => {
    const connection = await mallory.connect(hospital)
    await mallory.peer.node.services.identify.identify(connection)
    await subscribed()
    for (let i = 0; connection.status === 'open'; i++) {
      await mallory.peer.publish(mallory.topic, Buffer.from(`${i}`)).catch(() => undefined)
      await turn()
    }
    await refused(connection)
  })

  it('the topic with 20,000 messages at once is cut off, and the node answers meanwhile', async () => {
    const connection = await mallory.connect(hospital)
    const stream = await mallory.peer.open(connection, '/meshsub/1.1.0')
    const rpc = invalidMessages(mallory.topic)
    let sent = 0
    while (sent < 20_000 && stream.status === 'open') {
      stream.send(rpc)
      sent += 32
      if (sent % 320 === 0) await turn()
    }
    await refused(connection)
  })

  it('requests beyond its quota is refused, also over new connections', async () => {
    let refusals = 0
    const request = cborFrame({})
    for (let connection = await mallory.connect(hospital); connection.status === 'open'; ) {
      const frames = await mallory.peer.request(connection, ADDRESSES, request).catch(() => [])
      await turn()
      if ((frames[0] as { error?: string } | undefined)?.error !== 'quota') continue
      refusals++
      if (refusals === 5) {
        await connection.close()
        connection = await mallory.connect(hospital)
      }
    }
    expect(refusals).toBeLessThanOrEqual(limit('faultsBeforeRefusal') + 2)
  })

  it('frames that break the specification is refused', async () => {
    const connection = await mallory.connect(hospital)
    for (let i = 0; connection.status === 'open' && i < 1000; i++) {
      await mallory.peer.request(connection, STATEMENTS, cborFrame({ no: 'request' })).catch(() => [])
      await turn()
    }
    await refused(connection)
  })

  it('a stream with more data in one frame than any request has is refused', async () => {
    const connection = await mallory.connect(hospital)
    const stream = await mallory.peer.open(connection, STATEMENTS)
    stream.send(new Uint8Array(2 ** 17))
    await refused(connection)
  })

  it('a stream after its request has that stream reset', async () => {
    const connection = await mallory.connect(hospital)
    const [file] = hospital.charter.publicModel.files
    const stream = await mallory.peer.open(connection, BLOB)
    stream.addEventListener('message', () => undefined)
    stream.send(cborFrame({ kind: 'hashes', digest: digestBytes(file?.sha256 as never) }))
    const growth = await growthDuring(async () => {
      for (let i = 0; i < 2000 && stream.status === 'open'; i++) {
        stream.send(new Uint8Array(2 ** 16))
        await turn()
      }
    })
    expect(stream.status).not.toBe('open')
    expect(growth).toBeLessThan(128 * MIB)
  })
})

describe('a member that opens', () => {
  it('many connections keeps two', async () => {
    const connections: Connection[] = []
    for (let i = 0; i < 20; i++) connections.push(await mallory.connect(hospital))
    const open = () => connections.filter(({ status }) => status === 'open').length
    while (open() > limit('connectionsPerPeer')) {
      await Promise.race(connections.filter(({ status }) => status === 'open').map(closed))
    }
    expect(open()).toBe(limit('connectionsPerPeer'))
  })

  it('a thousand streams has few of them', async () => {
    const connection = await mallory.connect(hospital)
    const opening = Array.from({ length: 1000 }, () =>
      // A stream that the node ignores would wait for long. Each has a signal of its own, because libp2p adds listeners.
      connection.newStream(STATEMENTS, { maxOutboundStreams: 10_000, signal: AbortSignal.timeout(5_000) }),
    )
    const settled = await Promise.allSettled(opening)
    const open = settled.filter((one) => one.status === 'fulfilled' && one.value.status === 'open')
    expect(open.length).toBeLessThanOrEqual(limit('protocolInboundStreams'))
  })
})

describe('a member that is revoked', () => {
  it('is disconnected by every member that learns of it', async () => {
    const { peerId } = mallory.peer
    await net.watch.until('the roster with the member', () => archive.membership.isMember(peerId))
    const connection = await mallory.connect(archive)
    await net.quorum.revoke(peerId, 'compromised')
    await closed(connection)
    expect(archive.membership.isMember(peerId)).toBe(false)
  })
})

/** Resolves once the hostile member knows that the hospital has subscribed to the topic. */
async function subscribed(): Promise<void> {
  const { pubsub } = mallory.peer.node.services
  while (pubsub.getSubscribers(mallory.topic).length === 0) {
    await new Promise((resolve) => pubsub.addEventListener('subscription-change', resolve, { once: true }))
  }
}

/** A gossipsub RPC with 32 messages of a member that have a signature of the right length and a wrong value. */
function invalidMessages(topic: string): Uint8Array {
  const field = (number: number, bytes: Uint8Array): Uint8Array =>
    Buffer.concat([varint(number * 8 + 2), varint(bytes.length), bytes])
  const messages = Array.from({ length: 32 }, (_, i) =>
    field(
      2,
      Buffer.concat([
        field(1, mallory.peer.node.peerId.toMultihash().bytes),
        field(2, Buffer.from(`message ${i}`)),
        field(3, new Uint8Array(8).fill(i)),
        field(4, Buffer.from(topic)),
        field(5, new Uint8Array(64).fill(7)),
      ]),
    ),
  )
  return frameOf(Buffer.concat(messages))
}
