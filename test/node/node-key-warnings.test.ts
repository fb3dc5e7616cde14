import { describe, expect, it } from 'vitest'
import { SeatKeys } from '../../src/consortium/seat-keys.ts'
import { NodeKeyWarnings, nodeKeyEnd } from '../../src/node/node-key-warnings.ts'
import { identityOf, NOW } from '../support/consortium.ts'

const DAY = 86_400
const seat = identityOf(1).peerId

/** The keys of a seat whose node key ends after a number of days; undefined: a seat without a node key. */
function membership(days: number | undefined) {
  const keys = new SeatKeys({ seats: () => [{ peerId: seat }], now: () => NOW })
  if (days !== undefined) {
    const node = { key: identityOf(2).peerId, scopes: ['packages'] as const, expiresAt: NOW + days * DAY }
    keys.record(seat, { seq: 1, key: seat, node }, new Uint8Array())
  }
  return { seat, keys }
}

describe('the end of a node key', () => {
  it.each([
    [365, false],
    [43, false],
    [42, true],
    [0, true],
    [-1, true],
  ])('%d days before it is near: %s', (daysLeft, isNear) => {
    expect(nodeKeyEnd(membership(daysLeft), NOW)).toMatchObject({ daysLeft, isNear })
  })

  it('concerns no seat that has no node key', () => {
    expect(nodeKeyEnd(membership(undefined), NOW)).toBeUndefined()
    expect(new NodeKeyWarnings().due(membership(undefined), NOW)).toBeUndefined()
  })

  it('is reported once at each stage, and again for another key', () => {
    const warnings = new NodeKeyWarnings()
    const daysOf = (at: number) => warnings.due(membership(60), NOW + at * DAY)?.daysLeft
    expect([0, 17, 18, 19, 46, 47, 58, 59, 61].map(daysOf)).toEqual([
      undefined,
      undefined,
      42,
      undefined,
      14,
      undefined,
      2,
      undefined,
      undefined,
    ])
    expect(warnings.due(membership(100), NOW + 61 * DAY)?.daysLeft).toBe(39)
  })
})
