import { createHash } from 'node:crypto'
import { describe, expect, it } from 'vitest'
import { SeenDigests } from '../../src/data/seen-digests.ts'

describe('SeenDigests', () => {
  it('knows the digests that were added, and no others, while it grows', () => {
    const digest = (i: number): Buffer => createHash('sha256').update(String(i)).digest()
    const seen = new SeenDigests()
    for (let i = 0; i < 20_000; i++) expect(seen.add(digest(i))).toBe(true)
    for (let i = 0; i < 20_000; i++) expect(seen.add(digest(i))).toBe(false)
    expect(seen.add(digest(20_000))).toBe(true)
  })

  it('knows digests that begin with zeros, or only differ in their last words', () => {
    const seen = new SeenDigests()
    const digest = (...bytes: number[]): Buffer => Buffer.from(bytes)
    expect(seen.add(digest(0, 0, 0, 0, 0, 0, 0, 0))).toBe(true)
    expect(seen.add(digest(0, 0, 0, 0, 0, 0, 0, 0))).toBe(false)
    expect(seen.add(digest(0, 0, 0, 7, 0, 0, 0, 0))).toBe(true)
    expect(seen.add(digest(0, 0, 0, 7, 0, 0, 0, 0))).toBe(false)
    expect(seen.add(digest(0, 0, 0, 7, 0, 0, 0, 9))).toBe(true)
  })
})
