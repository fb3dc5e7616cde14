import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import { EventStream } from '../../src/serving/event-stream.ts'

const LIMITS = { keepAlive: 1000, stall: 2000, bufferBytes: 100 }
const text = ({ value }: { value?: Uint8Array | undefined }): string => new TextDecoder().decode(value)
/** An event of 50 bytes. */
const LARGE = 'x'.repeat(42)

beforeEach(() => {
  vi.useFakeTimers()
})
afterEach(() => {
  vi.useRealTimers()
})

describe('a stream of events', () => {
  it('sends events as they arrive, and ends after the last one', async () => {
    const stream = new EventStream(LIMITS)
    const reader = stream.body.getReader()
    const first = reader.read()
    await stream.send('1')
    expect(text(await first)).toBe('data: 1\n\n')
    await stream.send('2')
    stream.close('3')
    expect(text(await reader.read())).toBe('data: 2\n\ndata: 3\n\n')
    expect((await reader.read()).done).toBe(true)
    expect(stream.signal.aborted).toBe(false)
  })

  it('sends a comment whenever there is no event for a while, until it is closed', async () => {
    const stream = new EventStream(LIMITS)
    const reader = stream.body.getReader()
    for (let i = 0; i < 3; i++) {
      const read = reader.read()
      await vi.advanceTimersByTimeAsync(1000)
      expect(text(await read)).toBe(': keep-alive\n\n')
    }
    await stream.send('1')
    expect(text(await reader.read())).toBe('data: 1\n\n')
    const read = reader.read()
    await vi.advanceTimersByTimeAsync(999)
    stream.close()
    expect((await read).done).toBe(true)
    await vi.advanceTimersByTimeAsync(5000)
    expect(vi.getTimerCount()).toBe(0)
  })

  it('lets the answer run ahead of the client by the size of its buffer, and no further', async () => {
    const stream = new EventStream(LIMITS)
    await stream.send(LARGE)
    await stream.send(LARGE)
    let isSent = false
    const third = stream.send(LARGE).then(() => {
      isSent = true
    })
    await vi.advanceTimersByTimeAsync(100)
    expect(isSent).toBe(false)
    const reader = stream.body.getReader()
    expect(text(await reader.read())).toBe(`data: ${LARGE}\n\n`.repeat(3))
    await third
    stream.close()
    expect((await reader.read()).done).toBe(true)
  })

  it('gives up a client that takes nothing, and lets the answer end', async () => {
    const stream = new EventStream(LIMITS)
    const reader = stream.body.getReader()
    const first = reader.read()
    await stream.send('1')
    await first
    const sent = Promise.all([stream.send(LARGE), stream.send(LARGE), stream.send(LARGE)])
    const outcome = sent.catch((error: unknown) => error)
    await vi.advanceTimersByTimeAsync(1999)
    expect(stream.signal.aborted).toBe(false)
    await vi.advanceTimersByTimeAsync(1)
    expect(stream.signal.aborted).toBe(true)
    expect(await outcome).toEqual(new Error('the client read nothing for 2000 ms'))
    stream.close()
    expect((await reader.read()).done).toBe(true)
    expect(vi.getTimerCount()).toBe(0)
  })

  it('gives up a client that does not take the end', async () => {
    const stream = new EventStream(LIMITS)
    stream.close('1')
    await vi.advanceTimersByTimeAsync(2000)
    expect(stream.signal.aborted).toBe(true)
    expect(vi.getTimerCount()).toBe(0)
  })

  it('keeps a client that takes a little in time', async () => {
    const stream = new EventStream(LIMITS)
    const reader = stream.body.getReader()
    for (let i = 0; i < 5; i++) {
      await stream.send(String(i))
      await vi.advanceTimersByTimeAsync(1900)
      expect(text(await reader.read())).toBe(`data: ${i}\n\n`)
    }
    expect(stream.signal.aborted).toBe(false)
    stream.close()
    expect((await reader.read()).done).toBe(true)
  })

  it('ends when the client leaves', async () => {
    const stream = new EventStream(LIMITS)
    const reader = stream.body.getReader()
    void reader.read()
    await reader.cancel()
    expect(stream.signal.aborted).toBe(true)
    await expect(stream.send('1')).rejects.toThrow('the client left')
    stream.close()
    expect(vi.getTimerCount()).toBe(0)
  })

  it('that is discarded leaves no timer', () => {
    const stream = new EventStream(LIMITS)
    stream.comment()
    stream.discard()
    expect(vi.getTimerCount()).toBe(0)
    expect(stream.signal.aborted).toBe(false)
  })
})
