/**
 * Strict deterministic CBOR (RFC 8949 4.2.1) for wire frames, a thin layer over cborg. The size of the decoded form is
 * bounded before anything is decoded. Does not know any message: values are `unknown`.
 */
import { decode, encode } from 'cborg'
import { equalBytes } from './bytes.ts'
import { FormatError } from './errors.ts'
import { limit } from './limits.ts'

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

/** Bytes of the argument that follows an initial byte with additional information 24 to 27 (RFC 8949 3). */
const ARGUMENT_BYTES = [1, 2, 4, 8]
const MAJOR = { bytes: 2, text: 3, list: 4, map: 5, tag: 6 }

/**
 * Count the items and the depth of an encoding without decoding it: a list of a million empty maps takes a megabyte
 * here and a hundred when it is decoded. Leaves malformed encodings to the decoder.
 * @throws FormatError `too-large`.
 */
function checkBounds(bytes: Uint8Array): void {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  /** Number of items that each open list, map or tag still needs, outermost first. */
  const open: number[] = []
  let items = 0
  for (let at = 0; at < bytes.length; ) {
    const initial = bytes[at++] as number
    const major = initial >> 5
    const info = initial & 31
    if (++items > limit('cborItems')) {
      throw new FormatError('too-large', `frame: expected at most ${limit('cborItems')} items, got more`)
    }
    const size = info < 24 ? 0 : ARGUMENT_BYTES[info - 24]
    if (size === undefined || at + size > bytes.length) return
    let argument = info
    if (size > 0) argument = size === 8 ? Number(view.getBigUint64(at)) : readUint(view, at, size)
    at += size
    if (major === MAJOR.bytes || major === MAJOR.text) at += argument
    const needed =
      major === MAJOR.list ? argument : major === MAJOR.map ? 2 * argument : major === MAJOR.tag ? 1 : 0
    if (open.length > 0) open.push((open.pop() as number) - 1)
    if (needed > 0) open.push(needed)
    if (open.length > limit('cborDepth')) {
      throw new FormatError('too-large', `frame: expected at most ${limit('cborDepth')} levels, got more`)
    }
    while (open.at(-1) === 0) open.pop()
  }
}

function readUint(view: DataView, at: number, size: number): number {
  if (size === 1) return view.getUint8(at)
  return size === 2 ? view.getUint16(at) : view.getUint32(at)
}

/**
 * Decode, and re-encode to refuse every other encoding of the same value.
 * @throws FormatError `too-large`, `not-cbor`.
 */
export function decodeCbor(bytes: Uint8Array, maxBytes: number): unknown {
  if (bytes.length > maxBytes) {
    throw new FormatError('too-large', `frame: expected at most ${maxBytes} bytes, got ${bytes.length}`)
  }
  checkBounds(bytes)
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
