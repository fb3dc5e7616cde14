import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { limit } from '../../src/lib/limits.ts'
import { Gates } from '../../src/model/gates.ts'
import { LEFT_OUT } from '../../src/model/routing-plan.ts'
import { type Gate, solveGate } from '../../src/model/solved-router.ts'
import { goldenConfig } from '../support/golden.ts'
import { madeUpStatistics } from '../support/router-statistics.ts'

const V = goldenConfig.vocabSize

describe('Gates', () => {
  const seeds = fc.uniqueArray(fc.integer({ min: 1, max: 1e6 }), { minLength: 3, maxLength: 6 })

  it('gives bit for bit the gate of the experts in use alone', () => {
    fc.assert(
      fc.property(seeds, fc.integer({ min: 0, max: 31 }), (all, leave) => {
        const experts = all.map((seed) => madeUpStatistics(V, seed))
        const stays = experts.map((_, e) => e === 0 || ((leave >> (e - 1)) & 1) === 0)
        const mask = Float32Array.from(stays, (stay) => (stay ? 0 : LEFT_OUT))
        const found = new Gates(experts).gate(mask)
        const inUse = (values: Float32Array): number[] => [...values].filter((_, i) => stays[i % all.length])
        const expected = solveGate(experts.filter((_, e) => stays[e]))
        expect(inUse(found.weights)).toEqual([...expected.weights])
        expect(inUse(found.offsets)).toEqual([...expected.offsets])
        expect(found.weights).toHaveLength(V * all.length)
        expect(found.weights.every((weight, i) => stays[i % all.length] || weight === 0)).toBe(true)
      }),
      { seed: 6, numRuns: 50 },
    )
  })

  it('gives an expert without statistics the logit of the public expert, and changes no other', () => {
    fc.assert(
      fc.property(seeds, fc.integer({ min: 1, max: 31 }), (all, lack) => {
        const experts = all.map((seed, e) =>
          e > 0 && (lack >> (e - 1)) & 1 ? undefined : madeUpStatistics(V, seed),
        )
        const { weights, offsets } = new Gates(experts).gate(new Float32Array(all.length))
        const column = (values: Float32Array, e: number): number[] =>
          [...values].filter((_, i) => i % all.length === e)
        const known = [...experts.keys()].filter((e) => experts[e] !== undefined)
        const expected = solveGate(known.map((e) => experts[e]))
        known.forEach((e, i) => {
          const among = (values: Float32Array): number[] =>
            [...values].filter((_, j) => j % known.length === i)
          expect(column(weights, e)).toEqual(among(expected.weights))
          expect(offsets[e]).toBe(expected.offsets[i])
        })
        for (const e of experts.keys()) {
          if (experts[e] !== undefined) continue
          expect(column(weights, e)).toEqual(column(weights, 0))
          expect(offsets[e]).toBe(offsets[0])
        }
      }),
      { seed: 7, numRuns: 50 },
    )
  })

  it('keeps the gates that were used last', () => {
    const gates = new Gates(Array.from({ length: 7 }, (_, e) => madeUpStatistics(V, e + 1)))
    const gateOf = (set: number): Gate =>
      gates.gate(Float32Array.from({ length: 7 }, (_, e) => (e === 0 || (set >> (e - 1)) & 1 ? 0 : LEFT_OUT)))
    const first = gateOf(0)
    const second = gateOf(1)
    for (let set = 2; set < limit('keptGates'); set++) gateOf(set)
    expect(gateOf(0)).toBe(first)
    gateOf(limit('keptGates'))
    expect(gateOf(0)).toBe(first)
    expect(gateOf(1)).not.toBe(second)
    expect(gateOf(1)).toEqual(second)
  })

  it('keeps fewer gates if they are large, but always the last one', () => {
    const gateBytes = (V: number): number => 4 * 4 * V
    const owners = (V: number) => {
      const tokens = new Float32Array(V).fill(1 / V)
      return [1, 2, 3, 4].map(() => ({ tokens }))
    }
    const masks = [1, 2, 3].map((left) => new Float32Array(4).fill(LEFT_OUT, left, left + 1))
    const two = new Gates(owners(limit('keptGateBytes') / gateBytes(1) / 2))
    const [first, second, third] = masks.map((mask) => two.gate(mask))
    // Not `toBe`, which would compare millions of values to explain a difference.
    const isKept = (gates: Gates, index: number, gate: Gate | undefined): boolean =>
      gates.gate(masks[index] as Float32Array) === gate
    expect(isKept(two, 1, second)).toBe(true)
    expect(isKept(two, 2, third)).toBe(true)
    expect(isKept(two, 0, first)).toBe(false)
    const none = new Gates(owners(limit('keptGateBytes') / gateBytes(1) + 1))
    const only = none.gate(masks[0] as Float32Array)
    expect(isKept(none, 0, only)).toBe(true)
    expect(isKept(none, 1, only)).toBe(false)
    expect(isKept(none, 0, only)).toBe(false)
  })
})
