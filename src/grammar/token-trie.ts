/**
 * The tokens of a vocabulary as tries over their bytes, so that an automaton over bytes finds the tokens that it may
 * read next without looking at each of them. Knows nothing about grammars beyond the characters of JSON strings.
 */

/** A trie in preorder: a node's descendants follow it, and `ends` is the index after the last of them. */
export interface TokenTrie {
  /** Byte on the edge to each node. */
  readonly bytes: Uint8Array
  /** Number of bytes from the root to each node, at least 1. */
  readonly depths: Uint16Array
  readonly ends: Uint32Array
  /** Token that ends at each node, or -1. */
  readonly tokens: Int32Array
  /** By token: another token with the same bytes, or -1. */
  readonly twins: Int32Array
  /** Length of the longest token. */
  readonly longest: number
}

const QUOTE = 0x22
const BACKSLASH = 0x5c

/** The tokens of a model, prepared for masks. */
export class TokenVocabulary {
  /** Bytes of every token by id; none for special tokens. */
  readonly bytes: readonly Uint8Array[]
  /** Ids of the tokens that end a text. */
  readonly ends: readonly number[]
  /** All tokens that have bytes and do not end a text. */
  readonly all: TokenTrie
  /** The tokens that read a quote or a backslash when they begin between two characters of a string. */
  readonly leaving: TokenTrie
  /** The tokens that stay within a string when they begin between two of its characters. */
  readonly inside: Int32Array
  /** Number of characters that each of `inside` begins. */
  readonly characters: Uint16Array
  /** Largest of `characters`. */
  readonly mostCharacters: number

  constructor(bytes: readonly Uint8Array[], ends: readonly number[]) {
    this.bytes = bytes
    this.ends = ends
    const texts = bytes.map((token) => Buffer.from(token).toString('latin1'))
    const ids = Array.from(texts.keys()).filter((id) => texts[id] !== '' && !ends.includes(id))
    ids.sort((a, b) => ((texts[a] as string) < (texts[b] as string) ? -1 : 1))
    this.all = trieOf(ids, bytes)
    const inside: number[] = []
    const characters: number[] = []
    const leaving: number[] = []
    for (const id of ids) {
      const count = charactersInside(bytes[id] as Uint8Array)
      if (count === 'leaves') leaving.push(id)
      else if (count !== 'impossible') {
        inside.push(id)
        characters.push(count)
      }
    }
    this.leaving = trieOf(leaving, bytes)
    this.inside = Int32Array.from(inside)
    this.characters = Uint16Array.from(characters)
    this.mostCharacters = characters.reduce((most, count) => Math.max(most, count), 0)
  }

  /** Number of 32-bit words of a mask. */
  get words(): number {
    return Math.ceil(this.bytes.length / 32)
  }

  /** Whether every byte that a string of JSON may have is a token, so that no answer can get stuck. */
  get isComplete(): boolean {
    const single = new Set(this.bytes.filter(({ length }) => length === 1).map(([byte]) => byte))
    for (let byte = 0x20; byte <= 0xf4; byte++) {
      const isUsed = byte < 0x7f || (byte >= 0x80 && byte !== 0xc0 && byte !== 0xc1)
      if (isUsed && !single.has(byte)) return false
    }
    return true
  }
}

/**
 * Number of characters that a token begins if it is read between two characters of a string: the token may end within
 * the last one. `leaves` if it reads a quote or a backslash first, `impossible` if it has a control character or bytes
 * that are not UTF-8 before that.
 */
function charactersInside(token: Uint8Array): number | 'leaves' | 'impossible' {
  let count = 0
  for (let i = 0; i < token.length; ) {
    const lead = token[i] as number
    if (lead === QUOTE || lead === BACKSLASH) return 'leaves'
    const length = utf8Length(lead)
    if (length === 0) return 'impossible'
    for (let k = 1; k < length && i + k < token.length; k++) {
      const [low, high] = k === 1 ? secondByte(lead) : [0x80, 0xbf]
      const byte = token[i + k] as number
      if (byte < low || byte > high) return 'impossible'
    }
    i += length
    count++
  }
  return count
}

/** Number of bytes of the character of a string that begins with this byte; 0 if none does (RFC 3629; RFC 8259, 7). */
function utf8Length(lead: number): number {
  if (lead < 0x20) return 0
  if (lead < 0x80) return 1
  if (lead < 0xc2) return 0
  if (lead < 0xe0) return 2
  if (lead < 0xf0) return 3
  return lead < 0xf5 ? 4 : 0
}

/** First and last second byte after a lead byte: neither overlong forms, surrogates nor code points above U+10FFFF. */
export function secondByte(lead: number): readonly [low: number, high: number] {
  if (lead === 0xe0) return [0xa0, 0xbf]
  if (lead === 0xed) return [0x80, 0x9f]
  if (lead === 0xf0) return [0x90, 0xbf]
  if (lead === 0xf4) return [0x80, 0x8f]
  return [0x80, 0xbf]
}

/** @param ids in the order of their bytes */
function trieOf(ids: readonly number[], table: readonly Uint8Array[]): TokenTrie {
  const bytes: number[] = []
  const depths: number[] = []
  const tokens: number[] = []
  const ends: number[] = []
  const twins = new Int32Array(table.length).fill(-1)
  /** Index of the open node at each depth, minus 1. */
  const open: number[] = []
  let longest = 0
  let previous = new Uint8Array()
  for (const id of ids) {
    const token = table[id] as Uint8Array
    let shared = 0
    while (shared < token.length && shared < previous.length && token[shared] === previous[shared]) shared++
    while (open.length > shared) ends[open.pop() as number] = bytes.length
    for (let depth = shared; depth < token.length; depth++) {
      open.push(bytes.length)
      bytes.push(token[depth] as number)
      depths.push(depth + 1)
      tokens.push(-1)
      ends.push(0)
    }
    const last = open[open.length - 1] as number
    twins[id] = tokens[last] as number
    tokens[last] = id
    longest = Math.max(longest, token.length)
    previous = token as Uint8Array<ArrayBuffer>
  }
  while (open.length > 0) ends[open.pop() as number] = bytes.length
  return {
    bytes: Uint8Array.from(bytes),
    depths: Uint16Array.from(depths),
    ends: Uint32Array.from(ends),
    tokens: Int32Array.from(tokens),
    twins,
    longest,
  }
}
