/** Signs, logs and announces a statement about the keys of our own seat. Knows nothing about key files. */
import type { NodeKey } from '../consortium/key-history.ts'
import { encodeKeys, type KeysStatement, sealKeys } from '../consortium/keys-statement.ts'
import type { Identity } from '../identity/keys.ts'
import { type Digest, digestOf } from '../lib/bytes.ts'
import { checkCaughtUp } from './before-signing.ts'
import { actOnChained, logChained } from './chained-effects.ts'
import { announce } from './own-log.ts'
import type { Parts } from './parts.ts'

/** The keys that our own seat will state. */
export interface NextKeys {
  /** The institution key: the ruling one, or the committed one for a rotation. */
  readonly institution: Identity
  readonly next?: Digest
  /** The node key, with what it may do; undefined if only the institution key signs from now on. */
  readonly node?: { readonly identity: Identity } & Omit<NodeKey, 'key'>
  /** Our statements after this number do not count; undefined if all of them count. */
  readonly validThroughSeq?: number
}

/**
 * Sign, log and announce a statement about the keys of our seat.
 * @throws InputError `behind`; VerificationError as `KeyHistory.checkChange`. Nothing is signed then.
 */
export async function stateKeys(parts: Parts, keys: NextKeys): Promise<KeysStatement> {
  const { membership, statements, signing, mark } = parts
  const { institution, next, node, validThroughSeq } = keys
  checkCaughtUp(parts)
  const stated = await signing.run(async () => {
    const value: KeysStatement = {
      ...(await statements.next()),
      consortium: membership.consortium,
      issuedAt: parts.now(),
      key: institution.peerId,
      ...(next === undefined ? {} : { next }),
      ...(node === undefined
        ? {}
        : {
            node: { key: node.identity.peerId, scopes: [...node.scopes].sort(), expiresAt: node.expiresAt },
          }),
      ...(validThroughSeq === undefined
        ? {}
        : { validThroughSeq, rosterVersion: membership.roster().version }),
    }
    membership.keys.historyOf(value.publisher).checkChange(value)
    const envelope = sealKeys(value, institution, node?.identity)
    await mark.replace() // Before the log holds the statement: what follows that must not fail.
    const statement = { kind: 'keys', value, id: digestOf(encodeKeys(value)), envelope } as const
    await logChained(parts, statement, true)
    await actOnChained(parts, statement)
    return value
  })
  await announce(parts)
  return stated
}
