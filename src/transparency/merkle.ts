/**
 * Merkle trees of RFC 6962, section 2.1 (the same as RFC 9162, section 2.1): hashes, inclusion and consistency proofs,
 * and their verification. A tree is read through `CompleteSubtrees`, so proofs need O(log n) hashes and never all
 * leaves. Does not know where hashes are stored and what the leaves are.
 */
import { equalBytes, sha256 } from '../lib/bytes.ts'

export const HASH_BYTES = 32

/**
 * Maximum number of hashes in a proof: trees have fewer than 2^53 leaves, and a consistency proof has at most one hash
 * more than the tree has levels. C2SP allows 63.
 */
export const MAX_PROOF_HASHES = 63

/** Root of the tree without leaves: the hash of nothing. */
export const EMPTY_ROOT: Uint8Array = sha256()

const LEAF_PREFIX = new Uint8Array([0])
const NODE_PREFIX = new Uint8Array([1])

export function leafHash(leaf: Uint8Array): Uint8Array {
  return sha256(LEAF_PREFIX, leaf)
}

export function nodeHash(left: Uint8Array, right: Uint8Array): Uint8Array {
  return sha256(NODE_PREFIX, left, right)
}

/** The hashes of a tree from which every other hash and every proof follows. */
export interface CompleteSubtrees {
  /** Root of the subtree of the 2^`height` leaves from leaf `index` * 2^`height` on, all of which exist. */
  complete(height: number, index: number): Promise<Uint8Array>
}

/** Root of the tree of the first `size` leaves. */
export function rootOf(tree: CompleteSubtrees, size: number): Promise<Uint8Array> {
  return size === 0 ? Promise.resolve(EMPTY_ROOT) : rangeRoot(tree, 0, size)
}

/** Computes the root of a tree that grows, from a hash for each 1 bit of its size. */
export class RootBuilder {
  /** Roots of the complete subtrees, from the largest to the smallest. */
  readonly #subtrees: Uint8Array[] = []
  #size = 0

  /** Number of leaves. */
  get size(): number {
    return this.#size
  }

  /** @param leaf hash of the next leaf */
  push(leaf: Uint8Array): void {
    let hash = leaf
    for (let rest = this.#size; rest % 2 === 1; rest = (rest - 1) / 2) {
      hash = nodeHash(this.#subtrees.pop() as Uint8Array, hash)
    }
    this.#subtrees.push(hash)
    this.#size++
  }

  root(): Uint8Array {
    if (this.#size === 0) return EMPTY_ROOT
    return this.#subtrees.reduceRight((right, left) => nodeHash(left, right))
  }
}

/** Root over the leaves from `start` to before `end`. `start` is a multiple of the largest power of two in the range. */
async function rangeRoot(tree: CompleteSubtrees, start: number, end: number): Promise<Uint8Array> {
  const count = end - start
  const height = Math.floor(Math.log2(count))
  if (2 ** height === count) return tree.complete(height, start / count)
  const middle = start + splitOf(count)
  return nodeHash(await rangeRoot(tree, start, middle), await rangeRoot(tree, middle, end))
}

/** Largest power of two below `count`, for a count of at least 2. */
function splitOf(count: number): number {
  let split = 1
  while (2 * split < count) split *= 2
  return split
}

/** Proof that leaf `index` is in the tree of the first `size` leaves; RFC 6962, section 2.1.1. */
export async function inclusionProof(
  tree: CompleteSubtrees,
  index: number,
  size: number,
): Promise<Uint8Array[]> {
  const proof: Uint8Array[] = []
  let start = 0
  let end = size
  while (end - start > 1) {
    const middle = start + splitOf(end - start)
    if (index < middle) {
      proof.unshift(await rangeRoot(tree, middle, end))
      end = middle
    } else {
      proof.unshift(await rangeRoot(tree, start, middle))
      start = middle
    }
  }
  return proof
}

/**
 * Proof that the first `oldSize` leaves of the tree of `size` leaves are those of the earlier tree; RFC 6962, section
 * 2.1.2. Empty if `oldSize` is 0 or `size`.
 */
export async function consistencyProof(
  tree: CompleteSubtrees,
  oldSize: number,
  size: number,
): Promise<Uint8Array[]> {
  if (oldSize === 0 || oldSize === size) return []
  const proof: Uint8Array[] = []
  let start = 0
  let end = size
  while (oldSize !== end) {
    const middle = start + splitOf(end - start)
    if (oldSize <= middle) {
      proof.unshift(await rangeRoot(tree, middle, end))
      end = middle
    } else {
      proof.unshift(await rangeRoot(tree, start, middle))
      start = middle
    }
  }
  // The root of the earlier tree is known to the verifier; another subtree is not.
  if (start > 0) proof.unshift(await rangeRoot(tree, start, end))
  return proof
}

export interface Inclusion {
  readonly index: number
  readonly size: number
  readonly leaf: Uint8Array
  readonly root: Uint8Array
  readonly proof: readonly Uint8Array[]
}

/** RFC 9162, section 2.1.3.2. Never throws. @param leaf in `inclusion`: the hash of the leaf */
export function verifyInclusion({ index, size, leaf, root, proof }: Inclusion): boolean {
  if (!areCounts(index, size) || index >= size || proof.length > MAX_PROOF_HASHES) return false
  if (![leaf, root, ...proof].every(isHash)) return false
  let node = index
  let last = size - 1
  let hash = leaf
  for (const other of proof) {
    if (last === 0) return false
    if (node % 2 === 1 || node === last) {
      hash = nodeHash(other, hash)
      while (node % 2 === 0 && node !== 0) {
        node /= 2
        last = Math.floor(last / 2)
      }
    } else {
      hash = nodeHash(hash, other)
    }
    node = Math.floor(node / 2)
    last = Math.floor(last / 2)
  }
  return last === 0 && equalBytes(hash, root)
}

export interface Consistency {
  readonly oldSize: number
  readonly size: number
  readonly oldRoot: Uint8Array
  readonly root: Uint8Array
  readonly proof: readonly Uint8Array[]
}

/**
 * RFC 9162, section 2.1.4.2. Refuses the empty tree as the earlier one: it is consistent with every tree, so nothing can
 * be proved. Never throws.
 */
export function verifyConsistency({ oldSize, size, oldRoot, root, proof }: Consistency): boolean {
  if (!areCounts(oldSize, size) || oldSize === 0 || oldSize > size) return false
  if (proof.length > MAX_PROOF_HASHES) return false
  if (oldSize === size) return proof.length === 0 && equalBytes(oldRoot, root)
  if (proof.length === 0 || ![oldRoot, root, ...proof].every(isHash)) return false
  const path = isPowerOfTwo(oldSize) ? [oldRoot, ...proof] : proof
  let node = oldSize - 1
  let last = size - 1
  while (node % 2 === 1) {
    node = Math.floor(node / 2)
    last = Math.floor(last / 2)
  }
  const [first, ...rest] = path as readonly [Uint8Array, ...Uint8Array[]]
  let oldHash = first
  let hash = first
  for (const other of rest) {
    if (last === 0) return false
    if (node % 2 === 1 || node === last) {
      oldHash = nodeHash(other, oldHash)
      hash = nodeHash(other, hash)
      while (node % 2 === 0 && node !== 0) {
        node /= 2
        last = Math.floor(last / 2)
      }
    } else {
      hash = nodeHash(hash, other)
    }
    node = Math.floor(node / 2)
    last = Math.floor(last / 2)
  }
  return last === 0 && equalBytes(oldHash, oldRoot) && equalBytes(hash, root)
}

function areCounts(...values: readonly number[]): boolean {
  return values.every((value) => Number.isSafeInteger(value) && value >= 0)
}

function isHash(bytes: Uint8Array): boolean {
  return bytes.length === HASH_BYTES
}

function isPowerOfTwo(value: number): boolean {
  return 2 ** Math.round(Math.log2(value)) === value
}
