import { describe, expect, it } from 'vitest'
import { Slots } from '../../src/network/slots.ts'

const never = new AbortController().signal

/** Take a place, and note when it was taken. */
function taking(slots: Slots, key: string, log: string[], signal = never): Promise<() => void> {
  const place = slots.take(key, signal)
  place.then(
    () => log.push(key),
    () => log.push(`${key} gave up`),
  )
  return place
}

describe('slots', () => {
  it('let a key wait that has its share, and others pass', async () => {
    const slots = new Slots({ perKey: 1, total: 3 })
    const log: string[] = []
    const free = await taking(slots, 'a', log)
    const waiting = taking(slots, 'a', log)
    await taking(slots, 'b', log)
    expect(log).toEqual(['a', 'b'])
    free()
    await waiting
    expect(log).toEqual(['a', 'b', 'a'])
  })

  it('are given in the order of arrival when all are taken', async () => {
    const slots = new Slots({ perKey: 2, total: 1 })
    const log: string[] = []
    const first = await taking(slots, 'a', log)
    const others = ['b', 'c'].map((key) => taking(slots, key, log))
    first()
    const second = await (others[0] as Promise<() => void>)
    expect(log).toEqual(['a', 'b'])
    second()
    await Promise.all(others)
    expect(log).toEqual(['a', 'b', 'c'])
  })

  it('are not taken by a request that was given up', async () => {
    const slots = new Slots({ perKey: 1, total: 1 })
    const log: string[] = []
    const free = await taking(slots, 'a', log)
    const caller = new AbortController()
    const given = taking(slots, 'b', log, caller.signal)
    caller.abort()
    await expect(given).rejects.toThrow()
    free()
    await taking(slots, 'c', log)
    expect(log).toEqual(['a', 'b gave up', 'c'])
    await expect(slots.take('d', AbortSignal.abort())).rejects.toThrow()
  })

  it('are taken together or not at all', async () => {
    const slots = new Slots({ perKey: 3, total: 4 })
    const log: string[] = []
    const free = await slots.take('a', never, 3)
    const waiting = slots.take('b', never, 2).then(() => log.push('b'))
    await taking(slots, 'c', log)
    expect(log).toEqual(['c'])
    free()
    await waiting
    expect(log).toEqual(['c', 'b'])
  })

  it('are guaranteed to each key, however many others are taken', async () => {
    const slots = new Slots({ perKey: 2, total: 1, guaranteed: 1 })
    const log: string[] = []
    const [first] = await Promise.all(['a', 'a', 'b', 'c'].map((key) => taking(slots, key, log)))
    const waiting = taking(slots, 'b', log)
    await taking(slots, 'd', log)
    expect(log).toEqual(['a', 'a', 'b', 'c', 'd'])
    first?.()
    await waiting
    expect(log).toEqual(['a', 'a', 'b', 'c', 'd', 'b'])
  })
})
