/**
 * The time that a protocol gives an answer, or each frame of it: aborts the stream when it is over. One
 * timer that is cleared, since a timeout signal for every request fires long after its end.
 */
import type { Stream } from '@libp2p/interface'
import { ExchangeError } from '../lib/errors.ts'
import type { ProtocolRow } from './protocol.ts'

export class Deadline {
  readonly #over = new AbortController()
  readonly #timer: ReturnType<typeof setTimeout>
  readonly #perFrame: boolean

  constructor(stream: Stream, protocol: ProtocolRow) {
    this.#perFrame = protocol.timeoutPer === 'frame'
    this.#timer = setTimeout(() => {
      const error = new ExchangeError('timeout', `${protocol.id}: took longer than ${protocol.timeoutMs} ms`)
      this.#over.abort(error)
      stream.abort(error)
    }, protocol.timeoutMs)
  }

  get signal(): AbortSignal {
    return this.#over.signal
  }

  /** A frame came or went. */
  frame(): void {
    if (this.#perFrame) this.#timer.refresh()
  }

  /** The answer is complete or given up. */
  clear(): void {
    clearTimeout(this.#timer)
  }
}
