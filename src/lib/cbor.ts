/**
 * Strict deterministic CBOR (RFC 8949 4.2.1) for wire frames, thin over cborg.
 * Knows no message; `unknown` in, `unknown` out.
 */
import { decode, encode } from 'cborg'
import { equalBytes } from './bytes.ts'
import { FormatError } from './errors.ts'

export function encodeCbor(value: unknown): Uint8Array {
  return encode(value)
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
