/**
 * The keys of one seat over its log: which institution key and which node key may sign which statement, and which
 * statements of replaced keys count. Implements protocols/consortium-charter, section "Keys": a pure function of the
 * seat's statements about its keys and of the restorations on the roster. Does not verify signatures, and does not know
 * the store and the clock.
 */
import { type PeerIdString, publicKeyFromPeerId } from '../identity/keys.ts'
import { type Digest, digestOf } from '../lib/bytes.ts'
import { InputError, VerificationError } from '../lib/errors.ts'

/** Groups of statements for which an institution authorises a node key. */
export const NODE_SCOPES = ['governance', 'packages', 'witness'] as const
export type NodeScope = (typeof NODE_SCOPES)[number]

/** @param text scopes separated by commas. @throws InputError `usage`. */
export function parseScopes(text: string): NodeScope[] {
  const words = text.split(',').map((word) => word.trim())
  return [...new Set(words)].map((word) => {
    const scope = NODE_SCOPES.find((known) => known === word)
    if (scope !== undefined) return scope
    throw new InputError('usage', `--scopes: expected some of ${NODE_SCOPES.join(', ')}, got "${word}"`)
  })
}

/** The key of a node that may sign for a seat, within its scopes and until its end. */
export interface NodeKey {
  readonly key: PeerIdString
  readonly scopes: readonly NodeScope[]
  /** Unix seconds. */
  readonly expiresAt: number
}

/** The keys that rule a seat. */
export interface KeyState {
  /** The institution key. */
  readonly key: PeerIdString
  /** Digest of the only key to which the institution can rotate; undefined while none is committed. */
  readonly next?: Digest
  /** Undefined if only the institution key signs. */
  readonly node?: NodeKey
}

/** What a statement about keys states; it holds for the statements after it. */
export interface KeyChange extends KeyState {
  /** Sequence number of the statement. */
  readonly seq: number
  /** Statements of the seat between this number and `seq` do not count; undefined if all of them count. */
  readonly validThroughSeq?: number
  /**
   * Version of the roster from which on the statements about the consortium that `validThroughSeq` ends do not count;
   * undefined if they count.
   */
  readonly rosterVersion?: number
}

/** A decision of the members that gives a seat a new institution key. */
export interface Restoration {
  readonly key: PeerIdString
  readonly next?: Digest
}

/** The facts about a statement that decide whether its signer was allowed to sign it. */
export interface KeyUse {
  readonly seq: number
  readonly signer: PeerIdString
  /** Unix seconds, as the statement states it. */
  readonly issuedAt: number
  /** `any` for a statement that every node key may sign, `institution` for one that no node key may sign. */
  readonly scope: NodeScope | 'any' | 'institution'
}

/** SHA-256 of the 32 bytes of a public key. @throws FormatError, VerificationError for a peer id without a strong key. */
export function keyDigest(peerId: PeerIdString): Digest {
  return digestOf(publicKeyFromPeerId(peerId))
}

/** Immutable; `with` returns the history after one more statement. */
export class KeyHistory {
  readonly #first: KeyState
  readonly #restored: Restoration | undefined
  readonly #changes: readonly KeyChange[]

  /**
   * @param first the keys with which the seat was admitted: its key is the id of the seat
   * @param changes in the order of the seat's log
   * @param restored what the latest roster says about the seat
   */
  constructor(first: KeyState, changes: readonly KeyChange[] = [], restored?: Restoration) {
    this.#first = first
    this.#changes = changes
    this.#restored = restored
  }

  get changes(): readonly KeyChange[] {
    return this.#changes
  }

  with(change: KeyChange): KeyHistory {
    return new KeyHistory(this.#first, [...this.#changes, change], this.#restored)
  }

  /** The keys that may sign statement `seq`. */
  before(seq: number): KeyState {
    return this.#changes.findLast((change) => change.seq < seq) ?? this.#first
  }

  /** The keys that rule the seat after everything that is known. */
  current(): KeyState {
    const restored = this.unstated()
    if (restored !== undefined) return stateOf(restored)
    return this.before(Number.POSITIVE_INFINITY)
  }

  /** The restoration, until the seat states its key. */
  unstated(): Restoration | undefined {
    const isStated = this.#changes.some(({ key }) => key === this.#restored?.key)
    return isStated ? undefined : this.#restored
  }

  /**
   * Whether statement `seq` counts: not if it was signed after the last number that a later statement about keys leaves
   * valid to the replaced keys.
   */
  counts(seq: number): boolean {
    return this.#changes.every(
      ({ validThroughSeq = seq, seq: stated }) => seq <= validThroughSeq || seq >= stated,
    )
  }

  /**
   * Whether a key rules the seat now or is the committed next one. Only such a key can contradict the seat's log: a key
   * that was replaced may be in the hands of a thief.
   */
  mayContradict(candidate: PeerIdString): boolean {
    const { next } = this.current()
    return this.isRuledBy(candidate) || (next !== undefined && keyDigest(candidate) === next)
  }

  /** Whether a key is the institution key or the node key of the seat now; the node key may have ended. */
  isRuledBy(candidate: PeerIdString): boolean {
    const { key, node } = this.current()
    return candidate === key || candidate === node?.key
  }

  /** Every key that rules the seat or has ruled it, and the one to which the members have restored it. */
  keys(): PeerIdString[] {
    const states = [this.#first, ...this.#changes]
    const restored = this.#restored === undefined ? [] : [this.#restored.key]
    return [...states.flatMap(({ key, node }) => (node === undefined ? [key] : [key, node.key])), ...restored]
  }

  /** Whether a key may sign what belongs to no place in the log, now: see `checkSigner`. */
  allowsNow(use: Omit<KeyUse, 'seq'>): boolean {
    if (this.unstated() !== undefined) return false
    try {
      this.checkSigner({ ...use, seq: Number.POSITIVE_INFINITY })
      return true
    } catch (error) {
      if (error instanceof VerificationError) return false
      throw error
    }
  }

  /**
   * @throws VerificationError `wrong-signer` if the signer was not a key of the seat at this place or its scopes do not
   * cover the statement; `expired` if the node key had ended.
   */
  checkSigner({ seq, signer, issuedAt, scope }: KeyUse): void {
    const { key, node } = this.before(seq)
    if (signer === key) return
    if (signer !== node?.key) {
      throw new VerificationError(
        'wrong-signer',
        `statement ${seq}: expected the signature of ${key}${node === undefined ? '' : ` or ${node.key}`}, got ${signer}`,
      )
    }
    if (issuedAt > node.expiresAt) {
      throw new VerificationError(
        'expired',
        `statement ${seq}: the node key ${signer} ended at ${new Date(node.expiresAt * 1000).toISOString()}; run: flexmesh key delegate`,
      )
    }
    if (scope !== 'any' && (scope === 'institution' || !node.scopes.includes(scope))) {
      throw new VerificationError(
        'wrong-signer',
        `statement ${seq}: the node key ${signer} has no scope ${scope}; run: flexmesh key delegate --scopes`,
      )
    }
  }

  /**
   * Whether a statement about keys may follow. Its signatures by `key` and the node key were verified.
   * @throws VerificationError `wrong-signer` for a key that was neither the institution key nor committed as the next
   * one; `not-committed` for a rotation that commits no next key, or another commitment without a rotation; `replayed`
   * for a key that has served the seat before.
   */
  checkChange(change: KeyChange): void {
    const state = this.before(change.seq)
    const restored = this.unstated()
    if (change.key === restored?.key) checkRestored(change, restored)
    else if (change.key === state.key) checkSameKey(change, state)
    else checkRotation(change, state)
    this.#checkUnused(change, state)
  }

  /** A key that was replaced may be in the hands of a thief, so it never returns. */
  #checkUnused(change: KeyChange, state: KeyState): void {
    const before = [this.#first, ...this.#changes.filter(({ seq }) => seq < change.seq)]
    const institutionKeys = new Set(before.map(({ key }) => key))
    const nodeKeys = new Set(before.flatMap(({ node }) => node?.key ?? []))
    const node = change.node?.key
    const isReused =
      (change.key !== state.key && (institutionKeys.has(change.key) || nodeKeys.has(change.key))) ||
      (node !== undefined && (institutionKeys.has(node) || (nodeKeys.has(node) && node !== state.node?.key)))
    if (!isReused) return
    throw new VerificationError(
      'replayed',
      `statement ${change.seq}: names a key that has served this seat before`,
    )
  }
}

function stateOf({ key, next }: Restoration): KeyState {
  return { key, ...(next === undefined ? {} : { next }) }
}

function checkRestored({ next }: KeyChange, restored: Restoration): void {
  if (restored.next !== undefined && restored.next !== next) {
    throw notCommitted(
      `expected the next key ${restored.next} that the members decided, got ${next ?? 'none'}`,
    )
  }
}

/** The commitment binds a thief of the current key too, so it changes only with a rotation. */
function checkSameKey(change: KeyChange, { next }: KeyState): void {
  if (next === undefined || change.next === next) return
  throw notCommitted(`expected the committed next key ${next} to stay, got ${change.next ?? 'none'}`)
}

function checkRotation(change: KeyChange, { key, next }: KeyState): void {
  if (next === undefined || keyDigest(change.key) !== next) {
    throw new VerificationError(
      'wrong-signer',
      `statement ${change.seq}: ${change.key} is neither the institution key ${key} nor the committed next key`,
    )
  }
  if (change.next === undefined || change.next === next) {
    throw notCommitted('a rotation has to commit another next key')
  }
}

function notCommitted(message: string): VerificationError {
  return new VerificationError('not-committed', `keys.next: ${message}`)
}
