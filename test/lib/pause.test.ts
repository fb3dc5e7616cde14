import { getEventListeners } from 'node:events'
import { describe, expect, it } from 'vitest'
import { pause } from '../../src/lib/pause.ts'

const HOUR = 3_600_000

describe('pause', () => {
  it('resolves and leaves no listener on the signal', async () => {
    const { signal } = new AbortController()
    for (let i = 0; i < 3; i++) await pause(1, signal)
    expect(getEventListeners(signal, 'abort')).toEqual([])
  })

  it('is aborted while it waits', async () => {
    const leaving = new AbortController()
    const waiting = pause(HOUR, leaving.signal)
    leaving.abort()
    await expect(waiting).rejects.toMatchObject({ family: 'exchange', code: 'aborted' })
  })

  it('does not begin for a signal that has fired', async () => {
    await expect(pause(HOUR, AbortSignal.abort())).rejects.toMatchObject({ code: 'aborted' })
  })
})
