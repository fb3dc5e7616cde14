/**
 * Reads the frame headers of one yamux connection beside the multiplexer and says when the other side exceeds a limit.
 * The multiplexer itself buffers a data frame of any announced length, up to 4 GiB, before it checks anything, and
 * answers any number of pings. Source: https://github.com/hashicorp/yamux/blob/master/spec.md.
 */
import type { Uint8ArrayList } from 'uint8arraylist'
import { limit } from '../lib/limits.ts'
import { Rate } from './rate.ts'

const HEADER_BYTES = 12
const DATA = 0
/** Frames with less data than this, and frames without data, count as small. */
const SMALL_BYTES = 1024

export class YamuxWatch {
  /** Parity of the ids of the streams that this side opens: the dialling side uses odd ids. */
  readonly #ownParity: number
  readonly #small: Rate
  readonly #header = new Uint8Array(HEADER_BYTES)
  #headerLength = 0
  /** Number of bytes of the current data frame that have not arrived yet. */
  #dataLeft = 0

  /** @param clock milliseconds, monotonic. */
  constructor(direction: 'inbound' | 'outbound', clock: () => number) {
    this.#ownParity = direction === 'outbound' ? 1 : 0
    const perSecond = limit('smallFramesPerSecond')
    this.#small = new Rate(clock, { burst: perSecond, everyMs: 1000 / perSecond })
  }

  /**
   * Read the next bytes of the connection.
   * @returns what exceeds which limit; undefined while everything is within the limits.
   */
  read(bytes: Uint8Array | Uint8ArrayList): string | undefined {
    for (const part of bytes instanceof Uint8Array ? [bytes] : bytes) {
      const excess = this.#readPart(part)
      if (excess !== undefined) return excess
    }
    return undefined
  }

  #readPart(part: Uint8Array): string | undefined {
    let at = 0
    while (at < part.length) {
      if (this.#dataLeft > 0) {
        const length = Math.min(this.#dataLeft, part.length - at)
        this.#dataLeft -= length
        at += length
        continue
      }
      const missing = part.subarray(at, at + HEADER_BYTES - this.#headerLength)
      this.#header.set(missing, this.#headerLength)
      this.#headerLength += missing.length
      at += missing.length
      if (this.#headerLength < HEADER_BYTES) return undefined
      this.#headerLength = 0
      const excess = this.#onHeader()
      if (excess !== undefined) return excess
    }
    return undefined
  }

  #onHeader(): string | undefined {
    const view = new DataView(this.#header.buffer)
    const isData = view.getUint8(1) === DATA
    const stream = view.getUint32(4)
    const length = isData ? view.getUint32(8) : 0
    const max = stream % 2 === this.#ownParity ? limit('answerDataBytes') : limit('requestDataBytes')
    if (length > max) return `a data frame of ${length} bytes on stream ${stream}, the limit is ${max}`
    this.#dataLeft = length
    if (length < SMALL_BYTES && !this.#small.take('')) {
      return `more than ${limit('smallFramesPerSecond')} small frames a second`
    }
    return undefined
  }
}
