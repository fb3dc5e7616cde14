import { describe, expect, it } from 'vitest'
import { TextSample } from '../../src/data/text-sample.ts'

describe('TextSample', () => {
  it('keeps the documents with the smallest hashes if they exceed its size', () => {
    const sample = new TextSample(100)
    const hash = (i: number): Buffer => Buffer.alloc(32, (i * 37) % 100)
    const evicted = Array.from({ length: 100 }, (_, i) =>
      sample.add({ hash: hash(i), text: `text ${(i * 37) % 100}   `.slice(0, 10), name: 'a.txt' }),
    ).flat()
    expect(evicted.length + sample.size).toBe(100)
    const kept = sample.byHash().map(({ text }) => text)
    expect(kept.slice(0, 10)).toEqual(Array.from({ length: 10 }, (_, i) => `text ${i}   `.slice(0, 10)))
  })
})
