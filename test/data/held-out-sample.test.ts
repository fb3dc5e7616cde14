import { describe, expect, it } from 'vitest'
import { HeldOutSample } from '../../src/data/held-out-sample.ts'

describe('HeldOutSample', () => {
  it('keeps the documents with the smallest hashes if they exceed its size', () => {
    const sample = new HeldOutSample(100)
    const hash = (i: number): Buffer => Buffer.alloc(32, (i * 37) % 100)
    const evicted = Array.from({ length: 100 }, (_, i) =>
      sample.add(hash(i), `text ${(i * 37) % 100}   `.slice(0, 10)),
    ).flat()
    expect(evicted.length + sample.size).toBe(100)
    const kept = sample.inOrder()
    expect(kept.slice(0, 10)).toEqual(Array.from({ length: 10 }, (_, i) => `text ${i}   `.slice(0, 10)))
  })
})
