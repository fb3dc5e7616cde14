/**
 * The Merkle tree of every publisher's log, kept as tiles in the catalogue. Each statement is one leaf: its payload. The
 * trees are derived from the stored log, so they may lag behind it and are caught up before they are read; a crash, or a
 * home that was made before there were trees, costs no more than that. Does not know who signs and what a statement says.
 */
import { readEnvelope } from '../identity/envelope.ts'
import type { PeerIdString } from '../identity/keys.ts'
import { fromUtf8, utf8 } from '../lib/bytes.ts'
import { InputError } from '../lib/errors.ts'
import { Serial } from '../lib/serial.ts'
import type { Catalogue } from '../store/catalogue.ts'
import { type CompleteSubtrees, consistencyProof, inclusionProof, leafHash, rootOf } from './merkle.ts'
import { appendLeaves, tiledTree } from './tiles.ts'

/** Statements that are read and appended in one write. */
const BATCH = 256

export class LogTrees {
  readonly #catalogue: Catalogue
  readonly #extending = new Serial()

  constructor(catalogue: Catalogue) {
    this.#catalogue = catalogue
  }

  /**
   * Append the statements that were logged since the last call. Costs O(log n) for each of them.
   * @returns number of leaves. @throws InputError `disk-full`, `io`.
   */
  extend(publisher: PeerIdString): Promise<number> {
    return this.#extending.run(async () => {
      let size = await this.#size(publisher)
      for (;;) {
        const page = await this.#catalogue.log(publisher, size + 1, BATCH)
        if (page.length === 0) return size
        const leaves = page.map(({ envelope }) => leafHash(readEnvelope(envelope).payload))
        const tiles = await appendLeaves((level, index) => this.#tile(publisher, level, index), size, leaves)
        size += page.length
        await this.#catalogue.write([
          ...tiles.map(({ level, index, hashes }) => ({
            table: 'tiles' as const,
            key: tileKey(publisher, level, index),
            value: hashes,
          })),
          { table: 'tiles', key: sizeKey(publisher), value: utf8(String(size)) },
        ])
      }
    })
  }

  /** Root of the first `size` statements, all of which were appended. */
  root(publisher: PeerIdString, size: number): Promise<Uint8Array> {
    return rootOf(this.#tree(publisher), size)
  }

  /** @param index from 0: the sequence number less 1 */
  inclusion(publisher: PeerIdString, index: number, size: number): Promise<Uint8Array[]> {
    return inclusionProof(this.#tree(publisher), index, size)
  }

  consistency(publisher: PeerIdString, oldSize: number, size: number): Promise<Uint8Array[]> {
    return consistencyProof(this.#tree(publisher), oldSize, size)
  }

  #tree(publisher: PeerIdString): CompleteSubtrees {
    return tiledTree(async (level, index) => {
      const tile = await this.#tile(publisher, level, index)
      if (tile.length > 0) return tile
      throw new InputError('io', `catalogue: tile ${level}/${index} of the log of ${publisher} is missing`)
    })
  }

  async #size(publisher: PeerIdString): Promise<number> {
    const stored = await this.#catalogue.get('tiles', sizeKey(publisher))
    return stored === undefined ? 0 : Number(fromUtf8(stored))
  }

  async #tile(publisher: PeerIdString, level: number, index: number): Promise<Uint8Array> {
    return (await this.#catalogue.get('tiles', tileKey(publisher, level, index))) ?? new Uint8Array()
  }
}

function sizeKey(publisher: PeerIdString): string {
  return `${publisher}.size`
}

function tileKey(publisher: PeerIdString, level: number, index: number): string {
  return `${publisher}.${level}.${index}`
}
