/**
 * The time limit of one answer, or of each frame of it: aborts the stream when it has passed. Uses one timer
 * that is cleared at the end, because the timer of `AbortSignal.timeout` would outlive its request by far.
 */
import type { Stream } from '@libp2p/interface'
import { ExchangeError } from '../lib/errors.ts'
import type { ProtocolRow } from './protocol.ts'

export class Deadline {
  readonly #passed = new AbortController()
  readonly #timer: ReturnType<typeof setTimeout>
  readonly #perFrame: boolean

  constructor(stream: Stream, { id, timeoutMs, timeoutPer }: ProtocolRow) {
    this.#perFrame = timeoutPer === 'frame'
    this.#timer = setTimeout(() => {
      const what = this.#perFrame ? 'a frame of the answer' : 'the answer'
      const error = new ExchangeError('timeout', `${id}: ${what} took longer than ${timeoutMs} ms`, {
        protocol: id,
        timeoutMs,
      })
      this.#passed.abort(error)
      stream.abort(error)
    }, timeoutMs)
  }

  /** Aborted with an ExchangeError `timeout` when the time has passed, or with the error of `giveUp`. */
  get signal(): AbortSignal {
    return this.#passed.signal
  }

  /** A frame was received or is about to be sent. */
  frame(): void {
    if (this.#perFrame) this.#timer.refresh()
  }

  /** The stream ended before the answer was complete. */
  giveUp(error: ExchangeError): void {
    this.#passed.abort(error)
  }

  /** The answer is complete or was given up. */
  clear(): void {
    clearTimeout(this.#timer)
  }
}
