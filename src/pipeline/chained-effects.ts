/**
 * What a node does with statements of the kinds in packaging/chained-kinds.ts: one row for each kind. Does not
 * decide what is signed.
 */
import type { ChainedKindName, ChainedStatement } from '../packaging/chained-kinds.ts'
import type { Change } from '../store/catalogue.ts'
import type { Parts } from './parts.ts'

interface Effect<K extends ChainedKindName> {
  /** Changes of the catalogue that are written together with a new statement. */
  changes?(statement: ChainedStatement<K>): readonly Change[]
  /** Called once for a new statement, after it was logged. */
  onLogged(parts: Parts, statement: ChainedStatement<K>): Promise<void>
  /** Called at start for every statement in the logs, in the order of its publisher's chain. */
  onRestored?(parts: Parts, statement: ChainedStatement<K>): void
}

const EFFECTS: { readonly [K in ChainedKindName]: Effect<K> } = {
  proposal: { onLogged: async () => undefined },
  endorsement: { onLogged: async () => undefined },
  leave: { onLogged: async () => undefined },
  receipt: {
    onLogged: async ({ ledger }, { value, id }) => ledger.addReceipt(value, id),
    onRestored: ({ ledger }, { value, id }) => ledger.addReceipt(value, id),
  },
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
    ...(isOwn ? { isDraft: true } : {}),
  })
}

/** Carry out what a new statement means for this node. */
export async function actOnChained<K extends ChainedKindName>(
  parts: Parts,
  statement: ChainedStatement<K>,
): Promise<void> {
  const effect: Effect<K> = EFFECTS[statement.kind]
  await effect.onLogged(parts, statement)
}

/** Restore what a logged statement means for this node, at start. */
export function restoreChained<K extends ChainedKindName>(
  parts: Parts,
  statement: ChainedStatement<K>,
): void {
  const effect: Effect<K> = EFFECTS[statement.kind]
  effect.onRestored?.(parts, statement)
}
