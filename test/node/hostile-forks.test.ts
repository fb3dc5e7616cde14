/** Members that sign two histories, and show each one to another connected node and announce both. */
import { afterEach, beforeEach, expect, it } from 'vitest'
import { seal } from '../../src/identity/envelope.ts'
import { MEDIA_TYPES } from '../../src/identity/media-types.ts'
import type { FlexMeshNode } from '../../src/node/node.ts'
import { type Manifest, openManifest } from '../../src/packaging/manifest.ts'
import { encodeHead } from '../../src/statements/head.ts'
import { cleanUp } from '../support/folders.ts'
import { HostileAuthor } from '../support/hostile/author.ts'
import { type HostileMember, joinAsMember } from '../support/hostile/member.ts'
import { showLog } from '../support/hostile/packages.ts'
import { stopHostilePeers } from '../support/hostile/peer.ts'
import { inUse, network, now, publish, run, type TestNetwork, train } from '../support/network.ts'
import { tinyModel } from '../support/tiny-model.ts'

const FORKS = 5

let net: TestNetwork

beforeEach(async () => {
  net = await network(['Hospital', 'Archive', 'University'], await tinyModel())
  await net.connected()
})
afterEach(async () => {
  await stopHostilePeers()
  await net.close()
  await cleanUp()
})

/** A head that names the latest statement of one history. */
function headOf(
  { peer, consortium }: HostileMember,
  { tip: { seq, digest: last } }: HostileAuthor,
): Uint8Array {
  const head = { consortium, publisher: peer.peerId, seq, last, manifests: [], withdrawals: [] }
  const times = { issuedAt: now(), expiresAt: now() + 3600 }
  return seal(MEDIA_TYPES.head, encodeHead({ ...head, ...times }), [peer.identity])
}

/** Show another history to each of two nodes, and announce both. */
async function fork(member: HostileMember, like: Manifest, nodes: readonly FlexMeshNode[]): Promise<void> {
  for (const [i, node] of nodes.entries()) {
    const author = new HostileAuthor(member, like)
    const { envelope } = author.manifest({ expert: { ...like.expert, name: `history-${i}` } })
    member.statements.splice(0, 1, envelope)
    await showLog(member, author.tip, node)
    await member.peer.publish(member.topic, headOf(member, author))
  }
}

it('are found out by every node, five of five, and none of their packages is used', async () => {
  const [hospital, archive, university] = net.nodes as [FlexMeshNode, FlexMeshNode, FlexMeshNode]
  const { id } = await run<{ id: string }>(hospital, 'propose', { kind: 'rules', subject: 'admit=2 members' })
  await net.watch.until('the proposal', () =>
    archive.membership.book.proposals().some((one) => one.id === id),
  )
  await run(archive, 'endorse', { id })
  await train(hospital, 'honest', 'hospital')
  const honest = await publish(hospital, 'honest')
  await net.accepted(1)
  const { manifest } = openManifest((await hospital.catalogue.statement(honest)) as Uint8Array)
  const members: HostileMember[] = []
  for (let i = 0; i < FORKS; i++) {
    const member = await joinAsMember(net.quorum, `Mallory ${i}`, 180 + i)
    members.push(member)
    await fork(member, manifest, [hospital, archive])
  }
  await net.watch.until('a proof of every fork at every node', () =>
    net.nodes.every((node) => members.every(({ peer }) => node.isForked(peer.peerId))),
  )
  await net.watch.until('the end of their packages', () =>
    net.nodes.every((node) => inUse(node).join() === honest),
  )
  expect(university.connectedMembers()).toEqual(
    expect.arrayContaining([hospital.membership.seat, archive.membership.seat]),
  )
})

it('are forgiven by the members only: they revoke the seat and admit the institution under another key', async () => {
  const [hospital, archive] = net.nodes as [FlexMeshNode, FlexMeshNode]
  await train(hospital, 'honest', 'hospital')
  const honest = await publish(hospital, 'honest')
  await net.accepted(1)
  const { manifest } = openManifest((await hospital.catalogue.statement(honest)) as Uint8Array)
  const member = await joinAsMember(net.quorum, 'Library', 190)
  await fork(member, manifest, [hospital, archive])
  await net.watch.until('a proof at every node', () =>
    net.nodes.every((node) => node.isForked(member.peer.peerId)),
  )
  await net.quorum.revoke('Library', 'compromised')
  const library = await net.join('Library')
  await train(library, 'letters', 'archive')
  const letters = await publish(library, 'letters')
  await net.watch.until('its package at every node', () =>
    net.nodes.every((node) => inUse(node).includes(letters)),
  )
  expect(net.nodes.every((node) => node.isForked(member.peer.peerId))).toBe(true)
})
