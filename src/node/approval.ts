/**
 * Approves institutions that wait for their admission: proposes it, or endorses the proposal of another member. Does not
 * count votes.
 */
import type { ProposalState } from '../consortium/governance.ts'
import { admissionOf, type MembershipRequest } from '../consortium/membership-request.ts'
import type { PeerIdString } from '../identity/keys.ts'
import { InputError } from '../lib/errors.ts'
import { answer, propose } from '../pipeline/own-decisions.ts'
import type { Parts } from '../pipeline/parts.ts'

/** A request that was not approved. */
interface NotApproved {
  readonly institution: string
  readonly peerId: PeerIdString
  /** For people. */
  readonly reason: string
}

export interface Approval {
  /** Names of the new members. */
  readonly approved: readonly string[]
  /** Admissions that need more support, with this node's. */
  readonly proposed: readonly { readonly institution: string; readonly proposal: ProposalState }[]
  readonly notApproved: readonly NotApproved[]
}

/**
 * Approve institutions that wait here, and those whose admission another member has proposed. A request that cannot be
 * approved stays and does not stop the others.
 * @param who name or peer id of one institution; default: all of them.
 * @throws InputError `not-found`, `not-a-member`, `behind`.
 */
export async function approve(parts: Parts, who?: string): Promise<Approval> {
  const { membership } = parts
  const { invitations } = membership
  const requests = who === undefined ? invitations.requests() : invitations.named(who)
  const open = openAdmissions(parts, who)
  if (requests.length + open.length === 0) {
    throw new InputError(
      'not-found',
      who === undefined ? 'no institution waits for approval' : `${who} does not wait for approval`,
    )
  }
  const proposals: [institution: string, proposal: ProposalState][] = []
  const notApproved: NotApproved[] = []
  // Collected before the first approval, which would end the rivalry of two requests with one name.
  const obstacles = requests.map((request) => membership.obstacleTo(request, request.peerId === who))
  for (const [i, request] of requests.entries()) {
    const { institution, peerId } = request
    const reason = obstacles[i] ?? rivalry(parts, request)
    if (reason !== undefined) notApproved.push({ institution, peerId, reason })
    else proposals.push([institution, await propose(parts, admissionOf(request))])
  }
  for (const { id, institution } of open) {
    const proposal = membership.book.proposal(id)
    if (proposal.state === 'open') proposals.push([institution, await answer(parts, id, 'endorse')])
  }
  const isApplied = ([, { state }]: (typeof proposals)[number]): boolean => state === 'applied'
  return {
    approved: proposals.filter(isApplied).map(([institution]) => institution),
    proposed: proposals
      .filter((one) => !isApplied(one))
      .map(([institution, proposal]) => ({ institution, proposal })),
    notApproved,
  }
}

/** Why a request cannot be approved after those before it were. */
function rivalry({ membership }: Parts, request: MembershipRequest): string | undefined {
  const next = membership.preview(admissionOf(request))
  return typeof next === 'string' ? next : undefined
}

/** Proposed admissions that this node has not answered and that are of no institution that waits here. */
function openAdmissions({ membership }: Parts, who: string | undefined) {
  const waiting = membership.invitations.requests()
  return membership.book.proposals().flatMap(({ id, state, undecided, proposal: { change } }) => {
    if (state !== 'open' || change.kind !== 'admit' || !undecided.includes(membership.seat)) return []
    const { institution, peerId } = change
    if (who !== undefined && who !== institution && who !== peerId) return []
    return waiting.some((request) => request.peerId === peerId) ? [] : [{ id, institution }]
  })
}
