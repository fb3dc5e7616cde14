/**
 * What a node does with statements of the kinds in packaging/chained-kinds.ts: one row for each kind. Also signs and logs
 * statements of these kinds of our own. Does not decide what is signed.
 */
import { isSameChange } from '../consortium/change.ts'
import type { KeyChange } from '../consortium/key-history.ts'
import type { Proposal } from '../consortium/proposal.ts'
import { seal } from '../identity/envelope.ts'
import type { ChainLink } from '../identity/statement.ts'
import { type Digest, digestOf } from '../lib/bytes.ts'
import {
  CHAINED_KINDS,
  type ChainedKindName,
  type ChainedStatement,
  type ChainedValues,
} from '../packaging/chained-kinds.ts'
import type { Change } from '../store/catalogue.ts'
import { governanceKey, placeKey } from '../store/catalogue-keys.ts'
import { checkMaySign, mustCatchUp } from './before-signing.ts'
import { receiveGovernance } from './governance.ts'
import type { Parts } from './parts.ts'
import { actOnKeys } from './seat-keys.ts'

interface Effect<K extends ChainedKindName> {
  /**
   * Called for every statement before it is logged, and so also for one that does not fit into the log.
   * @returns whether it was new. @throws VerificationError, PolicyError for one that is not logged either.
   */
  onReceived?(parts: Parts, statement: ChainedStatement<K>): Promise<boolean>
  /** Changes of the catalogue that are written together with a new statement. */
  changes?(statement: ChainedStatement<K>): readonly Change[]
  /** The keys that a statement states. They rule from the next statement on. */
  keys?(statement: ChainedStatement<K>): KeyChange
  /** Called once for a new statement, after it was logged. */
  onLogged?(parts: Parts, statement: ChainedStatement<K>): Promise<void>
  /** Called at start for every statement in the logs, in the order of its publisher's chain. */
  onRestored?(parts: Parts, statement: ChainedStatement<K>): void
}

/** Written together with the log, so that no crash comes between the two. */
function keepGovernance({ id, envelope }: Pick<ChainedStatement, 'id' | 'envelope'>): readonly Change[] {
  return [{ table: 'governance', key: governanceKey(id), value: envelope }]
}

const EFFECTS: { readonly [K in ChainedKindName]: Effect<K> } = {
  proposal: {
    onReceived: (parts, { id, value, envelope }) =>
      receiveGovernance(parts, { kind: 'proposal', id, value }, envelope),
    changes: keepGovernance,
    onLogged: (parts, { id, value }) => endorseEqual(parts, id, value),
  },
  endorsement: {
    onReceived: (parts, { id, value, envelope }) =>
      receiveGovernance(parts, { kind: 'endorsement', id, value }, envelope),
    changes: keepGovernance,
  },
  leave: {
    onReceived: (parts, { id, value, envelope }) =>
      receiveGovernance(parts, { kind: 'leave', id, value }, envelope),
    changes: keepGovernance,
  },
  receipt: {
    onLogged: async ({ ledger }, { value, id }) => ledger.addReceipt(value, id),
    onRestored: ({ ledger }, { value, id }) => ledger.addReceipt(value, id),
  },
  keys: {
    changes: ({ value: { publisher, seq }, envelope }) => [
      { table: 'keys', key: placeKey(publisher, seq), value: envelope },
    ],
    keys: ({ value }) => value,
    onLogged: (parts, { value }) => actOnKeys(parts, value),
  },
}

/** See `onReceived` of a kind's row. */
export async function receiveChained<K extends ChainedKindName>(
  parts: Parts,
  statement: ChainedStatement<K>,
): Promise<boolean> {
  const effect: Effect<K> = EFFECTS[statement.kind]
  return (await effect.onReceived?.(parts, statement)) ?? false
}

/** @returns false if the log holds the statement already. @throws as `StatementLog.append`. */
export function logChained<K extends ChainedKindName>(
  { statements }: Parts,
  statement: ChainedStatement<K>,
  isOwn = false,
): Promise<boolean> {
  const { kind, value, id, envelope } = statement
  const effect: Effect<K> = EFFECTS[kind]
  return statements.append({
    kind,
    link: value,
    consortium: value.consortium,
    id,
    envelope,
    changes: effect.changes?.(statement) ?? [],
    ...(effect.keys === undefined ? {} : { keys: effect.keys(statement) }),
    ...(isOwn ? { isDraft: true } : {}),
  })
}

/** Carry out what a new statement means for this node. */
export async function actOnChained<K extends ChainedKindName>(
  parts: Parts,
  statement: ChainedStatement<K>,
): Promise<void> {
  const effect: Effect<K> = EFFECTS[statement.kind]
  await effect.onLogged?.(parts, statement)
}

/** Restore what a logged statement means for this node, at start. */
export function restoreChained<K extends ChainedKindName>(
  parts: Parts,
  statement: ChainedStatement<K>,
): void {
  const effect: Effect<K> = EFFECTS[statement.kind]
  effect.onRestored?.(parts, statement)
}

/**
 * Sign the next statement of our own log, log it and carry it out. Call this inside `parts.signing`.
 * @param describe the statement, for its place in the chain. @returns its id.
 * @throws FormatError for a statement that nobody would accept; PolicyError `quota`; InputError `disk-full`, `io`.
 */
export async function signChained<K extends ChainedKindName>(
  parts: Parts,
  kind: K,
  describe: (link: ChainLink & { consortium: Digest; issuedAt: number }) => ChainedValues[K],
): Promise<Digest> {
  const { statements, membership, identity, mark, now } = parts
  checkMaySign(parts, kind === 'receipt' ? 'packages' : 'governance')
  const link = await statements.next()
  const value = describe({ ...link, consortium: membership.consortium, issuedAt: now() })
  const { encode, mediaType } = CHAINED_KINDS[kind]
  const payload = encode(value)
  const envelope = seal(mediaType, payload, [identity])
  const statement: ChainedStatement<K> = { kind, value, id: digestOf(payload), envelope }
  await mark.replace() // Before the log holds the statement: what follows that must not fail.
  await logChained(parts, statement, true)
  await receiveChained(parts, statement)
  await actOnChained(parts, statement)
  return statement.id
}

/**
 * Endorse another member's proposal of a change that this institution has proposed itself, so that two members who
 * propose the same at the same time need not agree on one proposal. The one with the smaller id is endorsed.
 */
async function endorseEqual(parts: Parts, id: Digest, { publisher, change }: Proposal): Promise<void> {
  const { membership } = parts
  if (publisher === membership.seat || mustCatchUp(parts)) return
  await parts.signing.run(async () => {
    const own = membership.book
      .proposals()
      .filter(({ state, proposal }) => state === 'open' && isSameChange(proposal.change, change))
    const theirs = own.find((one) => one.id === id)
    const isOurs = own.some((one) => one.proposal.publisher === membership.seat && one.id > id)
    if (!isOurs || theirs?.undecided.includes(membership.seat) !== true) return
    await signChained(parts, 'endorsement', (link) => ({
      ...link,
      rosterVersion: membership.roster().version,
      proposal: id,
      answer: 'endorse',
    }))
    parts.news.isPending = true
  })
}
