/** What the commands about decisions of the consortium print. */
import { describe, expect, it } from 'vitest'
import { APPROVE } from '../../src/commands/admission.ts'
import { type ProposalReport, proposalLines } from '../../src/commands/proposal-lines.ts'
import { LEAVE, PROPOSALS, REJECT } from '../../src/commands/proposals.ts'
import { MAJORITY_RULES, parseRules } from '../../src/consortium/rules.ts'

const PLAIN = { color: false }
const OPEN: ProposalReport = {
  id: `sha256:${'ab'.repeat(32)}`,
  name: 'abababab',
  change: { kind: 'renew' },
  text: 'renew the membership of everyone',
  by: 'Hospital',
  state: 'open',
  supporters: ['Hospital', 'Archive'],
  rejecters: ['Court'],
  undecided: ['University'],
  needed: 3,
  expiresAt: Date.UTC(2027, 0, 1) / 1000,
}

describe('a proposal', () => {
  it('that is open says who supports it, who does not, and how to endorse it', () => {
    expect(proposalLines(OPEN)).toEqual([
      'abababab  Hospital proposes to renew the membership of everyone',
      '  2 of 3 until 2027-01-01: Hospital, Archive; against: Court',
      '  still to answer: University; each endorses with: flexmesh endorse abababab',
    ])
  })

  it.each([
    [{ state: 'applied', rosterVersion: 7 }, '  in effect since roster version 7'],
    [{ state: 'expired' }, '  ended on 2027-01-01 with 2 of 3'],
    [{ state: 'impossible', reason: 'the roster is full' }, '  not possible now: the roster is full'],
  ] as const)('that is not says why: %o', (changes, line) => {
    expect(proposalLines({ ...OPEN, ...changes })[1]).toBe(line)
  })

  it('that has ended names its supporters if the number that it needed is not known', () => {
    const { needed: _, ...rest } = OPEN
    expect(proposalLines({ ...rest, state: 'expired' })[1]).toBe(
      '  ended on 2027-01-01 with the support of Hospital, Archive',
    )
  })
})

describe('the command proposals', () => {
  it('names proposals that contradict each other, and who supported both', () => {
    const equivocations = [{ proposals: ['abababab', 'cdcdcdcd'], institutions: ['Court'] }]
    expect(PROPOSALS.words({ proposals: [], equivocations }, PLAIN)).toEqual([
      'no proposals',
      'warning: abababab and cdcdcdcd contradict each other and both reached their quorum; supported both: Court',
    ])
  })
})

describe('the short forms', () => {
  it('say what is missing', () => {
    const lines = APPROVE.words({ approved: [], proposed: [OPEN], notApproved: [] }, PLAIN)
    expect(lines).toEqual(proposalLines(OPEN))
    expect(REJECT.words({ proposal: OPEN }, PLAIN)).toEqual(proposalLines(OPEN))
  })

  it('say that the others have still to learn of a leave', async () => {
    const [line] = await LEAVE.words({ left: 'Our consortium', statement: OPEN.id }, PLAIN)
    expect(line).toContain('this institution has left "Our consortium"; keep the node running')
  })
})

describe('rules on the command line', () => {
  it('change the kinds that they name', () => {
    const rules = parseRules('admit=all members, rules = 3 founders', MAJORITY_RULES)
    expect(rules).toEqual({
      ...MAJORITY_RULES,
      admit: { threshold: 'all', group: 'members' },
      rules: { threshold: 3, group: 'founders' },
    })
  })

  it.each([
    '',
    'admit',
    'admit=1 members',
    'admit=0 members',
    'admit=any members',
    'depose=all members',
    'admit=65 members',
  ])('are refused as "%s"', (text) => {
    expect(() => parseRules(text, MAJORITY_RULES)).toThrow(/admit=majority members/)
  })
})
