import { readFileSync } from 'node:fs'
import { describe, expect, it } from 'vitest'
import { fromBase64, fromHex, toBase64, utf8 } from '../../src/lib/bytes.ts'
import {
  type CompleteSubtrees,
  consistencyProof,
  EMPTY_ROOT,
  inclusionProof,
  leafHash,
  nodeHash,
  rootOf,
  verifyConsistency,
  verifyInclusion,
} from '../../src/transparency/merkle.ts'
import { appendLeaves, tiledTree } from '../../src/transparency/tiles.ts'

interface InclusionVector {
  readonly name: string
  readonly index: number
  readonly size: number
  readonly root: string | null
  readonly leaf: string | null
  readonly proof: readonly string[]
  readonly refused: boolean
}

interface ConsistencyVector extends Omit<InclusionVector, 'index' | 'leaf'> {
  readonly oldSize: number
  readonly oldRoot: string | null
}

const VECTORS: { inclusion: InclusionVector[]; consistency: ConsistencyVector[] } = JSON.parse(
  readFileSync(new URL('../fixtures/transparency/rfc6962.json', import.meta.url), 'utf8'),
)
const bytes = (text: string | null): Uint8Array => fromBase64(text ?? '')

/** The eight leaves of the vectors. */
const LEAVES = [
  '',
  '00',
  '10',
  '2021',
  '3031',
  '40414243',
  '5051525354555657',
  '606162636465666768696a6b6c6d6e6f',
]
  .map(fromHex)
  .map(leafHash)

/** A tree that is computed from all leaves each time, as RFC 6962 defines it. */
function plainTree(leaves: readonly Uint8Array[]): CompleteSubtrees {
  const root = (part: readonly Uint8Array[]): Uint8Array => {
    const half = part.length / 2
    return part.length === 1
      ? (part[0] as Uint8Array)
      : nodeHash(root(part.slice(0, half)), root(part.slice(half)))
  }
  return {
    complete: async (height, index) => root(leaves.slice(index * 2 ** height, (index + 1) * 2 ** height)),
  }
}

/** A tree whose hashes are kept in tiles, grown by the given numbers of leaves. */
async function grownTree(leaves: readonly Uint8Array[], steps: readonly number[]) {
  const tiles = new Map<string, Uint8Array>()
  const reads = { count: 0 }
  const read = async (level: number, index: number) => {
    reads.count++
    return tiles.get(`${level}.${index}`) ?? new Uint8Array()
  }
  let size = 0
  let written = 0
  for (const step of steps) {
    for (const tile of await appendLeaves(read, size, leaves.slice(size, size + step))) {
      tiles.set(`${tile.level}.${tile.index}`, tile.hashes)
      written++
    }
    size += step
  }
  return { tree: tiledTree(read), tiles, reads, written }
}

describe('the published vectors of RFC 6962', () => {
  it('are 98 of inclusion, which all have the stated outcome', () => {
    expect(VECTORS.inclusion).toHaveLength(98)
    const outcomes = VECTORS.inclusion.map(({ index, size, root, leaf, proof }) =>
      verifyInclusion({ index, size, root: bytes(root), leaf: bytes(leaf), proof: proof.map(bytes) }),
    )
    expect(outcomes).toEqual(VECTORS.inclusion.map(({ refused }) => !refused))
  })

  it('are 98 of consistency, which all have the stated outcome', () => {
    expect(VECTORS.consistency).toHaveLength(98)
    const outcomes = VECTORS.consistency.map(({ oldSize, size, oldRoot, root, proof }) =>
      verifyConsistency({
        oldSize,
        size,
        oldRoot: bytes(oldRoot),
        root: bytes(root),
        proof: proof.map(bytes),
      }),
    )
    expect(outcomes).toEqual(VECTORS.consistency.map(({ refused }) => !refused))
  })
})

describe('a Merkle tree', () => {
  it('has the roots that are published for eight leaves', async () => {
    const tree = plainTree(LEAVES)
    expect(toBase64(await rootOf(tree, 8))).toBe('XcnaeacGWamtVZy3Ad7ZoqudgjqtL0lgz+Nw7/RgQyg=')
    expect(toBase64(await rootOf(tree, 6))).toBe('duZ9rbzfHhDht03cYIq9L5jfsW+851J3tSMqEn8gh+8=')
    expect(toBase64(await rootOf(tree, 1))).toBe('bjQLnP+zepicpUTmu3gKLHiQHT+zNzh2hRGjBhevoB0=')
    expect(await rootOf(tree, 0)).toEqual(EMPTY_ROOT)
  })

  it('computes the proofs that are published for eight leaves', async () => {
    const tree = plainTree(LEAVES)
    expect((await consistencyProof(tree, 6, 8)).map(toBase64)).toEqual([
      'DrxdNDf74tsVi58Sah0RjjCBgQMdCpSfje3t68VY72o=',
      'yoVOoSjtBQtBs1/8G4e46yveRh6eO1WW7Oa51ZdaCuA=',
      '037kGJdt2VdTwcc4Yrk5j6Kiz5tP8P3+izDNlSCWFLc=',
    ])
    const fromFirst = [
      'lqKW0iTyhcZ77pPDD4owkVfw2qNdxbh+QQt4YwoJz8c=',
      'Xwg/ChozygdqlSeYMlgNs+DvRYS9/x9UyKNg9Q3jAx4=',
      'a0eq8p7jwq+a+Im8H7klTavTEXfxYjLdaqsDXKOb9uQ=',
    ]
    expect((await consistencyProof(tree, 1, 8)).map(toBase64)).toEqual(fromFirst)
    expect((await inclusionProof(tree, 0, 8)).map(toBase64)).toEqual(fromFirst)
  })

  it('proves every leaf of every size up to 24, and every pair of sizes', async () => {
    const leaves = Array.from({ length: 24 }, (_, i) => leafHash(utf8(`leaf ${i}`)))
    const tree = plainTree(leaves)
    for (let size = 1; size <= 24; size++) {
      const root = await rootOf(tree, size)
      for (let index = 0; index < size; index++) {
        const proof = await inclusionProof(tree, index, size)
        const leaf = leaves[index] as Uint8Array
        expect(verifyInclusion({ index, size, leaf, root, proof })).toBe(true)
        expect(verifyInclusion({ index: (index + 1) % size, size, leaf, root, proof })).toBe(size === 1)
      }
      for (let oldSize = 1; oldSize <= size; oldSize++) {
        const oldRoot = await rootOf(tree, oldSize)
        const proof = await consistencyProof(tree, oldSize, size)
        expect(verifyConsistency({ oldSize, size, oldRoot, root, proof })).toBe(true)
      }
    }
  })
})

describe('tiles', () => {
  const COUNT = 70_000
  const leaves = Array.from({ length: COUNT }, (_, i) => leafHash(utf8(String(i))))

  it('give the same roots and proofs as the whole tree, however they have grown', async () => {
    const whole = plainTree(leaves)
    const { tree, tiles } = await grownTree(leaves, [1, 254, 1, 1, 255, 65_024, 4464])
    // The example of C2SP tlog-tiles.
    expect(tiles.size).toBe(273 + 1 + 1 + 1 + 1)
    for (const size of [256, 257, 65_537]) {
      expect(await rootOf(tree, size)).toEqual(await rootOf(whole, size))
      expect(await inclusionProof(tree, size - 1, size)).toEqual(await inclusionProof(whole, size - 1, size))
      expect(await consistencyProof(tree, size, COUNT)).toEqual(await consistencyProof(whole, size, COUNT))
    }
  })

  it('cost a few reads and writes for each further leaf and proof, not more with more leaves', async () => {
    const { tree, reads, written } = await grownTree(leaves, [65_535, 1, 1, 1])
    expect(written).toBeLessThanOrEqual(258 + 3 + 2 + 1 + 1)
    reads.count = 0
    await rootOf(tree, 65_538)
    await inclusionProof(tree, 12_345, 65_538)
    expect(reads.count).toBeLessThanOrEqual(2 * 18)
  })
})
