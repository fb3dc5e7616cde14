/**
 * A response of server-sent events for a client that may read slowly or not at all: sends comments while there is no
 * event, keeps a bounded part of the answer, and gives up a client that takes nothing. Implements protocols/inference-api,
 * section "Streams". Knows nothing about answers.
 */
import { utf8 } from '../lib/bytes.ts'
import { limit } from '../lib/limits.ts'

/** Times in milliseconds, size in bytes. */
export interface EventStreamLimits {
  /** Without an event for this long, a comment is sent. */
  readonly keepAlive: number
  /** The client is given up if it takes nothing for this long. */
  readonly stall: number
  /** More than this waits for the client. */
  readonly bufferBytes: number
}

export const EVENT_STREAM_LIMITS: EventStreamLimits = {
  keepAlive: limit('streamKeepAlive'),
  stall: limit('streamStall'),
  bufferBytes: limit('streamBufferBytes'),
}

const COMMENT = utf8(': keep-alive\n\n')
/** Size of the pieces in which the client takes the buffer, so that a slow one takes something within `stall`. */
const PIECE_BYTES = 16_384

interface EventNames {
  readonly id?: string | undefined
  readonly name?: string | undefined
}

function eventOf(data: string, { id, name }: EventNames = {}): Uint8Array {
  const lines = [id === undefined ? '' : `id: ${id}\n`, name === undefined ? '' : `event: ${name}\n`]
  return utf8(`${lines.join('')}data: ${data}\n\n`)
}

export class EventStream {
  readonly #gone = new AbortController()
  readonly #limits: EventStreamLimits
  /** Bytes that the client has not taken yet. */
  #waiting: Uint8Array[] = []
  #waitingBytes = 0
  #isClosed = false
  /** Whether the client has taken all of a closed stream. */
  #isTaken = false
  /** Called when the client can take more. Undefined while it takes nothing. */
  #take: (() => void) | undefined
  /** Called when the buffer has room. */
  #resume: (() => void) | undefined
  #keepAliveTimer: ReturnType<typeof setTimeout> | undefined
  #stallTimer: ReturnType<typeof setTimeout> | undefined
  /** Body of the response. */
  readonly body: ReadableStream<Uint8Array>

  constructor(limits: EventStreamLimits) {
    this.#limits = limits
    this.body = new ReadableStream<Uint8Array>(
      {
        pull: (controller) =>
          new Promise<void>((resolve) => {
            this.#take = () => {
              if (!this.#deliver(controller)) return
              this.#take = undefined
              this.#watch()
              resolve()
            }
            this.#take()
            this.#watch()
          }),
        cancel: () => this.leave(),
      },
      // Nothing is taken ahead of the client.
      { highWaterMark: 0 },
    )
    this.#restartKeepAlive()
  }

  /** Aborts when the client has left or has taken nothing for too long. The body then ends at the next read. */
  get signal(): AbortSignal {
    return this.#gone.signal
  }

  /** Resolves when there is room for another event. @param name type of the event. @throws the reason of `signal` */
  async send(data: string, name?: string): Promise<void> {
    this.#push(eventOf(data, { name }))
    if (this.#waitingBytes > this.#limits.bufferBytes) {
      await new Promise<void>((resolve) => {
        this.#resume = resolve
      })
    }
    this.signal.throwIfAborted()
  }

  /**
   * Add an event without waiting for room. A client that reads too slowly for its events is given up.
   * @param id what a client that connects again names as the last event that it has seen
   */
  push(data: string, id: string): void {
    this.#push(eventOf(data, { id }))
    if (this.#waitingBytes > this.#limits.bufferBytes)
      this.#giveUp(new Error('the client reads more slowly than events come'))
  }

  comment(): void {
    this.#push(COMMENT)
  }

  /** Ends the stream. The client can still take the events before. @param data of a last event */
  close(data?: string): void {
    if (data !== undefined) this.#push(eventOf(data))
    this.#isClosed = true
    clearTimeout(this.#keepAliveTimer)
    this.#take?.()
    this.#watch()
  }

  /** The client has left. */
  leave(): void {
    this.#take = undefined
    this.#isTaken = true
    this.#giveUp(new Error('the client left'))
  }

  /** Ends a stream whose body nobody will read. */
  discard(): void {
    this.#isTaken = true
    this.close()
  }

  #push(bytes: Uint8Array): void {
    if (this.#isClosed || this.signal.aborted) return
    this.#waiting.push(bytes)
    this.#waitingBytes += bytes.length
    this.#restartKeepAlive()
    this.#take?.()
    this.#watch()
  }

  /** Hands over a piece of the buffer. @returns false if there is nothing to hand over yet */
  #deliver(controller: ReadableStreamDefaultController<Uint8Array>): boolean {
    if (this.#waiting.length === 0) {
      const hasEnded = this.#isClosed || this.signal.aborted
      if (hasEnded) {
        controller.close()
        this.#isTaken = true
      }
      return hasEnded
    }
    const piece: Uint8Array[] = []
    for (let size = 0; size < PIECE_BYTES && this.#waiting.length > 0; ) {
      const bytes = this.#waiting.shift() as Uint8Array
      piece.push(bytes)
      size += bytes.length
    }
    const bytes = Buffer.concat(piece)
    this.#waitingBytes -= bytes.length
    clearTimeout(this.#stallTimer)
    this.#stallTimer = undefined
    controller.enqueue(bytes)
    if (this.#waitingBytes <= this.#limits.bufferBytes) this.#resume?.()
    return true
  }

  #restartKeepAlive(): void {
    clearTimeout(this.#keepAliveTimer)
    this.#keepAliveTimer = setTimeout(() => {
      // A client that has not taken the earlier events needs no comment.
      if (this.#waitingBytes === 0) this.comment()
      else this.#restartKeepAlive()
    }, this.#limits.keepAlive)
  }

  /** Measures how long the client leaves events, or the end of the answer, in the buffer. */
  #watch(): void {
    const { stall } = this.#limits
    const isLeft = this.#take === undefined && (this.#waitingBytes > 0 || this.#isClosed) && !this.#isTaken
    if (!isLeft) {
      clearTimeout(this.#stallTimer)
      this.#stallTimer = undefined
    } else if (!this.signal.aborted)
      this.#stallTimer ??= setTimeout(
        () => this.#giveUp(new Error(`the client read nothing for ${stall} ms`)),
        stall,
      )
  }

  #giveUp(reason: Error): void {
    clearTimeout(this.#keepAliveTimer)
    clearTimeout(this.#stallTimer)
    this.#waiting = []
    this.#waitingBytes = 0
    this.#gone.abort(reason)
    this.#take?.()
    this.#resume?.()
  }
}
