/** Which roster follows from a set of proposals, endorsements and leaves, also from what an attacker signs. */
import { describe, expect, it } from 'vitest'
import type { ProposedChange } from '../../src/consortium/change.ts'
import type { DerivedRoster } from '../../src/consortium/derive-roster.ts'
import { Governance, openGovernanceStatement, type ProposalState } from '../../src/consortium/governance.ts'
import type { KeysStatement } from '../../src/consortium/keys-statement.ts'
import type { Roster } from '../../src/consortium/roster.ts'
import { rosterFromCharter } from '../../src/consortium/roster.ts'
import { founderRules, MAJORITY_RULES, type Rules } from '../../src/consortium/rules.ts'
import { activeMembers } from '../../src/consortium/support.ts'
import type { Identity } from '../../src/identity/keys.ts'
import { type Digest, digestOf, utf8 } from '../../src/lib/bytes.ts'
import { limit } from '../../src/lib/limits.ts'
import { consortium, identityOf, NOW, type Publisher } from '../support/consortium.ts'

const PEOPLE = [1, 2, 3, 4, 5, 6].map(identityOf) as [
  Identity,
  Identity,
  Identity,
  Identity,
  Identity,
  Identity,
]
const [, , , fourth, fifth] = PEOPLE
const KEY = digestOf(utf8('next'))

/** A consortium of `count` founders, and what they sign. */
class Council {
  readonly publishers: Publisher[]
  readonly #base: Roster
  readonly envelopes: Uint8Array[] = []
  readonly #keys: KeysStatement[] = []

  constructor(count: number, rules: Rules = MAJORITY_RULES) {
    const founders = PEOPLE.slice(0, count)
    const c = consortium(founders, { rules })
    this.#base = rosterFromCharter({ ...c.charter, rules }, c.id)
    this.publishers = PEOPLE.map((identity) => c.publisher(identity))
  }

  propose(who: number, change: ProposedChange, rosterVersion = 1, at = NOW): Digest {
    const publisher = this.publishers[who] as Publisher
    const fields = { rosterVersion, change, issuedAt: at, expiresAt: at + limit('proposalLifetime') }
    return this.#signed(publisher.chained('proposal', fields))
  }

  answer(
    who: number,
    proposal: Digest,
    rosterVersion = 1,
    answer: 'endorse' | 'reject' = 'endorse',
    at = NOW,
  ): void {
    const publisher = this.publishers[who] as Publisher
    this.#signed(publisher.chained('endorsement', { rosterVersion, proposal, answer, issuedAt: at }))
  }

  leave(who: number, rosterVersion = 1): void {
    const publisher = this.publishers[who] as Publisher
    this.#signed(publisher.chained('leave', { rosterVersion, validThroughSeq: 0 }))
  }

  /** State keys that end the statements after a number, from a version of the roster on. */
  replaceKey(who: number, validThroughSeq: number, rosterVersion?: number): void {
    const publisher = this.publishers[who] as Publisher
    const { value } = publisher.chained('keys', {
      key: publisher.identity.peerId,
      validThroughSeq,
      ...(rosterVersion === undefined ? {} : { rosterVersion }),
    })
    this.#keys.push(value)
  }

  #signed({ id, envelope }: { id: Digest; envelope: Uint8Array }): Digest {
    this.envelopes.push(envelope)
    return id
  }

  derive(envelopes: readonly Uint8Array[] = this.envelopes): DerivedRoster {
    return this.#governance(envelopes).derive(this.#base)
  }

  /** A proposal as it stands at a time. */
  state(proposal: Digest, now = NOW): ProposalState | undefined {
    const governance = this.#governance(this.envelopes)
    return governance.proposals(governance.derive(this.#base), now).find(({ id }) => id === proposal)
  }

  #governance(envelopes: readonly Uint8Array[]): Governance {
    const governance = new Governance()
    for (const keys of this.#keys) governance.addKeys(keys.publisher, keys)
    for (const envelope of envelopes) governance.add(openGovernanceStatement(envelope), envelope)
    return governance
  }

  version(): number {
    return this.derive().roster.version
  }

  /** Names of the active members. */
  names(): string[] {
    return activeMembers(this.derive().roster).map(({ institution }) => institution)
  }
}

const admit = (institution: string, { peerId }: Identity): ProposedChange => ({
  kind: 'admit',
  institution,
  peerId,
})
const revoke = ({ peerId: seat }: Identity, validThroughSeq = 9): ProposedChange => ({
  kind: 'revoke',
  seat,
  reason: 'compromised',
  validThroughSeq,
})
const rules = (changes: Partial<Rules>): ProposedChange => ({
  kind: 'rules',
  rules: { ...MAJORITY_RULES, ...changes },
})

describe('a vote of a key that was replaced', () => {
  /** Alice proposes, a thief of Bob's node key endorses, and Bob states his keys as far as he knew the roster. */
  function endorsedByThief(members: number, rosterVersion?: number): { council: Council; id: Digest } {
    const council = new Council(members)
    const id = council.propose(0, admit('New', identityOf(9)))
    council.answer(1, id)
    council.replaceKey(1, 0, rosterVersion)
    return { council, id }
  }

  it('does not count from the version on that the institution knew', () => {
    const { council, id } = endorsedByThief(5, 1)
    council.answer(2, id)
    expect(council.version()).toBe(1)
    council.answer(3, id)
    expect(council.version()).toBe(2)
  })

  it('leaves room for the answer of the institution itself', () => {
    const { council, id } = endorsedByThief(3, 1)
    expect(council.version()).toBe(1)
    council.answer(1, id)
    expect(council.version()).toBe(2)
  })

  it('stays where it was applied before', () => {
    expect(endorsedByThief(3, 2).council.version()).toBe(2)
  })

  it('stays, too, if the keys name no version, as in statements of before', () => {
    expect(endorsedByThief(3).council.version()).toBe(2)
  })

  it('is not taken back by an institution that has named a later version itself', () => {
    const council = new Council(3)
    const id = council.propose(0, admit('New', identityOf(9)))
    council.answer(1, id)
    const renewal = council.propose(1, { kind: 'renew' }, 2)
    council.replaceKey(1, 2, 1)
    expect(council.derive().applied.has(id)).toBe(true)
    council.answer(0, renewal, 2)
    council.answer(2, renewal, 2)
    expect(council.version()).toBe(3)
  })

  it('carries no proposal and no leave', () => {
    const council = new Council(3)
    const id = council.propose(1, admit('New', identityOf(9)))
    council.leave(1)
    council.replaceKey(1, 0, 1)
    council.answer(0, id)
    council.answer(2, id)
    expect(council.version()).toBe(1)
    expect(council.names()).toHaveLength(3)
  })
})

describe('a quorum', () => {
  it.each([
    [1, 1],
    [2, 2],
    [3, 2],
    [4, 3],
    [5, 3],
  ])('of %d members that decide by majority has %d', (count, needed) => {
    const council = new Council(count)
    const id = council.propose(0, admit('New', identityOf(9)))
    const versions = [council.version()]
    for (let who = 1; who < count; who++) {
      council.answer(who, id)
      versions.push(council.version())
    }
    expect(versions.indexOf(2)).toBe(needed - 1)
  })

  it('counts one member once, whatever it signs', () => {
    const council = new Council(3)
    const id = council.propose(0, admit('New', fourth))
    for (let i = 0; i < 20; i++) council.answer(0, id)
    expect(council.version()).toBe(1)
  })

  it('does not count strangers, also if they have a name of the consortium in a proposal', () => {
    const council = new Council(3)
    const id = council.propose(0, admit('New', fourth))
    council.answer(3, id)
    council.answer(4, council.propose(4, admit('Other', fifth)))
    expect(council.version()).toBe(1)
  })

  it('does not count the member that is revoked, and not one whose key was revoked at the same version', () => {
    const council = new Council(3)
    const removal = council.propose(0, revoke(PEOPLE[2], 0))
    council.answer(2, removal)
    expect(council.version()).toBe(1)
    const admission = council.propose(2, admit('Accomplice', fifth))
    council.answer(1, removal)
    council.answer(1, admission)
    expect(council.names()).toEqual(['A', 'B'])
  })

  it('does not count a second key of one institution while the first one is a member', () => {
    const council = new Council(1)
    const id = council.propose(0, admit('A', fourth))
    expect(council.derive().applied.has(id)).toBe(false)
  })

  it('of a charter of version 1 is as many founders as its threshold', () => {
    const one = new Council(3, founderRules(1))
    one.propose(0, admit('New', fourth))
    expect(one.version()).toBe(2)
    const two = new Council(3, founderRules(2))
    const id = two.propose(0, admit('New', fourth))
    expect(two.version()).toBe(1)
    two.answer(2, id)
    expect(two.version()).toBe(2)
  })

  it('of founders has at least two members from three on, all members if the founders are too few', () => {
    const founders = { threshold: 'all', group: 'founders' } as const
    const council = new Council(1, { ...MAJORITY_RULES, admit: founders })
    council.propose(0, admit('B', PEOPLE[1]))
    council.propose(0, admit('C', PEOPLE[2]), 2)
    expect(council.names()).toEqual(['A', 'B', 'C'])
    const id = council.propose(0, admit('D', fourth), 3)
    expect(council.names()).toEqual(['A', 'B', 'C'])
    council.answer(1, id, 3)
    expect(council.names()).toEqual(['A', 'B', 'C', 'D'])
  })

  it('is not reached by support that was signed after the end of the proposal', () => {
    const council = new Council(3)
    const id = council.propose(0, admit('New', fourth))
    council.answer(1, id, 1, 'endorse', NOW + limit('proposalLifetime') + 1)
    expect(council.version()).toBe(1)
    council.answer(2, id, 1, 'endorse', NOW + limit('proposalLifetime'))
    expect(council.version()).toBe(2)
  })

  it('is not reached again by a proposal that has ended when others leave', () => {
    const council = new Council(5)
    const old = council.propose(0, admit('New', identityOf(9)))
    council.answer(1, old)
    const late = NOW + limit('proposalLifetime') + 1
    const renewal = council.propose(2, { kind: 'renew' }, 1, late)
    council.answer(3, renewal, 1, 'endorse', late)
    council.answer(4, renewal, 1, 'endorse', late)
    council.leave(3, 2)
    council.leave(4, 3)
    expect(council.names()).toEqual(['A', 'B', 'C'])
  })
})

describe('an answer', () => {
  it('is final: a rejection after an endorsement takes nothing back, and the other way round', () => {
    const council = new Council(3)
    const id = council.propose(0, admit('New', fourth))
    council.answer(1, id)
    council.answer(1, id, 1, 'reject')
    council.answer(0, id, 1, 'reject')
    expect(council.version()).toBe(2)
    const other = council.propose(0, { kind: 'renew' }, 2)
    council.answer(1, other, 2, 'reject')
    council.answer(1, other, 2)
    council.answer(2, other, 2, 'reject')
    expect(council.version()).toBe(2)
  })
})

describe('rules', () => {
  it.each([
    ['4 of 3 members', { admit: { threshold: 4, group: 'members' } }],
    ['all of no founders', { revoke: { threshold: 3, group: 'founders' } }],
  ] as const)('that ask for %s have no effect', (_, changes) => {
    const council = new Council(1)
    council.propose(0, admit('B', PEOPLE[1]))
    const third = council.propose(0, admit('C', PEOPLE[2]), 2)
    council.answer(1, third, 2)
    const id = council.propose(0, rules(changes), 3)
    council.answer(1, id, 3)
    council.answer(2, id, 3)
    expect(council.derive().applied.has(id)).toBe(false)
  })

  it('that ask for more members than are left ask for all of them', () => {
    const council = new Council(4, { ...MAJORITY_RULES, admit: { threshold: 4, group: 'members' } })
    council.leave(3)
    council.leave(2, 2)
    const id = council.propose(0, admit('New', fifth), 3)
    expect(council.version()).toBe(3)
    council.answer(1, id, 3)
    expect(council.version()).toBe(4)
  })

  it('are changed by the quorum of the rules before', () => {
    const council = new Council(3)
    const id = council.propose(0, rules({ admit: { threshold: 'all', group: 'members' } }))
    council.answer(1, id)
    const admission = council.propose(0, admit('New', fourth), 2)
    council.answer(1, admission, 2)
    expect(council.names()).toEqual(['A', 'B', 'C'])
    council.answer(2, admission, 2)
    expect(council.names()).toEqual(['A', 'B', 'C', 'New'])
  })
})

describe('a leave', () => {
  it('needs nobody, keeps the end of the roster, and is refused to the last member', () => {
    const council = new Council(2)
    const { expiresAt } = council.derive().roster
    council.leave(1)
    council.leave(0, 2)
    expect(council.names()).toEqual(['A'])
    expect(council.derive().roster.expiresAt).toBe(expiresAt)
  })

  it('that names an old version takes back nothing that its publisher has supported', () => {
    const council = new Council(3)
    const id = council.propose(0, admit('New', fourth))
    council.answer(1, id)
    council.leave(1)
    expect(council.names()).toEqual(['A', 'C', 'New'])
  })
})

describe('proposals that contradict each other', () => {
  function contradiction(): Council {
    const council = new Council(3)
    const first = council.propose(0, rules({ admit: { threshold: 'all', group: 'members' } }))
    const second = council.propose(2, rules({ admit: { threshold: 2, group: 'members' } }))
    council.answer(1, first)
    council.answer(1, second)
    return council
  }

  it('are decided in the same way whatever arrives first, and those who supported both are named', () => {
    const council = contradiction()
    const expected = council.derive()
    expect(expected.roster.rules.admit).toEqual({ threshold: 'all', group: 'members' })
    expect(expected.equivocations).toMatchObject([{ seats: [PEOPLE[1].peerId] }])
    const shuffled = [...council.envelopes]
    for (let i = 0; i < shuffled.length; i++) {
      shuffled.push(shuffled.shift() as Uint8Array)
      expect(council.derive(shuffled)).toEqual(expected)
      expect(council.derive([...shuffled].reverse())).toEqual(expected)
    }
  })

  it('are removals before everything else: two that revoke each other end with the one listed first', () => {
    const council = new Council(2)
    council.propose(1, revoke(PEOPLE[0], 0))
    council.propose(0, revoke(PEOPLE[1], 0))
    expect(council.names()).toEqual(['A'])
  })
})

describe('statements that name an old version', () => {
  it('cannot change what was decided then, because the logs of those who decided prove the order', () => {
    const council = new Council(3)
    const grown = council.propose(0, admit('D', fourth))
    council.answer(2, grown)
    const more = council.propose(0, admit('E', fifth), 2)
    council.answer(2, more, 2)
    council.answer(3, more, 2)
    const before = council.derive().roster
    expect(before.version).toBe(3)
    // Two of the first three, who were a quorum of version 1, would be alone.
    const takeover = council.propose(0, revoke(PEOPLE[2], 0), 1)
    council.answer(1, takeover, 1)
    expect(council.derive().roster).toEqual(before)
  })

  it('of a removed member do not complete a quorum', () => {
    const council = new Council(5)
    const admission = council.propose(0, admit('New', identityOf(9)))
    council.answer(1, admission)
    const removal = council.propose(2, revoke(PEOPLE[4], 0))
    council.answer(3, removal)
    council.answer(1, removal)
    const before = council.derive().roster
    expect(before.version).toBe(2)
    council.answer(4, admission)
    expect(council.derive().roster).toEqual(before)
  })
})

describe('what a proposal that was decided needed', () => {
  const [alice, bob] = PEOPLE.map(({ peerId }) => peerId)

  it('is what the rules asked for when it was applied, with the answers that counted then', () => {
    const council = new Council(2)
    const id = council.propose(0, admit('New', fourth))
    council.answer(1, id)
    const rule = council.propose(0, rules({ admit: { threshold: 'all', group: 'members' } }), 2)
    council.answer(1, rule, 2)
    const removal = council.propose(0, revoke(PEOPLE[1]), 3)
    council.answer(3, removal, 3)
    expect(council.version()).toBe(4)
    expect(council.state(id)).toMatchObject({ state: 'applied', needed: 2, supporters: [alice, bob] })
    expect(council.state(rule)).toMatchObject({ state: 'applied', needed: 2, supporters: [alice, bob] })
  })

  it('is what the rules asked for when its time ended, and is absent if they changed before', () => {
    const council = new Council(3)
    const end = NOW + limit('proposalLifetime')
    const forgotten = council.propose(0, admit('Forgotten', fifth))
    expect(council.state(forgotten, end + 1)).toMatchObject({ state: 'expired', needed: 2 })
    const later = council.propose(0, admit('Late', identityOf(8)), 1, end + 10)
    council.answer(1, later, 1, 'endorse', end + 10)
    expect(council.version()).toBe(2)
    expect(council.state(forgotten, end + 20)).toMatchObject({ needed: 2, supporters: [alice] })
    const early = new Council(3)
    const ended = early.propose(0, admit('Forgotten', fifth))
    const change = early.propose(0, rules({ admit: { threshold: 'all', group: 'members' } }))
    early.answer(1, change)
    const state = early.state(ended, end + 1)
    expect(state).toMatchObject({ state: 'expired', supporters: [alice] })
    expect(state).not.toHaveProperty('needed')
  })
})

describe('the work of deriving a roster', () => {
  it('is bounded: of 10,000 statements of one member, one answer counts', () => {
    const council = new Council(3)
    const governance = new Governance()
    const id = council.propose(0, admit('New', fourth))
    const first = council.envelopes[0] as Uint8Array
    governance.add(openGovernanceStatement(first), first)
    const { value } = openGovernanceStatement(first)
    for (let i = 0; i < 10_000; i++) {
      const fields = {
        ...value,
        publisher: PEOPLE[1].peerId,
        seq: i + 1,
        proposal: id,
        answer: 'reject' as const,
      }
      governance.add({ kind: 'endorsement', id: digestOf(utf8(`${i}`)), value: fields }, first)
    }
    const state = governance.proposals(council.derive(), NOW)[0]
    expect(state).toMatchObject({ supporters: [PEOPLE[0].peerId], rejecters: [PEOPLE[1].peerId], needed: 2 })
  })
})

describe('a member that makes many proposals', () => {
  it('cannot take back what was decided on one of them', () => {
    const council = new Council(3)
    const admission = council.propose(0, admit('New', fourth))
    council.answer(1, admission)
    const before = council.derive().roster
    expect(before.version).toBe(2)
    for (let i = 0; i < 100; i++) council.propose(0, admit(`N${i}`, identityOf(20 + i)))
    expect(council.derive().roster).toEqual(before)
  })

  it('does not keep the others from deciding on any of them', () => {
    const council = new Council(3)
    const ids = Array.from({ length: 100 }, (_, i) => council.propose(0, admit(`N${i}`, identityOf(20 + i))))
    council.answer(1, ids[0] as Digest)
    for (const who of [1, 2]) council.answer(who, ids[99] as Digest, 2)
    expect(council.version()).toBe(3)
  })
})

describe('a rotation', () => {
  it('by the others gives a seat another key, and the first of two ends the other', () => {
    const council = new Council(3)
    const rotation = (key: Identity): ProposedChange => ({
      kind: 'rotate',
      seat: PEOPLE[2].peerId,
      key: key.peerId,
      next: KEY,
    })
    const first = council.propose(0, rotation(fourth))
    const second = council.propose(1, rotation(fifth))
    council.answer(1, first)
    council.answer(0, second)
    const { roster, equivocations } = council.derive()
    expect(roster.version).toBe(2)
    expect(roster.members[2]).toMatchObject({ peerId: PEOPLE[2].peerId, key: fourth.peerId, next: KEY })
    expect(equivocations).toHaveLength(1)
  })
})
