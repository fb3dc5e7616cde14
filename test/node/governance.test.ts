/** Decisions of a consortium through the commands of real nodes. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import type { MEMBERS } from '../../src/commands/members.ts'
import type { ProposalReport } from '../../src/commands/proposal-lines.ts'
import type { NodeStatus } from '../../src/commands/status.ts'
import { rosterDigest } from '../../src/consortium/roster.ts'
import type { FlexMeshNode } from '../../src/node/node.ts'
import { cleanUp } from '../support/folders.ts'
import { network, run, type TestNetwork } from '../support/network.ts'
import { tinyModel } from '../support/tiny-model.ts'

type MembersResult = Parameters<typeof MEMBERS.words>[0]

let net: TestNetwork
let hospital: FlexMeshNode
let archive: FlexMeshNode
let university: FlexMeshNode

beforeAll(async () => {
  net = await network(['Hospital', 'Archive', 'University'], await tinyModel())
  ;[hospital, archive, university] = net.nodes as [FlexMeshNode, FlexMeshNode, FlexMeshNode]
  await net.connected()
})
afterAll(async () => {
  await net?.close()
  await cleanUp()
})

const propose = (node: FlexMeshNode, request: object): Promise<ProposalReport> =>
  run(node, 'propose', request)

/** Resolves once a node holds a proposal. */
function knows(node: FlexMeshNode, { id }: ProposalReport): Promise<void> {
  return net.watch.until('the proposal', () => node.membership.book.proposals().some((one) => one.id === id))
}

function agree(): Promise<void> {
  return net.watch.until('one roster at all nodes', () => {
    const digests = net.nodes.map(({ membership }) => rosterDigest(membership.roster()))
    return digests.every((digest) => digest === digests[0])
  })
}

describe('three members', () => {
  it('change the rules when two of them agree, and one alone changes nothing', async () => {
    const proposal = await propose(archive, { kind: 'rules', subject: 'rules=all members' })
    expect(proposal).toMatchObject({ state: 'open', supporters: ['Archive'], needed: 2 })
    await knows(hospital, proposal)
    const answered = await run<ProposalReport>(hospital, 'endorse', { id: proposal.name })
    expect(answered).toMatchObject({ state: 'applied' })
    await agree()
    expect(university.membership.roster().rules.rules).toEqual({ threshold: 'all', group: 'members' })
  })

  it('are told what waits for their answer, until they have answered', async () => {
    const proposal = await propose(archive, { kind: 'revoke', subject: 'University', reason: 'left' })
    await knows(hospital, proposal)
    const waiting = async (node: FlexMeshNode): Promise<(string | undefined)[]> =>
      (await run<NodeStatus>(node, 'status')).attention.map(({ command }) => command)
    expect(await waiting(archive)).not.toContain(`flexmesh endorse ${proposal.name}`)
    expect(await waiting(hospital)).toContain(`flexmesh endorse ${proposal.name}`)
    await run(hospital, 'reject', { who: proposal.name })
    expect(await waiting(hospital)).not.toContain(`flexmesh endorse ${proposal.name}`)
  })

  it('see how the others are connected, and who decides', async () => {
    const { members, rules } = await run<MembersResult>(hospital, 'members')
    const other = members.find(({ institution }) => institution === 'Archive')
    expect(other).toMatchObject({ connected: true, address: expect.stringContaining('/ip4/127.0.0.1/tcp/') })
    expect(rules).toContainEqual({ kind: 'admit', rule: 'majority members' })
  })

  it('keep things as they are when a proposal is rejected', async () => {
    const proposal = await propose(hospital, { kind: 'revoke', subject: 'University' })
    await knows(archive, proposal)
    const answered = await run<{ proposal: ProposalReport }>(archive, 'reject', { who: proposal.name })
    expect(answered.proposal).toMatchObject({ state: 'open', rejecters: ['Archive'], undecided: [] })
    expect(university.membership.isMember(university.identity.peerId)).toBe(true)
    await expect(run(archive, 'endorse', { id: proposal.name })).rejects.toMatchObject({ code: 'usage' })
  })

  it('who propose the same at once have one proposal in effect', async () => {
    await Promise.all([run(hospital, 'renew'), run(archive, 'renew')])
    await net.watch.until('the renewal', () =>
      hospital.membership.book
        .proposals()
        .some(({ state, proposal }) => state === 'applied' && proposal.change.kind === 'renew'),
    )
    await agree()
  })

  it('are two when one leaves by itself, also after a restart of the others', async () => {
    await run(university, 'leave')
    await net.watch.until('the leave', () => !hospital.membership.isMember(university.identity.peerId))
    await net.watch.until('the leave', () => !archive.membership.isMember(university.identity.peerId))
    const again = await net.restart(1)
    expect(again.membership.isMember(university.identity.peerId)).toBe(false)
    await expect(run(university, 'propose', { kind: 'renew' })).rejects.toMatchObject({
      code: 'not-a-member',
    })
  })
})
