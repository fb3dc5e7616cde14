/**
 * Strict deterministic CBOR (RFC 8949 4.2.1) for wire frames, a thin layer over cborg. Knows no message: values are
 * `unknown`.
 */
import { decode, encode } from 'cborg'
import { equalBytes } from './bytes.ts'
import { FormatError } from './errors.ts'

/** Offset of the byte string's head in a frame `{bytes}`: after the map's head, the key's head and the key. */
const BYTES_FRAME_KEY = 1 + 1 + 'bytes'.length
const BYTE_STRING = 0x40
/**
 * Possible lengths of the frame up to its bytes: the head of a byte string of up to 4 GiB takes 1, 2, 3 or 5 bytes.
 */
const BYTES_FRAME_HEADS = [1, 2, 3, 5].map((length) => BYTES_FRAME_KEY + length)
export const MAX_BYTES_FRAME_HEAD = BYTES_FRAME_KEY + 5

export function encodeCbor(value: unknown): Uint8Array {
  return encode(value)
}

/**
 * The encoding of `{bytes}` up to its bytes, which follow unchanged, so that large frames need no copy. The head of a
 * byte string is that of its length as an integer, with another major type.
 */
export function bytesFrameHead(length: number): Uint8Array {
  const head = encode({ bytes: length })
  head[BYTES_FRAME_KEY] = (head[BYTES_FRAME_KEY] as number) | BYTE_STRING
  return head
}

/**
 * Offset of the bytes in an encoded `{bytes}`; undefined for every other frame and for every non-deterministic
 * encoding, which `decodeCbor` refuses with a reason.
 * @param start the first MAX_BYTES_FRAME_HEAD bytes of the frame or more, or all of it.
 */
export function bytesFrameStart(start: Uint8Array, frameLength: number): number | undefined {
  return BYTES_FRAME_HEADS.find((headLength) => {
    if (headLength > frameLength) return false
    const head = bytesFrameHead(frameLength - headLength)
    return head.length === headLength && equalBytes(start.subarray(0, headLength), head)
  })
}

/**
 * Decode, and re-encode to refuse every other encoding of the same value.
 * @throws FormatError `too-large`, `not-cbor`.
 */
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
