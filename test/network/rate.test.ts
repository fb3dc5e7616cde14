import { describe, expect, it } from 'vitest'
import { Rate } from '../../src/network/rate.ts'

describe('a rate', () => {
  it('lets a key use several units at once, up to the burst', () => {
    let now = 0
    const rate = new Rate(() => now, { burst: 10, everyMs: 100 })
    expect(rate.take('a', 11)).toBe(true) // the burst, and the unit that is due now
    expect(rate.take('a')).toBe(false)
    now = 500
    expect(rate.take('a', 6)).toBe(false)
    expect(rate.take('a', 5)).toBe(true)
  })

  it('refuses more units than the burst allows, also at first', () => {
    expect(new Rate(() => 0, { burst: 10, everyMs: 100 }).take('a', 12)).toBe(false)
  })

  it('forgets keys that have their whole allowance again', () => {
    let now = 0
    const rate = new Rate(() => now, { burst: 1, everyMs: 100 })
    for (let i = 0; i < 1000; i++) rate.take(`early ${i}`)
    now = 1000
    for (let i = 0; i < 100; i++) rate.take(`late ${i}`)
    expect(rate.size).toBe(100)
  })
})
