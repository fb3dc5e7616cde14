import { describe, expect, it } from 'vitest'
import { TimeLeft, timeLeft, withTimeLeft } from '../../src/commands/time-left.ts'

describe('the time left', () => {
  it('is estimated from the work since the first report, once that took two seconds', () => {
    let now = 5_000
    const left = new TimeLeft(() => now)
    expect(left.after({ done: 10, total: 110 })).toBeUndefined()
    now += 1_000
    expect(left.after({ done: 20, total: 110 })).toBeUndefined()
    now += 3_000
    expect(left.after({ done: 30, total: 110 })).toBe(16)
    now += 16_000
    expect(left.after({ done: 110, total: 110 })).toBe(0)
  })

  it('is missing while nothing is done', () => {
    let now = 0
    const left = new TimeLeft(() => now)
    left.after({ done: 0, total: 10 })
    now = 60_000
    expect(left.after({ done: 0, total: 10 })).toBeUndefined()
  })

  it('is printed with two blanks before it', () => {
    expect(timeLeft(12.2)).toBe('  13 s left')
    expect(timeLeft(undefined)).toBe('')
  })
})

describe('progress with the time left', () => {
  it('passes all events and the result on, and ends the work if nobody reads on', async () => {
    let ended = false
    async function* work() {
      try {
        yield { stage: 'phase' as const, phase: 'text' }
        yield { stage: 'bytes' as const, done: 1, total: 2 }
        return 'result'
      } finally {
        ended = true
      }
    }
    const events = withTimeLeft(work())
    expect(await events.next()).toEqual({ done: false, value: { stage: 'phase', phase: 'text' } })
    expect(await events.next()).toEqual({ done: false, value: { stage: 'bytes', done: 1, total: 2 } })
    expect(await events.next()).toEqual({ done: true, value: 'result' })
    ended = false
    const left = withTimeLeft(work())
    await left.next()
    await left.return('other')
    expect(ended).toBe(true)
  })
})
