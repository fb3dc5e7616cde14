/**
 * Which runs of words a body of text holds, in bounded memory: finds documents that repeat others in part.
 * Case, punctuation and white space do not count. Knows no files and no tokens.
 */

/** Words in a run. */
const SHINGLE_WORDS = 8
/** Scripts written without spaces: every character is taken for a word. */
const WORD =
  /[\p{sc=Han}\p{sc=Hira}\p{sc=Kana}\p{sc=Thai}\p{sc=Khmr}\p{sc=Laoo}\p{sc=Mymr}]|(?:(?![\p{sc=Han}\p{sc=Hira}\p{sc=Kana}\p{sc=Thai}\p{sc=Khmr}\p{sc=Laoo}\p{sc=Mymr}])[\p{L}\p{M}\p{N}])+/gu

const BITS = 29

/**
 * A set of runs kept as one bit each of a table of 2^29 (64 MiB, touched as it fills). A run is taken for
 * seen by mistake with the share of bits set, so runs beyond an eighth of the table are not added.
 */
export class SeenShingles {
  readonly #table = new Uint32Array(2 ** (BITS - 5))
  #set = 0

  /** True once text is no longer added: about 67 million different runs were. */
  get full(): boolean {
    return this.#set >= 2 ** (BITS - 3)
  }

  add(text: string): void {
    if (this.full) return
    for (const hash of shingles(text)) {
      const [word, bit] = place(hash)
      const old = this.#table[word] as number
      if ((old & bit) !== 0) continue
      this.#table[word] = old | bit
      this.#set++
    }
  }

  /** Share of the runs of `text` that were added before; 0 for a text without words. */
  overlap(text: string): number {
    const hashes = shingles(text)
    let seen = 0
    for (const hash of hashes) {
      const [word, bit] = place(hash)
      if (((this.#table[word] as number) & bit) !== 0) seen++
    }
    return hashes.length === 0 ? 0 : seen / hashes.length
  }
}

function place(hash: number): [word: number, bit: number] {
  return [(hash >>> (32 - BITS)) >>> 5, 1 << ((hash >>> (32 - BITS)) & 31)]
}

/** 32-bit hashes of every run of eight words; of all words when there are fewer. */
function shingles(text: string): Uint32Array {
  const words = text.toLowerCase().match(WORD) ?? []
  const length = Math.min(SHINGLE_WORDS, words.length)
  const hashes = new Uint32Array(words.length)
  for (const [i, word] of words.entries()) hashes[i] = hashOf(word)
  const runs = words.length === 0 ? 0 : words.length - length + 1
  for (let start = 0; start < runs; start++) {
    let hash = 0
    for (let i = start; i < start + length; i++) {
      hash = (Math.imul(hash, 0x01000193) + (hashes[i] as number)) | 0
    }
    // Words before `start` are not read again: the run's hash takes the place of its first word's.
    hashes[start] = mixed(hash)
  }
  return hashes.subarray(0, runs)
}

/** FNV-1a over UTF-16 code units, finished with the mix of MurmurHash3. */
function hashOf(word: string): number {
  let hash = 0x811c9dc5
  for (let i = 0; i < word.length; i++) hash = Math.imul(hash ^ word.charCodeAt(i), 0x01000193)
  return mixed(hash)
}

function mixed(hash: number): number {
  let x = Math.imul(hash ^ (hash >>> 16), 0x85ebca6b)
  x = Math.imul(x ^ (x >>> 13), 0xc2b2ae35)
  return (x ^ (x >>> 16)) >>> 0
}
