/**
 * Reads what arrives on a libp2p stream at the reader's own pace. libp2p's iterator buffers whatever the other
 * side sends; this one pauses the stream while the reader is slower than the network. Knows nothing about frames.
 */
import type { Stream, StreamCloseEvent, StreamMessageEvent } from '@libp2p/interface'
import type { Uint8ArrayList } from 'uint8arraylist'

/**
 * @param maxUnread number of unread bytes above which the stream is paused. The other side may then send one window
 * more.
 * @throws the error that the stream was closed with.
 */
export async function* incoming(
  stream: Stream,
  maxUnread: number,
): AsyncGenerator<Uint8Array | Uint8ArrayList, void, void> {
  const unread: (Uint8Array | Uint8ArrayList)[] = []
  let bytes = 0
  let ended = stream.readableEnded
  let failure: Error | undefined
  let wake = (): void => undefined
  let resuming = false
  const pauseWhenFull = (): void => {
    if (bytes > maxUnread && stream.readStatus === 'readable') stream.pause()
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
    unread.push(data)
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
      const data = unread.shift()
      if (data !== undefined) {
        bytes -= data.byteLength
        yield data
      } else if (stream.readStatus === 'paused') {
        // `resume` first delivers what the stream has buffered and then lets the other side continue. It undoes
        // a pause that a listener requests meanwhile, so the check for a full buffer comes after it.
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
