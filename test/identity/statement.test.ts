import { describe, expect, it } from 'vitest'
import { NO_STATEMENT, placeInChain } from '../../src/identity/statement.ts'
import { type Digest, digestOf } from '../../src/lib/bytes.ts'
import { codeOf } from '../support/packages.ts'

const digest = (byte: number): Digest => digestOf(Uint8Array.of(byte))

describe('the chain of a publisher', () => {
  const tip = { seq: 5, digest: digest(5) }

  it('tells the next statement from one with missing predecessors and from the latest one', () => {
    expect(placeInChain(undefined, { seq: 1, prev: NO_STATEMENT }, digest(1))).toBe('next')
    expect(placeInChain(tip, { seq: 6, prev: digest(5) }, digest(6))).toBe('next')
    expect(placeInChain(tip, { seq: 7, prev: digest(6) }, digest(7))).toBe('gap')
    expect(placeInChain(tip, { seq: 5, prev: digest(4) }, digest(5))).toBe('known')
  })

  it('has no place for forks and replays', () => {
    expect(codeOf(() => placeInChain(tip, { seq: 6, prev: digest(4) }, digest(6)))).toBe('forked')
    expect(codeOf(() => placeInChain(tip, { seq: 5, prev: digest(4) }, digest(9)))).toBe('forked')
    expect(codeOf(() => placeInChain(tip, { seq: 4, prev: digest(3) }, digest(4)))).toBe('replayed')
  })
})
