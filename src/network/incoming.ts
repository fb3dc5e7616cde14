/**
 * What arrives on a libp2p stream, for a reader that may be slower than the network: libp2p's own iterator
 * takes in whatever is sent, this one pauses the stream. Knows no frame.
 */
import type { Stream, StreamCloseEvent, StreamMessageEvent } from '@libp2p/interface'
import type { Uint8ArrayList } from 'uint8arraylist'
import { limit } from '../lib/limits.ts'

/** Unread bytes at which the other side is told to wait; it may send one window more. */
const PAUSE_BYTES = limit('chunkBytes')

/** @throws what the stream was closed with. */
export async function* incoming(stream: Stream): AsyncGenerator<Uint8Array | Uint8ArrayList, void, void> {
  const waiting: (Uint8Array | Uint8ArrayList)[] = []
  let bytes = 0
  let ended = stream.readableEnded
  let failure: Error | undefined
  let wake = (): void => undefined
  let resuming = false
  const pauseWhenFull = (): void => {
    if (bytes > PAUSE_BYTES && stream.readStatus === 'readable') stream.pause()
  }
  const listening = new AbortController()
  const listen = <T extends Event>(type: 'message' | 'end' | 'close', handle: (event: T) => void): void => {
    const listener = (event: Event): void => {
      handle(event as T)
      wake()
    }
    stream.addEventListener(type, listener, { signal: listening.signal })
  }
  listen<StreamMessageEvent>('message', ({ data }) => {
    waiting.push(data)
    bytes += data.byteLength
    if (!resuming) pauseWhenFull()
  })
  listen('end', () => {
    ended = true
  })
  listen<StreamCloseEvent>('close', ({ error }) => {
    ended = true
    failure = error
  })
  try {
    for (;;) {
      const data = waiting.shift()
      if (data !== undefined) {
        bytes -= data.byteLength
        yield data
      } else if (stream.readStatus === 'paused') {
        // Gives out what was held back before it tells the other side to go on: a pause from within is undone.
        resuming = true
        stream.resume()
        resuming = false
        pauseWhenFull()
      } else if (failure !== undefined) throw failure
      else if (ended) return
      else {
        const { promise, resolve } = Promise.withResolvers<void>()
        wake = resolve
        await promise
      }
    }
  } finally {
    listening.abort()
  }
}
