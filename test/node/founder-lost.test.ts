/** The founder's machine is gone for good: the other members decide without it. */
import { afterEach, beforeEach, expect, it } from 'vitest'
import type { ProposalReport } from '../../src/commands/proposal-lines.ts'
import { decodeInvite } from '../../src/consortium/invite.ts'
import { sealMembershipRequest } from '../../src/consortium/membership-request.ts'
import { loadIdentity } from '../../src/identity/key-file.ts'
import { joinConsortium } from '../../src/node/join.ts'
import type { FlexMeshNode } from '../../src/node/node.ts'
import { homePaths } from '../../src/store/home.ts'
import { cleanUp } from '../support/folders.ts'
import { newHome } from '../support/homes.ts'
import { network, now, run, type TestNetwork } from '../support/network.ts'
import { tinyModel } from '../support/tiny-model.ts'

let net: TestNetwork
let archive: FlexMeshNode
let university: FlexMeshNode
let founder: string

beforeEach(async () => {
  net = await network(['Founder', 'Archive', 'University'], await tinyModel())
  const [first, ...others] = net.nodes as [FlexMeshNode, FlexMeshNode, FlexMeshNode]
  ;[archive, university] = others
  founder = first.membership.seat
  await net.connected()
  await first.close()
})
afterEach(async () => {
  await net.close()
  await cleanUp()
})

/** The archive has proposed something; the university endorses it, and both apply it. */
async function endorsed(proposal: ProposalReport): Promise<void> {
  const isApplied = ({ membership }: FlexMeshNode): boolean =>
    membership.book.proposals().some(({ id, state }) => id === proposal.id && state === 'applied')
  const { membership } = university
  await net.watch.until('the proposal', () =>
    membership.book.proposals().some(({ id }) => id === proposal.id),
  )
  await run(university, 'endorse', { id: proposal.name })
  await net.watch.until('its effect', () => isApplied(archive) && isApplied(university))
}

it('they revoke the founder, admit an institution and renew the membership', async () => {
  await endorsed(await run(archive, 'propose', { kind: 'revoke', subject: 'Founder', reason: 'other' }))
  expect(university.membership.isMember(founder)).toBe(false)
  const home = await newHome('Newcomer')
  const identity = await loadIdentity(homePaths(home).key)
  const { peerId } = identity
  const { invite } = await run<{ invite: string }>(archive, 'invite')
  const { consortium, token } = decodeInvite(invite)
  const request = { consortium, institution: 'Newcomer', peerId, token, issuedAt: now() }
  await archive.membership.onRequest(sealMembershipRequest(request, identity))
  const { proposed } = await run<{ proposed: ProposalReport[] }>(archive, 'approve', { who: 'Newcomer' })
  await endorsed(proposed[0] as ProposalReport)
  await joinConsortium({ home, now }, invite, new AbortController().signal, () => undefined)
  expect(university.membership.isMember(peerId)).toBe(true)
  const before = archive.membership.roster().version
  await endorsed(await run(archive, 'propose', { kind: 'renew' }))
  expect(archive.membership.roster().version).toBe(before + 1)
})
