/**
 * What follows when a statement about the keys of a seat was logged. Signs nothing.
 */
import type { KeysStatement } from '../consortium/keys-statement.ts'
import { actOnRoster } from './governance.ts'
import type { Parts } from './parts.ts'

/**
 * Close the connections of the keys that a statement has replaced, and stop using packages that do not count any more.
 */
export async function actOnKeys(parts: Parts, stated: KeysStatement): Promise<void> {
  const { membership } = parts
  const { publisher, seq, key, node } = stated
  const before = membership.keys.historyOf(publisher).before(seq)
  for (const replaced of [before.key, before.node?.key]) {
    if (replaced !== undefined && replaced !== key && replaced !== node?.key) await parts.disconnect(replaced)
  }
  await actOnRoster(parts) // The roster may follow from fewer statements now.
  parts.onEvent({
    event: 'keys',
    institution: membership.institutionOf(publisher),
    peerId: publisher,
    isOwn: publisher === membership.seat,
    isRotation: key !== before.key,
    node: node?.key,
  })
}
