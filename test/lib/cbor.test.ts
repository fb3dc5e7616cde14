import { describe, expect, it } from 'vitest'
import { decodeCbor, encodeCbor } from '../../src/lib/cbor.ts'
import { limit } from '../../src/lib/limits.ts'
import { emptyMaps, nestedLists } from '../support/hostile/wire.ts'
import { codeOf } from '../support/packages.ts'

const decode = (bytes: Uint8Array): unknown => decodeCbor(bytes, 8 * 2 ** 20)

/** A value inside lists. */
function inLists(value: unknown, depth: number): unknown {
  return depth === 0 ? value : [inLists(value, depth - 1)]
}

describe('an item of CBOR', () => {
  it('may have cborDepth levels and cborItems items', () => {
    const deep = inLists(1, limit('cborDepth'))
    const long = new Array(limit('cborItems') - 1).fill(1)
    expect([decode(encodeCbor(deep)), decode(encodeCbor(long))]).toEqual([deep, long])
  })

  it.each([
    ['one level more', () => encodeCbor(inLists(1, limit('cborDepth') + 1))],
    ['one item more', () => encodeCbor(new Array(limit('cborItems')).fill(1))],
    ['three million empty maps', () => emptyMaps(3_000_000)],
    ['three million levels', () => nestedLists(3_000_000)],
    [
      'levels of maps, keys included',
      () => encodeCbor({ a: { a: { a: { a: { a: { a: { a: { a: { a: 1 } } } } } } } } }),
    ],
  ])('with %s is refused before it is decoded', (_, make) => {
    expect(codeOf(() => decode(make()))).toBe('too-large')
  })

  it('may hold long byte strings, which count as one item', () => {
    const value = { bytes: new Uint8Array(20_000).fill(0x81), more: [new Uint8Array(1000).fill(0x9f)] }
    expect(decode(encodeCbor(value))).toEqual(value)
  })

  it.each([
    ['a list that announces 2^32 - 1 items', [0x9a, 0xff, 0xff, 0xff, 0xff, 0]],
    ['a map that announces 2^64 - 1 entries', [0xbb, ...new Array(8).fill(0xff), 0, 0]],
    ['a text that announces 2^64 - 1 bytes', [0x7b, ...new Array(8).fill(0xff), 0]],
    ['an argument that is cut', [0x1b, 0, 0]],
    ['a reserved initial byte', [0x1c]],
    ['a break outside a list', [0xff]],
  ])('with %s is malformed', (_, bytes) => {
    expect(codeOf(() => decode(Uint8Array.from(bytes)))).toBe('not-cbor')
  })
})
