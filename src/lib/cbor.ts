/**
 * Strict deterministic CBOR (RFC 8949 4.2.1) for wire frames, thin over cborg.
 * Knows no message; `unknown` in, `unknown` out.
 */
import { decode, encode } from 'cborg'
import { equalBytes } from './bytes.ts'
import { FormatError } from './errors.ts'

/** Where in a frame `{bytes}` the head of the bytes begins: after the map, the key's length and the key. */
const BYTES_FRAME_KEY = 1 + 1 + 'bytes'.length
const BYTE_STRING = 0x40
/** Lengths of such a head: the byte string's takes 1, 2, 3 or 5 bytes, for up to 4 GiB. */
const BYTES_FRAME_HEADS = [1, 2, 3, 5].map((length) => BYTES_FRAME_KEY + length)
export const MAX_BYTES_FRAME_HEAD = BYTES_FRAME_KEY + 5

export function encodeCbor(value: unknown): Uint8Array {
  return encode(value)
}

/**
 * The encoding of `{bytes}` up to its bytes, which follow as they are: the large frames need no copy.
 * A byte string has the head of the integer that is its length, in another major type.
 */
export function bytesFrameHead(length: number): Uint8Array {
  const head = encode({ bytes: length })
  head[BYTES_FRAME_KEY] = (head[BYTES_FRAME_KEY] as number) | BYTE_STRING
  return head
}

/**
 * Bytes before the bytes of an encoded `{bytes}`; undefined for every other frame and every other
 * spelling of this one, for which `decodeCbor` has the reason.
 * @param start at least MAX_BYTES_FRAME_HEAD bytes of the frame, or all of it.
 */
export function bytesFrameStart(start: Uint8Array, frameLength: number): number | undefined {
  return BYTES_FRAME_HEADS.find((headLength) => {
    if (headLength > frameLength) return false
    const head = bytesFrameHead(frameLength - headLength)
    return head.length === headLength && equalBytes(start.subarray(0, headLength), head)
  })
}

/** @throws FormatError `too-large` or `not-cbor`; re-encodes to refuse every second spelling. */
export function decodeCbor(bytes: Uint8Array, maxBytes: number): unknown {
  if (bytes.length > maxBytes) {
    throw new FormatError('too-large', `frame: expected at most ${maxBytes} bytes, got ${bytes.length}`)
  }
  let value: unknown
  try {
    value = decode(bytes, {
      strict: true,
      allowIndefinite: false,
      allowNaN: false,
      allowInfinity: false,
      allowUndefined: false,
      allowBigInt: false,
      rejectDuplicateMapKeys: true,
    })
    if (equalBytes(encode(value), bytes)) return value
  } catch (cause) {
    throw new FormatError('not-cbor', 'frame: expected deterministic CBOR', {}, cause)
  }
  throw new FormatError('not-cbor', 'frame: re-encoding gives other bytes')
}
