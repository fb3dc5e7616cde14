/**
 * Remembers the runs of words of a body of text in bounded memory, to find documents that repeat parts of others.
 * Ignores case, punctuation and white space. Knows nothing about files and tokens.
 */

/** Number of words in a run. */
const SHINGLE_WORDS = 8
/** In scripts written without spaces, every character counts as a word. */
const WORD =
  /[\p{sc=Han}\p{sc=Hira}\p{sc=Kana}\p{sc=Thai}\p{sc=Khmr}\p{sc=Laoo}\p{sc=Mymr}]|(?:(?![\p{sc=Han}\p{sc=Hira}\p{sc=Kana}\p{sc=Thai}\p{sc=Khmr}\p{sc=Laoo}\p{sc=Mymr}])[\p{L}\p{M}\p{N}])+/gu

const BITS = 29

/**
 * A set of runs, stored as one bit each in a table of 2^29 bits (64 MiB of virtual memory, used as it fills). The
 * probability that a new run counts as seen is the share of bits that are set, so the set stops growing at one
 * eighth.
 */
export class SeenShingles {
  readonly #table = new Uint32Array(2 ** (BITS - 5))
  #set = 0

  /** True once text is no longer added, after about 67 million different runs. */
  get full(): boolean {
    return this.#set >= 2 ** (BITS - 3)
  }

  /** Add the runs of `text`. @returns the share of them that were added before; 0 for a text without words. */
  add(text: string): number {
    const hashes = shingles(text)
    const isFull = this.full
    let seen = 0
    for (const hash of hashes) {
      const [word, bit] = bitOf(hash)
      const old = this.#table[word] as number
      if ((old & bit) !== 0) seen++
      else if (!isFull) {
        this.#table[word] = old | bit
        this.#set++
      }
    }
    return hashes.length === 0 ? 0 : seen / hashes.length
  }

  /** Share of the runs of `text` that were added before; 0 for a text without words. */
  overlap(text: string): number {
    const hashes = shingles(text)
    let seen = 0
    for (const hash of hashes) {
      const [word, bit] = bitOf(hash)
      if (((this.#table[word] as number) & bit) !== 0) seen++
    }
    return hashes.length === 0 ? 0 : seen / hashes.length
  }
}

function bitOf(hash: number): [word: number, bit: number] {
  return [(hash >>> (32 - BITS)) >>> 5, 1 << ((hash >>> (32 - BITS)) & 31)]
}

/** 32-bit hashes of all runs of eight words; one of all words if there are fewer. */
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
    // The word at `start` is not needed again, so its element holds the hash of the run.
    hashes[start] = mixed(hash)
  }
  return hashes.subarray(0, runs)
}

/** FNV-1a over UTF-16 code units, then the finaliser of MurmurHash3. */
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
