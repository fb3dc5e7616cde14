/** Test vectors of sections Proposal, Endorsement and Leave. */
import { encodeEndorsement } from '../../../src/consortium/endorsement.ts'
import { encodeLeave } from '../../../src/consortium/leave.ts'
import { encodeProposal, type Proposal } from '../../../src/consortium/proposal.ts'
import { MAJORITY_RULES, writeRules } from '../../../src/consortium/rules.ts'
import { MEDIA_TYPES, type MediaType } from '../../../src/identity/media-types.ts'
import { NO_STATEMENT } from '../../../src/identity/statement.ts'
import { digestOf } from '../../../src/lib/bytes.ts'
import { limit } from '../../../src/lib/limits.ts'
import { type Case, type Vector, vectorsOf } from '../vector.ts'
import { alice, bob, type Change, carol, changed, consortium, NOW, set, text } from './fixtures.ts'
import { SMALL_ORDER_PEER } from './roster.ts'

const CHAIN = { publisher: alice.peerId, seq: 1, prev: NO_STATEMENT, consortium, issuedAt: NOW }
const NEXT = digestOf(carol.publicKey)

export function governanceVectors(): Vector[] {
  return [...proposalVectors(), ...endorsementVectors(), ...leaveVectors()]
}

function proposalVectors(): Vector[] {
  const cases: [...Case, string][] = []
  const payloadOf = (change: Proposal['change']): Uint8Array =>
    encodeProposal({ ...CHAIN, rosterVersion: 1, change, expiresAt: NOW + 60 })
  const admission = payloadOf({ kind: 'admit', institution: 'Gamma University', peerId: carol.peerId })
  const accept = (name: string, comment: string, change: Proposal['change']): void => {
    cases.push([name, 'accept', comment, text(MEDIA_TYPES.proposal, payloadOf(change), [alice])])
  }
  const refuse = (
    name: string,
    expect: string,
    comment: string,
    change: Change = () => undefined,
    type: MediaType = MEDIA_TYPES.proposal,
    signers = [alice],
  ): void => {
    cases.push([name, expect, comment, text(type, changed(admission, change), signers)])
  }
  const withChange = (value: Record<string, unknown>): Change => set('change', value)
  const revocation = { kind: 'revoke', seat: bob.peerId, reason: 'other', validThroughSeq: 3 }
  const rules = writeRules(MAJORITY_RULES)
  accept('admits', 'an institution and its key', {
    kind: 'admit',
    institution: 'Gamma University',
    peerId: carol.peerId,
    next: NEXT,
  })
  accept('revokes', 'a member, up to a statement', {
    kind: 'revoke',
    seat: bob.peerId,
    reason: 'compromised',
    validThroughSeq: 3,
  })
  accept('rotates', 'the others restore a lost key', {
    kind: 'rotate',
    seat: bob.peerId,
    key: carol.peerId,
    next: NEXT,
  })
  accept('changes-rules', 'every kind has its rule', { kind: 'rules', rules: MAJORITY_RULES })
  accept('renews', 'for another year', { kind: 'renew' })
  accept('withdraws', 'in the place of an owner', { kind: 'withdraw', seat: bob.peerId, manifests: [NEXT] })
  refuse('two-signers', 'wrong-signer', "a proposal is one member's", undefined, undefined, [alice, bob])
  refuse('other-signer', 'wrong-signer', 'nobody proposes for another', undefined, undefined, [bob])
  refuse('as-endorsement', 'bad-field', 'signed as another kind', undefined, MEDIA_TYPES.endorsement)
  refuse('as-roster', 'wrong-type', 'signed as another kind', undefined, MEDIA_TYPES.roster)
  refuse('no-change', 'bad-field', 'says what to change', set('change', {}))
  refuse(
    'other-kind',
    'bad-field',
    'a kind that has no rule',
    withChange({ kind: 'depose', seat: bob.peerId }),
  )
  refuse('two-changes', 'bad-field', 'one change at a time', withChange({ ...revocation, institution: 'X' }))
  refuse('version-zero', 'bad-field', 'versions count from 1', set('rosterVersion', 0))
  refuse('no-version', 'bad-field', 'says what its author knew', (value) => {
    delete value['rosterVersion']
  })
  refuse(
    'lives-too-long',
    'bad-field',
    'a second more than a month',
    set('expiresAt', NOW + limit('proposalLifetime') + 1),
  )
  refuse('never-lives', 'bad-field', 'ends as it begins', set('expiresAt', NOW))
  refuse('extra-field', 'bad-field', 'nothing unknown', set('comment', 'please'))
  refuse(
    'admits-nameless',
    'bad-field',
    'institutions have names',
    withChange({ kind: 'admit', peerId: carol.peerId }),
  )
  refuse(
    'admits-control-in-name',
    'bad-field',
    'members read the name before they endorse',
    withChange({ kind: 'admit', institution: 'A\u001b[2J', peerId: carol.peerId }),
  )
  refuse(
    'admits-small-order-key',
    'weak-key',
    'a key for which anybody can sign',
    withChange({ kind: 'admit', institution: 'X', peerId: SMALL_ORDER_PEER }),
  )
  refuse('revokes-with-free-text', 'bad-field', 'no free text', withChange({ ...revocation, reason: 'rude' }))
  refuse(
    'revokes-without-seq',
    'bad-field',
    'says what stays valid',
    withChange({ kind: 'revoke', seat: bob.peerId, reason: 'other' }),
  )
  refuse(
    'revokes-name',
    'bad-field',
    'seats are peer ids',
    withChange({ ...revocation, seat: 'Beta Archive' }),
  )
  refuse(
    'rotates-without-next',
    'bad-field',
    'every key commits to the next',
    withChange({ kind: 'rotate', seat: bob.peerId, key: carol.peerId }),
  )
  refuse(
    'rules-zero',
    'bad-field',
    'nobody would have to agree',
    withChange({ kind: 'rules', rules: { ...rules, rules: '0 members' } }),
  )
  refuse(
    'rules-one',
    'bad-field',
    'no single key decides',
    withChange({ kind: 'rules', rules: { ...rules, admit: '1 founders' } }),
  )
  refuse(
    'rules-above-members',
    'bad-field',
    'more than a roster holds',
    withChange({ kind: 'rules', rules: { ...rules, admit: '65 members' } }),
  )
  refuse(
    'rules-incomplete',
    'bad-field',
    'every kind has its rule',
    withChange({ kind: 'rules', rules: { admit: 'all members' } }),
  )
  refuse(
    'withdraws-nothing',
    'bad-field',
    'names packages',
    withChange({ kind: 'withdraw', seat: bob.peerId, manifests: [] }),
  )
  refuse(
    'withdraws-twice',
    'bad-field',
    'each once',
    withChange({ kind: 'withdraw', seat: bob.peerId, manifests: [NEXT, NEXT] }),
  )
  return vectorsOf('proposal', 'Proposal', cases, (envelope) => ({ decoder: 'proposal', envelope }))
}

function endorsementVectors(): Vector[] {
  const cases: [...Case, string][] = []
  const payload = encodeEndorsement({ ...CHAIN, rosterVersion: 1, proposal: NEXT, answer: 'endorse' })
  const add = (
    name: string,
    expect: string,
    comment: string,
    change: Change = () => undefined,
    signers = [alice],
  ): void => {
    cases.push([name, expect, comment, text(MEDIA_TYPES.endorsement, changed(payload, change), signers)])
  }
  add('endorses', 'accept', 'supports a proposal')
  add('rejects', 'accept', 'votes against one', set('answer', 'reject'))
  add('abstains', 'bad-field', 'one of two words', set('answer', 'abstain'))
  add('of-nothing', 'bad-field', 'names a proposal', set('proposal', ''))
  add('of-a-name', 'bad-field', 'proposals are named by their digests', set('proposal', 'ab12cd'))
  add('version-zero', 'bad-field', 'versions count from 1', set('rosterVersion', 0))
  add('other-signer', 'wrong-signer', 'nobody endorses for another', undefined, [bob])
  add('signed-by-all', 'wrong-signer', 'one endorsement for each member', undefined, [alice, bob])
  add('extra-field', 'bad-field', 'nothing unknown', set('weight', 2))
  return vectorsOf('endorsement', 'Endorsement', cases, (envelope) => ({ decoder: 'endorsement', envelope }))
}

function leaveVectors(): Vector[] {
  const cases: [...Case, string][] = []
  const payload = encodeLeave({ ...CHAIN, rosterVersion: 1, validThroughSeq: 1 })
  const add = (
    name: string,
    expect: string,
    comment: string,
    change: Change = () => undefined,
    signers = [alice],
  ): void => {
    cases.push([name, expect, comment, text(MEDIA_TYPES.leave, changed(payload, change), signers)])
  }
  add('own', 'accept', 'needs nobody')
  add('of-another', 'wrong-signer', 'nobody leaves for another', undefined, [bob])
  add('valid-beyond', 'bad-field', 'nothing follows a leave', set('validThroughSeq', 2))
  add('reason', 'bad-field', 'no reason is asked', set('reason', 'left'))
  return vectorsOf('leave', 'Leave', cases, (envelope) => ({ decoder: 'leave', envelope }))
}
