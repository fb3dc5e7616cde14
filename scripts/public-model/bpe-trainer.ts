/**
 * Trains byte-level BPE deterministically and builds a Hugging Face `tokenizer.json`. Of equally frequent pairs, the
 * one with the smaller ids is merged first. Knows nothing about files.
 */
const PRE_TOKEN = /'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+/gu
const BYTES = 256
const FIRST_BYTE_ID = 1
export const END_OF_TEXT = '<|endoftext|>'

/** GPT-2's printable character for each byte. */
function byteSymbols(): string[] {
  const printable = (b: number): boolean =>
    (b >= 33 && b <= 126) || (b >= 161 && b <= 172) || (b >= 174 && b <= 255)
  let next = BYTES
  return Array.from({ length: BYTES }, (_, b) => String.fromCodePoint(printable(b) ? b : next++))
}

interface Candidate {
  readonly count: number
  readonly pair: number
}

/** Max-heap ordered by count, and by smaller pair for equal counts. */
class Heap {
  readonly #items: Candidate[] = []

  push(item: Candidate): void {
    const items = this.#items
    items.push(item)
    let i = items.length - 1
    while (i > 0) {
      const parent = (i - 1) >> 1
      if (!before(items[i] as Candidate, items[parent] as Candidate)) break
      this.#swap(i, parent)
      i = parent
    }
  }

  pop(): Candidate | undefined {
    const items = this.#items
    const top = items[0]
    const last = items.pop()
    if (items.length > 0 && last !== undefined) {
      items[0] = last
      for (let i = 0; ; ) {
        let best = i
        for (const child of [2 * i + 1, 2 * i + 2]) {
          if (child < items.length && before(items[child] as Candidate, items[best] as Candidate))
            best = child
        }
        if (best === i) break
        this.#swap(i, best)
        i = best
      }
    }
    return top
  }

  #swap(i: number, j: number): void {
    const item = this.#items[i] as Candidate
    this.#items[i] = this.#items[j] as Candidate
    this.#items[j] = item
  }
}

function before(a: Candidate, b: Candidate): boolean {
  return a.count > b.count || (a.count === b.count && a.pair < b.pair)
}

const PAIR_BASE = 2 ** 24
const pairKey = (a: number, b: number): number => a * PAIR_BASE + b

/** Learns merges until the vocabulary has `vocabSize` entries. Returns pairs of ids in the order of merges. */
export function learnMerges(texts: Iterable<string>, vocabSize: number): [number, number][] {
  const wordCounts = new Map<string, number>()
  for (const text of texts) {
    for (const word of text.match(PRE_TOKEN) ?? []) wordCounts.set(word, (wordCounts.get(word) ?? 0) + 1)
  }
  const encoder = new TextEncoder()
  const words: number[][] = []
  const counts: number[] = []
  for (const [word, count] of wordCounts) {
    words.push(Array.from(encoder.encode(word), (byte) => byte + FIRST_BYTE_ID))
    counts.push(count)
  }
  const pairCounts = new Map<number, number>()
  const where = new Map<number, Set<number>>()
  const addPair = (word: number, at: number, sign: number): void => {
    const ids = words[word] as number[]
    const key = pairKey(ids[at] as number, ids[at + 1] as number)
    pairCounts.set(key, (pairCounts.get(key) ?? 0) + sign * (counts[word] as number))
    if (sign > 0) {
      const places = where.get(key) ?? new Set<number>()
      places.add(word)
      where.set(key, places)
    }
    touched.add(key)
  }
  let touched = new Set<number>()
  words.forEach((ids, word) => {
    for (let at = 0; at + 1 < ids.length; at++) addPair(word, at, 1)
  })
  const heap = new Heap()
  for (const [pair, count] of pairCounts) heap.push({ count, pair })
  const merges: [number, number][] = []
  for (let next = FIRST_BYTE_ID + BYTES; next < vocabSize; ) {
    const top = heap.pop()
    if (top === undefined || top.count < 2) break
    if (pairCounts.get(top.pair) !== top.count) continue
    const a = Math.floor(top.pair / PAIR_BASE)
    const b = top.pair % PAIR_BASE
    merges.push([a, b])
    touched = new Set()
    for (const word of where.get(top.pair) ?? []) {
      const ids = words[word] as number[]
      for (let at = 0; at + 1 < ids.length; at++) addPair(word, at, -1)
      const merged: number[] = []
      for (let at = 0; at < ids.length; at++) {
        if (ids[at] === a && ids[at + 1] === b) {
          merged.push(next)
          at++
        } else merged.push(ids[at] as number)
      }
      words[word] = merged
      for (let at = 0; at + 1 < merged.length; at++) addPair(word, at, 1)
    }
    for (const pair of touched) {
      const count = pairCounts.get(pair) as number
      if (count > 0) heap.push({ count, pair })
      else pairCounts.delete(pair)
    }
    next++
  }
  return merges
}

/** A `tokenizer.json` with `<|endoftext|>` as id 0, the 256 bytes and the merged tokens. */
export function tokenizerJson(merges: readonly (readonly [number, number])[]): Record<string, unknown> {
  const names = [END_OF_TEXT, ...byteSymbols()]
  const written = merges.map(([a, b]) => {
    const pair = [names[a] as string, names[b] as string]
    names.push(pair.join(''))
    return pair
  })
  const byteLevel = { type: 'ByteLevel', add_prefix_space: false, trim_offsets: true, use_regex: true }
  return {
    version: '1.0',
    truncation: null,
    padding: null,
    added_tokens: [
      {
        id: 0,
        content: END_OF_TEXT,
        single_word: false,
        lstrip: false,
        rstrip: false,
        normalized: false,
        special: true,
      },
    ],
    normalizer: null,
    pre_tokenizer: byteLevel,
    post_processor: null,
    decoder: byteLevel,
    model: {
      type: 'BPE',
      dropout: null,
      unk_token: null,
      continuing_subword_prefix: null,
      end_of_word_suffix: null,
      fuse_unk: false,
      byte_fallback: false,
      ignore_merges: false,
      vocab: Object.fromEntries(names.map((name, id) => [name, id])),
      merges: written,
    },
  }
}
