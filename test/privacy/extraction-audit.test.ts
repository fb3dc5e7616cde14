import { describe, expect, it } from 'vitest'
import { extraction, triesFor } from '../../src/privacy/extraction-audit.ts'

/** Scores of a text of which each token has the probability `p`. */
const text = (length: number, p: number, greedy = false) => ({
  nats: new Float64Array(length).fill(-Math.log(p)),
  greedy: new Uint8Array(length).fill(greedy ? 1 : 0),
})

describe('extraction', () => {
  it('counts the attempts that a suffix needs', () => {
    expect(triesFor(0)).toBe(1)
    expect(triesFor(Math.LN2)).toBe(1)
    // 1 - (1 - p)^n = 1/2.
    expect(1 - (1 - 0.01) ** triesFor(-Math.log(0.01))).toBeCloseTo(0.5, 9)
    expect(triesFor(60)).toBeCloseTo(Math.LN2 * Math.exp(60), -24)
  })

  it('counts suffixes of 50 tokens after 50 that are known, by the attempts that they need', () => {
    const found = extraction([
      text(128, 0.99), // p = 0.6
      text(128, 0.87), // p = 0.00095
      text(128, 0.8), // p = 0.000014
      text(128, 0.5),
      text(99, 0.99), // too short
    ])
    expect(found).toEqual({ texts: 4, greedy: 0, fewTries: 2, manyTries: 3, extracted: 2 })
  })

  it('leaves out the tokens that the attacker knows and those after the suffix', () => {
    const score = text(128, 0.99)
    score.nats.fill(9, 0, 50)
    score.nats.fill(9, 100)
    expect(extraction([score]).fewTries).toBe(1)
  })

  it('counts a suffix that greedy decoding writes, however unlikely, but none with one other token', () => {
    const almost = text(100, 0.2, true)
    almost.greedy[70] = 0
    expect(extraction([text(100, 0.2, true), almost])).toMatchObject({ greedy: 1, fewTries: 0, extracted: 1 })
  })

  it('finds nothing without texts', () => {
    expect(extraction([])).toEqual({ texts: 0, greedy: 0, fewTries: 0, manyTries: 0, extracted: 0 })
  })
})
