/**
 * Stores the hashes of a growing Merkle tree as tiles of C2SP tlog-tiles: tile n of level l holds up to 256 hashes, each
 * the root of 256^l leaves. Appending a leaf writes one tile of each level that it completes; a root or a proof reads
 * O(log n) tiles. Does not know where tiles are kept and what the leaves are.
 */
import { concatBytes } from '../lib/bytes.ts'
import { type CompleteSubtrees, HASH_BYTES, nodeHash } from './merkle.ts'

/** log2 of the number of hashes in a full tile. */
const TILE_HEIGHT = 8
const TILE_WIDTH = 2 ** TILE_HEIGHT

export interface Tile {
  readonly level: number
  /** Number of the tile within its level, from 0. */
  readonly index: number
  /** 1 to 256 hashes of 32 bytes. */
  readonly hashes: Uint8Array
}

/** @returns the hashes of a tile; empty if the tile does not exist. */
export type ReadTile = (level: number, index: number) => Promise<Uint8Array>

/** The tree whose hashes lie in tiles. */
export function tiledTree(read: ReadTile): CompleteSubtrees {
  return {
    async complete(height, index) {
      const level = Math.floor(height / TILE_HEIGHT)
      const count = 2 ** (height % TILE_HEIGHT)
      const first = index * count
      const tile = await read(level, Math.floor(first / TILE_WIDTH))
      return rootOfPart(tile, first % TILE_WIDTH, count)
    },
  }
}

/**
 * Append leaves to a tree.
 * @param size number of leaves so far
 * @param leaves hashes of the new leaves
 * @returns every tile that has changed
 */
export async function appendLeaves(
  read: ReadTile,
  size: number,
  leaves: readonly Uint8Array[],
): Promise<Tile[]> {
  const changed = new Map<string, Tile>()
  const push = async (level: number, position: number, hash: Uint8Array): Promise<void> => {
    const index = Math.floor(position / TILE_WIDTH)
    const key = `${level}.${index}`
    const before = changed.get(key)?.hashes ?? (await read(level, index))
    // A tile may hold more than `size` counts, if a write was lost: what follows is replaced.
    const kept = before.subarray(0, (position % TILE_WIDTH) * HASH_BYTES)
    const hashes = concatBytes(kept, hash)
    changed.set(key, { level, index, hashes })
    if (hashes.length === TILE_WIDTH * HASH_BYTES)
      await push(level + 1, index, rootOfPart(hashes, 0, TILE_WIDTH))
  }
  for (const [i, leaf] of leaves.entries()) await push(0, size + i, leaf)
  return [...changed.values()]
}

/** Root over `count` hashes of a tile, a power of two, from hash `first` on. */
function rootOfPart(tile: Uint8Array, first: number, count: number): Uint8Array {
  let hashes: Uint8Array[] = []
  for (let i = first; i < first + count; i++) {
    hashes.push(tile.slice(i * HASH_BYTES, (i + 1) * HASH_BYTES))
  }
  while (hashes.length > 1) {
    const pairs: Uint8Array[] = []
    for (let i = 0; i < hashes.length; i += 2) {
      pairs.push(nodeHash(hashes[i] as Uint8Array, hashes[i + 1] as Uint8Array))
    }
    hashes = pairs
  }
  return hashes[0] as Uint8Array
}
