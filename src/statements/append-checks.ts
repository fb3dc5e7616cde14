/**
 * What a statement must meet before it is added to its publisher's log: that its keys may follow, that it continues the
 * chain, and that the log has room. Implements the chain rules of protocols/expert-package. Writes nothing but the proof
 * of a fork.
 */
import type { KeyChange } from '../consortium/key-history.ts'
import type { Membership } from '../consortium/membership.ts'
import { type ChainLink, placeInChain } from '../identity/statement.ts'
import type { Digest } from '../lib/bytes.ts'
import { PolicyError, VerificationError } from '../lib/errors.ts'
import { limit } from '../lib/limits.ts'
import type { Catalogue, Change } from '../store/catalogue.ts'
import type { Forks } from './forks.ts'

/** A statement whose signature was verified, as it is stored in its publisher's log. */
export interface LoggedStatement {
  /** Kind of the statement, which decides how much of the log it may fill. */
  readonly kind: string
  readonly link: ChainLink
  readonly consortium: Digest
  /** Digest of the payload. */
  readonly id: Digest
  readonly envelope: Uint8Array
  /** Our own statement that nobody has seen: if it does not fit, it is dropped and proves no fork. */
  readonly isDraft?: true
  /** Written together with the statement, if it is new. */
  readonly changes?: readonly Change[]
  /** What a statement about keys states. */
  readonly keys?: KeyChange
}

/** Shares of a publisher's log that kinds of statements may fill. The rest is for withdrawals, which must always find room. */
const SHARES: Readonly<Record<string, number>> = { manifest: 3 / 4, withdrawal: 1 }
const SHARE_OF_OTHERS = 7 / 8

interface AppendChecks {
  readonly catalogue: Catalogue
  readonly membership: Membership
  readonly forks: Forks
  /** Number of the latest statement in the publisher's log; 0 without statements. */
  readonly lastSeq: number
}

/**
 * Check a statement about keys before its place, so that nobody but the seat can contradict its log.
 * @throws VerificationError.
 */
export function checkKeys(
  { membership, lastSeq }: AppendChecks,
  { link: { publisher, seq }, keys }: LoggedStatement,
): void {
  if (keys === undefined) return
  if (seq > lastSeq + 1) {
    throw new VerificationError('replayed', `statement ${seq} arrived before its predecessors`)
  }
  membership.keys.historyOf(publisher).checkChange(keys)
}

/**
 * @param held the statement with the same number that the log holds
 * @throws VerificationError `forked`, after the statement was kept as proof; `replayed`.
 */
export async function checkPlace(
  { catalogue, forks }: AppendChecks,
  { link, id, envelope, isDraft }: LoggedStatement,
  held: Digest | undefined,
): Promise<void> {
  try {
    if (held !== undefined) {
      throw new VerificationError('forked', `statement ${link.seq}: ${held} has the same number`)
    }
    if (placeInChain(await catalogue.tip(link.publisher), link, id) === 'gap') {
      throw new VerificationError('replayed', `statement ${link.seq} arrived before its predecessors`)
    }
  } catch (error) {
    const isProof = error instanceof VerificationError && error.code === 'forked' && isDraft !== true
    const contradicted = held ?? (await catalogue.statementAt(link.publisher, link.seq - 1))
    if (isProof && contradicted !== undefined) {
      const other = await catalogue.statement(contradicted)
      if (other !== undefined) await forks.keep({ publisher: link.publisher, envelopes: [other, envelope] })
    }
    throw error
  }
}

/** @throws PolicyError `quota`. */
export async function checkRoom(
  { catalogue }: AppendChecks,
  { kind, link: { publisher, seq }, envelope }: LoggedStatement,
): Promise<void> {
  const share = SHARES[kind] ?? SHARE_OF_OTHERS
  const bytes = ((await catalogue.tip(publisher))?.bytes ?? 0) + envelope.length
  const mostStatements = share * limit('statementsPerPublisher')
  const mostBytes = share * limit('logBytesPerPublisher')
  if (seq <= mostStatements && bytes <= mostBytes) return
  throw new PolicyError(
    'quota',
    `the log of ${publisher} is full: ${kind}s may fill ${mostStatements} statements and ${mostBytes} bytes; its institution joins again with a new key to go on`,
  )
}
