import { describe, expect, it } from 'vitest'
import { limit } from '../../src/lib/limits.ts'
import { Conduct } from '../../src/network/conduct.ts'

function conduct() {
  const state = { now: 0, refused: [] as string[] }
  return {
    state,
    conduct: new Conduct({ clock: () => state.now, onRefused: (peer) => void state.refused.push(peer) }),
  }
}

describe('the conduct of a peer', () => {
  it.each([
    ['quota', 22],
    ['announcement', 8],
    ['frame', 6],
    ['flood', 1],
  ] as const)('with faults of the kind %s is refused after %i of them', (kind, count) => {
    const { state, conduct: of } = conduct()
    for (let i = 1; i < count; i++) of.fault('peer', kind)
    expect(of.isRefused('peer')).toBe(false)
    of.fault('peer', kind)
    expect([of.isRefused('peer'), of.isRefused('other')]).toEqual([true, false])
    expect(state.refused).toEqual(['peer'])
  })

  it('is forgiven when the faults are rare', () => {
    const { state, conduct: of } = conduct()
    for (let i = 0; i < 1000; i++) {
      of.fault('peer', 'frame')
      state.now += 4 * limit('faultForgottenAfter')
    }
    expect(of.isRefused('peer')).toBe(false)
  })

  it('ends the refusal after a time', () => {
    const { state, conduct: of } = conduct()
    of.fault('peer', 'flood')
    state.now += limit('refusalTime') - 1
    expect(of.isRefused('peer')).toBe(true)
    state.now += 1
    expect(of.isRefused('peer')).toBe(false)
  })

  it('of any number of strangers takes bounded memory, and the latest are still refused', () => {
    const { conduct: of } = conduct()
    for (let i = 0; i < 5000; i++) of.fault(`stranger ${i}`, 'flood')
    expect(of.isRefused('stranger 4999')).toBe(true)
    expect(of.isRefused('stranger 0')).toBe(false)
  })
})
