/** Choosing tokens from logits, compared with the definition of the nucleus. */
import { describe, expect, it } from 'vitest'
import { chooseToken, type Sampling } from '../../src/inference/sampling.ts'
import { mulberry32 } from '../../src/lib/random.ts'

/** Probabilities [V] of a nucleus, by sorting. Among equally likely tokens, the lower id comes first. */
function nucleusOf(logits: Float32Array, { temperature, topP }: Sampling): number[] {
  const peak = Math.max(...logits)
  const weights = Array.from(logits, (z) => Math.exp((z - peak) / temperature))
  const total = weights.reduce((a, b) => a + b, 0)
  const order = [...weights.keys()].sort((a, b) => (weights[b] as number) - (weights[a] as number))
  const kept = weights.map(() => 0)
  let mass = 0
  for (const id of order) {
    if (mass >= topP * total) break
    kept[id] = weights[id] as number
    mass += weights[id] as number
  }
  return kept.map((weight) => weight / mass)
}

function logitsOf(V: number, spread: number, seed: number): Float32Array {
  const random = mulberry32(seed)
  return Float32Array.from({ length: V }, () => (random() + random() + random() - 1.5) * spread)
}

const DRAWS = 20_000

describe('a sampled token', () => {
  it.each([
    ['all tokens', logitsOf(50, 4, 1), { temperature: 1, topP: 1 }],
    ['a nucleus', logitsOf(50, 6, 2), { temperature: 1, topP: 0.9 }],
    ['a small nucleus of a flat distribution', logitsOf(1000, 0.1, 3), { temperature: 1, topP: 0.03 }],
    ['tokens that are equally likely', new Float32Array(40), { temperature: 1, topP: 0.25 }],
    [
      'a few groups of equally likely tokens',
      logitsOf(60, 3, 4).map(Math.round),
      { temperature: 0.7, topP: 0.6 },
    ],
    ['more than one block of tokens', logitsOf(700, 8, 5), { temperature: 2, topP: 0.8 }],
    ['one token', logitsOf(300, 8, 6), { temperature: 1, topP: 0.0001 }],
  ])('comes from %s, with the probabilities of the definition', (_, logits, options) => {
    const sampling = { ...options, seed: 11 }
    const choose = chooseToken(sampling)
    const counts = new Float64Array(logits.length)
    for (let i = 0; i < DRAWS; i++) {
      const id = choose(logits)
      counts[id] = (counts[id] as number) + 1
    }
    nucleusOf(logits, sampling).forEach((p, id) => {
      // Five standard deviations; a token outside of the nucleus is never chosen.
      expect(Math.abs((counts[id] as number) - DRAWS * p)).toBeLessThanOrEqual(5 * Math.sqrt(DRAWS * p))
    })
  })

  it('depends on the seed alone', () => {
    const logits = logitsOf(100_352, 3, 7)
    const draw = (seed: number): number[] => {
      const choose = chooseToken({ temperature: 1, topP: 0.95, seed })
      return Array.from({ length: 5 }, () => choose(logits))
    }
    const other = chooseToken({ temperature: 0.5, topP: 0.5, seed: 1 })
    const first = draw(1)
    other(logitsOf(33, 3, 8))
    expect(draw(1)).toEqual(first)
    expect(draw(2)).not.toEqual(first)
  })

  it('is the most likely one at temperature 0, and at one close to it', () => {
    const logits = logitsOf(5000, 3, 9)
    const best = logits.indexOf(Math.max(...logits))
    for (const temperature of [0, 1e-30, 1e-7, 1e-4])
      expect(chooseToken({ temperature, topP: 1, seed: 1 })(logits)).toBe(best)
  })

  it.each([
    ['one token', Float32Array.of(3), 0],
    ['all others impossible', Float32Array.of(-Infinity, 2, -Infinity), 1],
    ['a number that is none', Float32Array.of(1, NaN, 2), 2],
  ])('exists for %s', (_, logits, expected) => {
    expect(chooseToken({ temperature: 1, topP: 0.9, seed: 1 })(logits)).toBe(expected)
  })

  it('is never a forbidden one', () => {
    const logits = logitsOf(700, 3, 12).map((z, id) => (id % 50 === 7 ? z : -Infinity))
    const choose = chooseToken({ temperature: 2, topP: 0.99, seed: 1 })
    for (let i = 0; i < DRAWS; i++) expect(choose(logits) % 50).toBe(7)
  })
})
