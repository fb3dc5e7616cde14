import { describe, expect, it } from 'vitest'
import type { Weight } from '../../src/model/weights.ts'
import type { Compiled, Values } from '../../src/tensor/engine.ts'
import { EMBEDDING, heldEmbeddingBytes, withEmbeddingRows } from '../../src/training/embedding-rows.ts'

/** A step that returns its inputs. */
const STEP: Compiled = {
  run: async (inputs) => ({ ...inputs }),
  dispose: async () => undefined,
}

/** A table [V, 2] whose row i is i, -i; `reads` collects the ids of the rows that are read. */
function table(V: number, reads: number[]): Weight {
  return {
    shape: [V, 2],
    dtype: 'F32',
    read: async (into, from) => {
      reads.push(from / 2)
      into.forEach((_, i) => {
        into[i] = Math.floor((from + i) / 2) * ((from + i) % 2 === 0 ? 1 : -1)
      })
    },
    readBytes: () => Promise.reject(new Error('not needed')),
  }
}

/** The rows that the step sees for each token. */
function rowsOf(out: Readonly<Record<string, Values>>): number[][] {
  const rows = out[EMBEDDING] as Values
  return Array.from(out['ids'] as Values, (index) => [...rows.subarray(2 * index, 2 * index + 2)])
}

describe('the rows of the embedding', () => {
  it('of a large vocabulary are read for each run, every token once', async () => {
    const reads: number[] = []
    const V = 2 ** 26
    expect(heldEmbeddingBytes(V, 2)).toBe(0)
    const step = await withEmbeddingRows(STEP, table(V, reads), 4)
    const out = await step.run({ ids: Int32Array.of(9, 60_000_000, 9, 1), x: Float32Array.of(7) })
    expect(rowsOf(out)).toEqual([
      [9, -9],
      [60_000_000, -60_000_000],
      [9, -9],
      [1, -1],
    ])
    expect(reads).toEqual([9, 60_000_000, 1])
    expect(out['x']).toEqual(Float32Array.of(7))
    expect(rowsOf(await step.run({ ids: Int32Array.of(2, 2, 2, 3) }))[3]).toEqual([3, -3])
  })

  it('of a small vocabulary are read once for all runs', async () => {
    const reads: number[] = []
    const step = await withEmbeddingRows(STEP, table(10, reads), 2)
    expect(heldEmbeddingBytes(10, 2)).toBe(80)
    await step.run({ ids: Int32Array.of(4, 5) })
    expect(rowsOf(await step.run({ ids: Int32Array.of(6, 6) }))).toEqual([
      [6, -6],
      [6, -6],
    ])
    expect(reads).toEqual([0])
  })
})
