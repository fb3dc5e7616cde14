/**
 * Nodes in memory that propose, endorse, reject and leave, with partitions, restarts and lost messages: the real
 * derivation of the roster and the real codecs, over logs that are exchanged statement by statement. What happens, and in
 * what order, follows from a seed.
 */
import type { ProposedChange } from '../../src/consortium/change.ts'
import type { DerivedRoster } from '../../src/consortium/derive-roster.ts'
import { Governance } from '../../src/consortium/governance.ts'
import { type KeyChange, KeyHistory } from '../../src/consortium/key-history.ts'
import {
  isMember,
  mayPublish,
  type Roster,
  rosterDigest,
  rosterFromCharter,
} from '../../src/consortium/roster.ts'
import { MAJORITY_RULES, type Rule, type Rules } from '../../src/consortium/rules.ts'
import type { GovernanceStatement } from '../../src/consortium/support.ts'
import { activeMembers } from '../../src/consortium/support.ts'
import type { Chained } from '../../src/identity/statement.ts'
import { NO_STATEMENT } from '../../src/identity/statement.ts'
import { type Digest, digestOf, utf8 } from '../../src/lib/bytes.ts'
import { encodeCanonical } from '../../src/lib/canonical-json.ts'
import { mulberry32 } from '../../src/lib/random.ts'
import { CHAINED_KINDS, type ChainedKindName, type ChainedValues } from '../../src/packaging/chained-kinds.ts'
import { charterOf, identityOf, NOW } from './consortium.ts'

/** Seats that exist before the first step; others are admitted. */
const FOUNDERS = [1, 2, 3, 4, 5].map((number) => identityOf(number).peerId)
const NEWCOMERS = [11, 12, 13, 14].map((number) => identityOf(number).peerId)
const CONSORTIUM = digestOf(utf8('schedule'))
const STEPS = 60

/** A statement in a log: one about the consortium, or a package or its withdrawal. */
type Logged =
  | { readonly kind: 'governance'; readonly seq: number; readonly statement: GovernanceStatement }
  | { readonly kind: 'package'; readonly seq: number; readonly id: Digest }
  | { readonly kind: 'withdrawal'; readonly seq: number; readonly id: Digest }
  | { readonly kind: 'keys'; readonly seq: number; readonly change: KeyChange }

/** What a node comes to; equal at all nodes that hold the same statements. */
export interface Outcome {
  readonly roster: Digest
  readonly version: number
  readonly withdrawn: readonly Digest[]
  readonly composition: Digest
}

class MemoryNode {
  /** Log of each publisher, as far as this node holds it. */
  readonly logs = new Map<string, Logged[]>()
  #governance = new Governance()
  #derived: DerivedRoster | undefined
  readonly #base: Roster
  readonly peerId: string

  constructor(peerId: string, base: Roster) {
    this.peerId = peerId
    this.#base = base
  }

  derive(): DerivedRoster {
    this.#derived ??= this.#governance.derive(this.#base)
    return this.#derived
  }

  roster(): Roster {
    return this.derive().roster
  }

  proposals() {
    return this.#governance.proposals(this.derive(), NOW)
  }

  /** Forget everything but the logs, and read them again in an order of their own. */
  restart(shuffle: <T>(items: readonly T[]) => T[]): void {
    this.#governance = new Governance()
    this.#derived = undefined
    for (const [publisher, log] of shuffle([...this.logs])) {
      for (const logged of log) this.#add(logged, publisher)
    }
  }

  /** @returns whether the statement extends its publisher's log here. */
  receive(publisher: string, logged: Logged): boolean {
    const log = this.logs.get(publisher) ?? []
    if (logged.seq !== log.length + 1) return false
    if (!this.roster().members.some(({ peerId }) => peerId === publisher)) return false
    log.push(logged)
    this.logs.set(publisher, log)
    this.#add(logged, publisher)
    return true
  }

  #add(logged: Logged, publisher: string): void {
    if (logged.kind !== 'governance' && logged.kind !== 'keys') return
    this.#derived = undefined
    if (logged.kind === 'keys') this.#governance.addKeys(publisher, logged.change)
    else this.#governance.add(logged.statement, utf8(logged.statement.id))
  }

  /** Whether no later statement about keys of its publisher has ended a statement. */
  #counts(publisher: string, seq: number): boolean {
    const changes = (this.logs.get(publisher) ?? []).flatMap((one) =>
      one.kind === 'keys' ? [one.change] : [],
    )
    return new KeyHistory({ key: publisher }, changes).counts(seq)
  }

  nextSeq(): number {
    return (this.logs.get(this.peerId)?.length ?? 0) + 1
  }

  sign<K extends ChainedKindName>(kind: K, fields: Omit<ChainedValues[K], keyof Chained>): void {
    const chain: Chained = {
      publisher: this.peerId,
      seq: this.nextSeq(),
      prev: this.nextSeq() === 1 ? NO_STATEMENT : digestOf(utf8(`${this.peerId} ${this.nextSeq()}`)),
      consortium: CONSORTIUM,
      issuedAt: NOW,
    }
    const { encode, decode } = CHAINED_KINDS[kind]
    // The common fields and those of the kind are all fields of its value.
    const payload = encode({ ...chain, ...fields } as ChainedValues[K])
    const statement = { kind, id: digestOf(payload), value: decode(payload) } as GovernanceStatement
    this.receive(this.peerId, { kind: 'governance', seq: chain.seq, statement })
  }

  outcome(): Outcome {
    const { roster, applied } = this.derive()
    const byQuorum = this.proposals().flatMap(({ id, proposal: { change } }) =>
      applied.has(id) && change.kind === 'withdraw' ? change.manifests : [],
    )
    const all = [...this.logs].flatMap(([publisher, log]) => log.map((logged) => ({ publisher, logged })))
    const own = all.flatMap(({ logged }) => (logged.kind === 'withdrawal' ? [logged.id] : []))
    const withdrawn = [...new Set([...byQuorum, ...own])].sort()
    const used = all.flatMap(({ publisher, logged }) =>
      logged.kind === 'package' &&
      mayPublish(roster, publisher, logged.seq) &&
      this.#counts(publisher, logged.seq) &&
      !withdrawn.includes(logged.id)
        ? [logged.id]
        : [],
    )
    const composition = digestOf(encodeCanonical(used.sort()))
    return { roster: rosterDigest(roster), version: roster.version, withdrawn, composition }
  }
}

export class Schedule {
  readonly #random: () => number
  readonly #nodes: MemoryNode[]
  readonly #base: Roster
  /** Number of the part of the network in which each node is. */
  #parts: number[] = []
  /** What happened, for the report of a failure. */
  readonly log: string[] = []
  #packages = 0

  constructor(seed: number) {
    this.#random = mulberry32(seed)
    const identities = [1, 2, 3, 4, 5].map(identityOf)
    const rules: Rules = this.#below(3) === 0 ? { ...MAJORITY_RULES, admit: this.#rule() } : MAJORITY_RULES
    const { threshold: _, ...charter } = charterOf(identities, { rules })
    this.#base = rosterFromCharter(charter, CONSORTIUM)
    this.#nodes = FOUNDERS.map((peerId) => new MemoryNode(peerId, this.#base))
    this.#heal()
  }

  /** Run the schedule, heal the network, and return what each node comes to. */
  run(): Outcome[] {
    for (let i = 0; i < STEPS; i++) this.#step()
    this.#heal()
    for (let isNew = true; isNew; ) {
      isNew = false
      for (const to of this.#nodes) for (const from of this.#nodes) isNew = this.#pull(to, from, 0) || isNew
    }
    return this.#nodes.map((node) => node.outcome())
  }

  #below(max: number): number {
    return Math.floor(this.#random() * max)
  }

  #pick<T>(items: readonly T[]): T {
    return items[this.#below(items.length)] as T
  }

  #shuffled = <T>(items: readonly T[]): T[] => {
    const left = [...items]
    return items.map(() => left.splice(this.#below(left.length), 1)[0] as T)
  }

  #rule(): Rule {
    return this.#pick<Rule>([
      { threshold: 'all', group: 'members' },
      { threshold: 2, group: 'members' },
      { threshold: 2, group: 'founders' },
      { threshold: 'majority', group: 'founders' },
    ])
  }

  #heal(): void {
    this.#parts = this.#nodes.map(() => 0)
  }

  #step(): void {
    const node = this.#pick(this.#nodes)
    const kind = this.#below(24)
    if (kind < 3) this.#propose(node)
    else if (kind < 11) this.#answer(node)
    else if (kind < 12) this.#publish(node)
    else if (kind === 12 && this.#below(2) === 0) {
      this.#parts = this.#nodes.map(() => this.#below(2))
      this.log.push(`the network is split: ${this.#parts.join()}`)
    } else if (kind === 13) {
      this.#heal()
      this.log.push('the network is whole')
    } else if (kind === 14) {
      node.restart(this.#shuffled)
      this.log.push(`${this.#name(node)} restarts`)
    } else if (kind === 15 && this.#below(6) === 0) this.#leave(node)
    else if (kind === 16 && this.#below(2) === 0) this.#endKeys(node)
    else this.#pull(node, this.#pick(this.#nodes), 1 / 8)
  }

  #name(node: MemoryNode): string {
    return `node ${this.#nodes.indexOf(node)}`
  }

  #propose(node: MemoryNode): void {
    const roster = node.roster()
    if (!isMember(roster, node.peerId)) return
    const change = this.#change(roster)
    this.log.push(`${this.#name(node)} at ${roster.version} proposes ${change.kind}`)
    node.sign('proposal', { rosterVersion: roster.version, change, expiresAt: NOW + 1 + this.#below(1000) })
  }

  #change(roster: Roster): ProposedChange {
    const seat = this.#pick(roster.members).peerId
    switch (this.#below(8)) {
      case 0:
      case 1:
        return { kind: 'admit', institution: this.#pick(['X', 'Y', 'Z']), peerId: this.#pick(NEWCOMERS) }
      case 2:
      case 3:
        return { kind: 'revoke', seat, reason: 'other', validThroughSeq: this.#below(6) }
      case 4:
        return {
          kind: 'rules',
          rules: { ...roster.rules, [this.#pick(['admit', 'revoke', 'rules'])]: this.#rule() },
        }
      case 5:
        return { kind: 'rotate', seat, key: identityOf(20 + this.#below(200)).peerId, next: CONSORTIUM }
      case 6:
        return { kind: 'withdraw', seat, manifests: [digestOf(utf8(`package ${this.#below(10)}`))] }
      default:
        return { kind: 'renew' }
    }
  }

  #answer(node: MemoryNode): void {
    const roster = node.roster()
    const open = node
      .proposals()
      .filter(({ state, undecided }) => state === 'open' && undecided.includes(node.peerId))
    if (open.length === 0 || !isMember(roster, node.peerId)) return
    const { id } = this.#pick(open.slice(0, 3))
    const answer = this.#below(6) === 0 ? 'reject' : 'endorse'
    this.log.push(`${this.#name(node)} at ${roster.version} answers ${answer} to ${id.slice(7, 13)}`)
    node.sign('endorsement', { rosterVersion: roster.version, proposal: id, answer })
  }

  #publish(node: MemoryNode): void {
    const own = node.logs.get(node.peerId) ?? []
    const published = own.filter(({ kind }) => kind === 'package')
    const seq = node.nextSeq()
    if (published.length > 0 && this.#below(3) === 0) {
      const { id } = this.#pick(published) as { id: Digest }
      node.receive(node.peerId, { kind: 'withdrawal', seq, id })
      return
    }
    node.receive(node.peerId, { kind: 'package', seq, id: digestOf(utf8(`package ${this.#packages++}`)) })
  }

  #leave(node: MemoryNode): void {
    const roster = node.roster()
    if (!isMember(roster, node.peerId) || activeMembers(roster).length === 1) return
    this.log.push(`${this.#name(node)} at ${roster.version} leaves`)
    node.sign('leave', { rosterVersion: roster.version, validThroughSeq: this.#below(node.nextSeq() + 1) })
  }

  /** The institution replaces the key of its node, and ends what it has signed lately. */
  #endKeys(node: MemoryNode): void {
    const seq = node.nextSeq()
    const { version } = node.roster()
    const validThroughSeq = Math.max(0, seq - 1 - this.#below(4))
    const rosterVersion = Math.max(1, version - this.#below(3))
    this.log.push(
      `${this.#name(node)} at ${version} ends its statements after ${validThroughSeq} from ${rosterVersion} on`,
    )
    const change = { seq, key: node.peerId, validThroughSeq, rosterVersion }
    node.receive(node.peerId, { kind: 'keys', seq, change })
  }

  /** One node asks another for what it lacks. @param loss chance that the answer ends after each statement */
  #pull(to: MemoryNode, from: MemoryNode, loss: number): boolean {
    if (this.#parts[this.#nodes.indexOf(to)] !== this.#parts[this.#nodes.indexOf(from)]) return false
    let isNew = false
    for (const [publisher, log] of this.#shuffled([...from.logs])) {
      for (const logged of log.slice(to.logs.get(publisher)?.length ?? 0)) {
        if (loss > 0 && this.#random() < loss) return isNew
        isNew = to.receive(publisher, logged) || isNew
      }
    }
    return isNew
  }
}
