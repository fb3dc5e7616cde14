/** Seeded random numbers, equal on every machine, and seeds. Not for secrets. */
import { getRandomValues } from 'node:crypto'

export const MAX_SEED = 2 ** 32 - 1

/** A random seed from 0 to MAX_SEED. */
export function randomSeed(): number {
  const [seed = 0] = getRandomValues(new Uint32Array(1))
  return seed
}

/** A generator of numbers in [0, 1): mulberry32 by Tommy Ettinger. */
export function mulberry32(seed: number): () => number {
  let state = seed >>> 0
  return () => {
    state = (state + 0x6d2b79f5) >>> 0
    let t = Math.imul(state ^ (state >>> 15), state | 1)
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61)
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296
  }
}
