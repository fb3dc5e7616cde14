/**
 * Extends the node key of our seat while the institution key is on another machine: the node writes the statement and signs
 * it, the institution signs the file elsewhere, and the node logs it. Knows no files.
 */

import type { NodeKey } from '../consortium/key-history.ts'
import { type KeysStatement, openKeys, sealKeysRequest } from '../consortium/keys-statement.ts'
import { ownCommand } from '../lib/command-line.ts'
import { InputError } from '../lib/errors.ts'
import { checkCaughtUp } from './before-signing.ts'
import { actOnChained, logChained } from './chained-effects.ts'
import { announce } from './own-log.ts'
import type { Parts } from './parts.ts'

export interface KeyRequest {
  readonly statement: KeysStatement
  /** With the signature of the node alone. */
  readonly envelope: Uint8Array
}

/**
 * The next statement about the keys of our seat, which confirms the key of this node with another end or other scopes.
 * @throws InputError `not-acceptable` if the key of this node is not the node key of its seat; `behind`.
 */
export async function requestKeys(
  parts: Parts,
  { expiresAt, scopes }: Partial<Pick<NodeKey, 'scopes'>> & Pick<NodeKey, 'expiresAt'>,
): Promise<KeyRequest> {
  const { membership, statements, identity } = parts
  checkCaughtUp(parts)
  const { key, next, node } = membership.keys.historyOf(membership.seat).current()
  if (node?.key !== identity.peerId) {
    throw new InputError(
      'not-acceptable',
      `the key of this home is not the node key of its seat, so it cannot be confirmed from elsewhere; stop the node and run ${ownCommand('key', 'delegate')}`,
    )
  }
  const statement: KeysStatement = {
    ...(await statements.next()),
    consortium: membership.consortium,
    issuedAt: parts.now(),
    key,
    ...(next === undefined ? {} : { next }),
    node: { key: identity.peerId, scopes: [...(scopes ?? node.scopes)].sort(), expiresAt },
  }
  return { statement, envelope: sealKeysRequest(statement, identity) }
}

/**
 * Log and announce a requested statement that the institution has signed.
 * @throws InputError `mismatch` if it names another node or another place in our log; FormatError; VerificationError,
 * `unsigned` if the institution has not signed, and as `KeyHistory.checkChange`.
 */
export async function acceptKeys(parts: Parts, envelope: Uint8Array): Promise<KeysStatement> {
  const { membership, statements, signing, mark, identity } = parts
  const { value, id } = openKeys(envelope)
  await signing.run(async () => {
    checkCaughtUp(parts)
    const { publisher, seq, prev } = await statements.next()
    if (value.publisher !== publisher || value.node?.key !== identity.peerId) {
      throw new InputError(
        'mismatch',
        `the file is about the node ${value.node?.key} of the seat ${value.publisher}`,
      )
    }
    if (value.seq !== seq || value.prev !== prev) {
      throw new InputError(
        'mismatch',
        `the file is about statement ${value.seq}, but the next statement of this institution is ${seq}: it has signed something since; run ${ownCommand('key', 'request', 'FILE')} again`,
      )
    }
    membership.keys.historyOf(publisher).checkChange(value)
    const statement = { kind: 'keys', value, id, envelope } as const
    await mark.replace() // Before the log holds the statement: what follows that must not fail.
    await logChained(parts, statement, true)
    await actOnChained(parts, statement)
  })
  await announce(parts)
  return value
}
