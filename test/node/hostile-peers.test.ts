/** The hostile peers of test/support/hostile do what they are meant to do against real nodes. */
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest'
import { decodeInvite } from '../../src/consortium/invite.ts'
import type { FlexMeshNode } from '../../src/node/node.ts'
import { cleanUp } from '../support/folders.ts'
import { askCharter } from '../support/hostile/guest.ts'
import { joinAsMember, STATEMENTS } from '../support/hostile/member.ts'
import { closed, HostilePeer, stopHostilePeers } from '../support/hostile/peer.ts'
import { cborFrame } from '../support/hostile/wire.ts'
import { network, type TestNetwork } from '../support/network.ts'
import { tinyModel } from '../support/tiny-model.ts'

let net: TestNetwork
let hospital: FlexMeshNode

beforeAll(async () => {
  net = await network(['Hospital'], await tinyModel())
  hospital = net.nodes[0] as FlexMeshNode
})
afterEach(stopHostilePeers)
afterAll(async () => {
  await net?.close()
  await cleanUp()
})

const address = (): string => hospital.addresses()[0] as string

describe('a hostile peer', () => {
  it('that is an outsider gets no connection while no invitation is open', async () => {
    const outsider = await HostilePeer.start(101)
    const connection = await outsider.dial(address()).catch(() => undefined)
    if (connection !== undefined) await closed(connection)
    expect(hospital.connectedMembers()).toEqual([])
  })

  it('that holds an invitation reads the charter', async () => {
    const guest = await HostilePeer.start(102)
    const { token } = decodeInvite(await hospital.invite())
    const frames = await askCharter(guest, await guest.dial(address()), token)
    expect(frames[0]).toHaveProperty('bytes')
  })

  it('that joined is a member, and honest nodes ask it for statements', async () => {
    const member = await joinAsMember(net.quorum, 'Mallory', 103)
    const asked = Promise.withResolvers<string>()
    await member.peer.serve(STATEMENTS, async (stream, from) => {
      asked.resolve(from)
      await stream.close()
    })
    const connection = await member.connect(hospital)
    expect(await asked.promise).toBe(hospital.identity.peerId)
    const request = cborFrame({ rosterVersion: 1, governance: new Uint8Array(32), known: [] })
    const rosters = await member.peer.request(connection, STATEMENTS, request)
    expect(rosters.length).toBeGreaterThan(0)
  })
})
