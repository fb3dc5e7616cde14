import { describe, expect, it } from 'vitest'
import { ExchangeError } from '../../src/lib/errors.ts'
import { dialWithin } from '../../src/network/dial.ts'

const never = new AbortController().signal

/** A dial that ends only when its signal aborts. */
function pending(signal: AbortSignal): Promise<never> {
  return new Promise((_, reject) => signal.addEventListener('abort', () => reject(signal.reason)))
}

async function failure(promise: Promise<unknown>): Promise<{ code: string; message: string }> {
  const error = await promise.then(
    () => undefined,
    (reason: unknown) => reason,
  )
  expect(error).toBeInstanceOf(ExchangeError)
  const { code, message } = error as ExchangeError
  return { code, message }
}

describe('a dial', () => {
  it('returns the connection', async () => {
    expect(await dialWithin('peer', 1000, never, async () => 'connection')).toBe('connection')
  })

  it('that takes too long says so and after which time', async () => {
    expect(await failure(dialWithin('peer', 1, never, pending))).toEqual({
      code: 'unreachable',
      message: 'peer cannot be reached: no connection within 1 ms',
    })
  })

  it('that the caller aborts is aborted, not timed out', async () => {
    const caller = new AbortController()
    const dialled = failure(dialWithin('peer', 60_000, caller.signal, pending))
    caller.abort()
    expect(await dialled).toEqual({
      code: 'aborted',
      message: 'peer: aborted before a connection was made',
    })
  })

  it('that the other side refuses keeps its error', async () => {
    const refusal = new ExchangeError('refused', 'not a member')
    const dial = async (): Promise<never> => {
      throw refusal
    }
    expect(await failure(dialWithin('peer', 60_000, never, dial))).toEqual({
      code: 'refused',
      message: 'not a member',
    })
  })

  it('that is refused gives the reason', async () => {
    const dial = async (): Promise<never> => {
      throw new Error('ECONNREFUSED')
    }
    expect(await failure(dialWithin('peer', 60_000, never, dial))).toEqual({
      code: 'unreachable',
      message: 'peer cannot be reached: ECONNREFUSED',
    })
  })
})
