/** Random numbers from the system's cryptographic generator. Knows nothing about what they protect. */
import { randomFillSync } from 'node:crypto'

/** Returns uniform random numbers in (0, 1]. */
export type Uniform = () => number

/** Uniform numbers of 53 bits. */
export function cryptographic(): Uniform {
  const pool = new Uint32Array(16_384)
  let at = pool.length
  return () => {
    if (at === pool.length) {
      randomFillSync(pool)
      at = 0
    }
    const high = (pool[at] as number) >>> 5 // 27 bits
    const low = (pool[at + 1] as number) >>> 6 // 26 bits
    at += 2
    return (high * 2 ** 26 + low + 1) / 2 ** 53
  }
}

/** Standard normal numbers in double precision (Box and Muller 1958). */
export function gaussian(uniform: Uniform): () => number {
  let spare: number | undefined
  return () => {
    if (spare !== undefined) {
      const value = spare
      spare = undefined
      return value
    }
    const radius = Math.sqrt(-2 * Math.log(uniform()))
    const angle = 2 * Math.PI * uniform()
    spare = radius * Math.sin(angle)
    return radius * Math.cos(angle)
  }
}
