/**
 * The bytes of frames: an unsigned varint length, then one deterministic CBOR item. Sizes are checked before a frame is
 * buffered. Implements protocols/package-exchange, Frames. Does not know streams and what messages mean.
 */
import * as lengthPrefixed from 'it-length-prefixed'
import { Uint8ArrayList } from 'uint8arraylist'
import { bytesFrameHead, bytesFrameStart, decodeCbor, encodeCbor, MAX_BYTES_FRAME_HEAD } from '../lib/cbor.ts'
import { ExchangeError, FormatError } from '../lib/errors.ts'

/** Plaintext bytes of the largest noise message: 65,535 less the 16 of the tag. */
const NOISE_BYTES = 65_519
const YAMUX_HEADER_BYTES = 12
/**
 * Bytes that are handed to the stream at once. Fills whole noise messages, and is small compared with the window
 * of a stream, so that one piece travels while the next is encrypted.
 */
const PIECE_BYTES = 4 * NOISE_BYTES - YAMUX_HEADER_BYTES
/** A length of up to 2^28, above every limit of a frame, takes this many bytes. */
const MAX_LENGTH_BYTES = 4

export type Bytes = Uint8Array | Uint8ArrayList

/** Largest frames, bytes. */
export interface FrameLimits {
  /** A frame `{bytes}`. */
  readonly bytes: number
  /** Any other frame, which is decoded into objects. */
  readonly other: number
}

/** A frame `{bytes}` as received: the bytes in consecutive parts that have not been copied together. */
export class BytesFrame {
  readonly parts: readonly Uint8Array[]
  readonly length: number

  constructor(parts: readonly Uint8Array[], length: number) {
    this.parts = parts
    this.length = length
  }
}

/**
 * A frame in pieces of at most `pieceBytes`. Does not copy the bytes of the frame, so the caller must not change them
 * afterwards.
 */
export function* encodeFrame(frame: unknown, pieceBytes = PIECE_BYTES): Generator<Bytes> {
  const bytes = onlyBytes(frame)
  const body =
    bytes === undefined
      ? new Uint8ArrayList(encodeCbor(frame))
      : new Uint8ArrayList(bytesFrameHead(bytes.length), bytes)
  const whole = lengthPrefixed.encode.single(body)
  for (let at = 0; at < whole.byteLength; at += pieceBytes) {
    yield whole.sublist(at, Math.min(at + pieceBytes, whole.byteLength))
  }
}

function onlyBytes(frame: unknown): Uint8Array | undefined {
  if (typeof frame !== 'object' || frame === null || !('bytes' in frame)) return undefined
  return frame.bytes instanceof Uint8Array && Object.keys(frame).length === 1 ? frame.bytes : undefined
}

/**
 * The frames of a stream, still encoded.
 * @throws FormatError `too-large` for a frame above its limit, as soon as its length and its first bytes have arrived;
 * ExchangeError `protocol` when the stream ends within a frame.
 */
export async function* splitFrames(
  source: AsyncIterable<Bytes>,
  limits: FrameLimits,
): AsyncGenerator<Uint8ArrayList, void, void> {
  const unread = new Uint8ArrayList()
  let length: number | undefined
  let isChecked = false
  for await (const part of source) {
    unread.append(part)
    for (;;) {
      length ??= takeLength(unread, limits.bytes)
      if (length === undefined) break
      if (!isChecked && unread.byteLength >= Math.min(length, MAX_BYTES_FRAME_HEAD)) {
        const isBytes = bytesFrameStart(headOf(unread, length), length) !== undefined
        checkLength(length, isBytes ? limits.bytes : limits.other)
        isChecked = true
      }
      if (unread.byteLength < length) break
      yield unread.sublist(0, length)
      unread.consume(length)
      length = undefined
      isChecked = false
    }
  }
  if (length !== undefined || unread.byteLength > 0) {
    throw new ExchangeError('protocol', 'the stream ended within a frame')
  }
}

/** Remove the length of the next frame from `unread`; undefined while it is incomplete. */
function takeLength(unread: Uint8ArrayList, max: number): number | undefined {
  let length = 0
  for (let i = 0; i < Math.min(unread.byteLength, MAX_LENGTH_BYTES); i++) {
    const byte = unread.get(i)
    length += (byte & 0x7f) * 2 ** (7 * i)
    if (byte >= 0x80) continue
    checkLength(length, max)
    unread.consume(i + 1)
    return length
  }
  if (unread.byteLength >= MAX_LENGTH_BYTES) checkLength(Number.POSITIVE_INFINITY, max)
  return undefined
}

function checkLength(length: number, max: number): void {
  if (length > max) throw new FormatError('too-large', `frame: expected at most ${max} bytes, got more`)
}

function headOf(unread: Uint8ArrayList, length: number): Uint8Array {
  return unread.subarray(0, Math.min(MAX_BYTES_FRAME_HEAD, length, unread.byteLength))
}

/** A `BytesFrame` or a decoded value. @throws FormatError `too-large`, `not-cbor`. */
export function decodeFrame(frame: Uint8ArrayList, limits: FrameLimits): unknown {
  const start = bytesFrameStart(headOf(frame, frame.byteLength), frame.byteLength)
  if (start === undefined) return decodeCbor(frame.subarray(), limits.other)
  return new BytesFrame([...frame.sublist(start)], frame.byteLength - start)
}
