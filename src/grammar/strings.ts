/**
 * Strings of JSON as pieces of a program: their characters, and keys that differ from listed ones. Knows nothing about
 * schemas.
 */
import type { Edge, ProgramBuilder } from './program.ts'
import { secondByte } from './token-trie.ts'

/** Number of bytes of a listed name that a further key may share with it. */
const MAX_FOLLOWED = 64

/** The characters of a string and the quote after them. */
export function characters(
  b: ProgramBuilder,
  { min, max, withEscapes }: { readonly min: number; readonly max: number; readonly withEscapes: boolean },
  then: number,
): number {
  const id = b.reserve()
  const edges = withEscapes ? [...firstBytes(b, id), escapeOf(b, id)] : firstBytes(b, id)
  b.set(id, { kind: 'string', min, max, edges, then })
  return id
}

/** Edges for the first byte of every character that needs no escape (RFC 8259, section 7; RFC 3629). */
function firstBytes(b: ProgramBuilder, then: number): Edge[] {
  const continued = b.oneOf([0x80, 0xbf])
  const edges: Edge[] = [
    { low: 0x20, high: 0x21, to: then },
    { low: 0x23, high: 0x5b, to: then },
    { low: 0x5d, high: 0x7f, to: then },
  ]
  const ranges = [
    [0xc2, 0xdf, 1],
    [0xe0, 0xe0, 2],
    [0xe1, 0xec, 2],
    [0xed, 0xed, 2],
    [0xee, 0xef, 2],
    [0xf0, 0xf0, 3],
    [0xf1, 0xf3, 3],
    [0xf4, 0xf4, 3],
  ] as const
  for (const [low, high, rest] of ranges) {
    const more = Array.from({ length: rest - 1 }, () => continued)
    edges.push({ low, high, to: b.sequence(b.oneOf(secondByte(low)), ...more)(then) })
  }
  return edges
}

/** An escape. Surrogates are left out: half of a pair is no character, and whole characters need no escape. */
function escapeOf(b: ProgramBuilder, then: number): Edge {
  const hex = b.oneOf([0x30, 0x39], [0x41, 0x46], [0x61, 0x66])
  const notD = b.oneOf([0x30, 0x39], [0x41, 0x43], [0x45, 0x46], [0x61, 0x63], [0x65, 0x66])
  const afterD = b.sequence(b.oneOf([0x44, 0x44], [0x64, 0x64]), b.oneOf([0x30, 0x37]))
  const unit = b.sequence(b.text('u'), b.either(b.sequence(notD, hex), afterD), hex, hex)
  const short = b.oneOf(...Array.from(Buffer.from('"\\/bfnrt'), (byte) => [byte, byte] as const))
  return { low: 0x5c, high: 0x5c, to: b.either(short, unit)(then) }
}

/**
 * A key that is none of `names`, without escapes, and the quote after it. Follows the names as a trie until the key differs from
 * all of them.
 */
export function furtherKey(b: ProgramBuilder, names: readonly string[], after: number): number {
  const free = characters(b, { min: 0, max: Number.POSITIVE_INFINITY, withEscapes: false }, after)
  const others = firstBytes(b, free)
  const follow = (rests: readonly Uint8Array[], isWithin: boolean, depth: number): number => {
    if (rests.length === 0) return free
    const groups = new Map<number, Uint8Array[]>()
    for (const rest of depth < MAX_FOLLOWED ? rests : []) {
      const [first] = rest
      if (first !== undefined) groups.set(first, [...(groups.get(first) ?? []), rest.subarray(1)])
    }
    const known: Edge[] = Array.from(groups, ([byte, group]) => ({
      low: byte,
      high: byte,
      to: follow(group, group.some(isContinued), depth + 1),
    }))
    // Within a character, only the names continue.
    if (isWithin) return b.add({ kind: 'bytes', edges: known })
    const isName = rests.some(({ length }) => length === 0)
    const end: Edge[] = isName ? [] : [{ low: 0x22, high: 0x22, to: after }]
    const first = [...groups.keys(), ...rests.map(([byte]) => byte).filter((byte) => byte !== undefined)]
    const differing = others.flatMap((edge) => exceptBytes(edge, [...new Set(first)]))
    return b.add({ kind: 'bytes', edges: [...known, ...differing, ...end] })
  }
  // A name that needs escapes cannot be written by a key without any.
  const plain = names.filter((name) => JSON.stringify(name) === `"${name}"`)
  return b.text('"')(
    follow(
      plain.map((name) => Buffer.from(name)),
      false,
      0,
    ),
  )
}

/** Whether the next byte is not the first one of a character. */
function isContinued([byte]: Uint8Array): boolean {
  return byte !== undefined && (byte & 0xc0) === 0x80
}

/** The parts of an edge without some bytes. */
function exceptBytes(edge: Edge, bytes: readonly number[]): Edge[] {
  let parts = [edge]
  for (const byte of bytes) {
    parts = parts.flatMap((part) =>
      byte < part.low || byte > part.high
        ? [part]
        : [
            { ...part, high: byte - 1 },
            { ...part, low: byte + 1 },
          ].filter(({ low, high }) => low <= high),
    )
  }
  return parts
}
