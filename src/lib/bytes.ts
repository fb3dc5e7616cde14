/** Byte helpers: hex, base64, UTF-8, digests, comparison. Knows no format above raw bytes. */
import { createHash } from 'node:crypto'
import { FormatError } from './errors.ts'

/** A SHA-256 digest in OCI form: `sha256:` and 64 lower-case hex digits. */
export type Digest = `sha256:${string}`

const HEX_DIGEST = /^sha256:[a-f0-9]{64}$/

export function sha256(...parts: readonly Uint8Array[]): Uint8Array {
  const hash = createHash('sha256')
  for (const part of parts) hash.update(part)
  return new Uint8Array(hash.digest())
}

export function digestOf(...parts: readonly Uint8Array[]): Digest {
  return `sha256:${toHex(sha256(...parts))}`
}

/** @throws FormatError `bad-field` unless `text` is `sha256:` and 64 lower-case hex digits. */
export function parseDigest(text: string, title = 'digest'): Digest {
  if (!HEX_DIGEST.test(text)) {
    throw new FormatError(
      'bad-field',
      `${title}: expected sha256:<64 hex digits>, got "${text.slice(0, 80)}"`,
    )
  }
  return text as Digest
}

/** The 32 raw bytes of a digest. */
export function digestBytes(digest: Digest): Uint8Array {
  return fromHex(digest.slice('sha256:'.length))
}

/** The first 12 hex digits, for people to read. */
export function shortDigest(digest: Digest): string {
  return digest.slice('sha256:'.length, 'sha256:'.length + 12)
}

export function toHex(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('hex')
}

/** @throws FormatError `bad-field` for an odd length or a character outside 0-9 a-f. */
export function fromHex(text: string): Uint8Array {
  if (text.length % 2 !== 0 || !/^[a-f0-9]*$/.test(text)) {
    throw new FormatError('bad-field', 'hex: expected lower-case hex digits in pairs')
  }
  return new Uint8Array(Buffer.from(text, 'hex'))
}

export function toBase64(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('base64')
}

/** @throws FormatError `bad-field` unless `text` is the canonical padded encoding of its bytes. */
export function fromBase64(text: string): Uint8Array {
  const bytes = Buffer.from(text, 'base64')
  if (bytes.toString('base64') !== text) {
    throw new FormatError('bad-field', 'base64: expected canonical padded base64')
  }
  return new Uint8Array(bytes)
}

export function concatBytes(...parts: readonly Uint8Array[]): Uint8Array {
  let length = 0
  for (const part of parts) length += part.length
  const out = new Uint8Array(length)
  let offset = 0
  for (const part of parts) {
    out.set(part, offset)
    offset += part.length
  }
  return out
}

export function equalBytes(a: Uint8Array, b: Uint8Array): boolean {
  return Buffer.compare(a, b) === 0
}

const ENCODER = new TextEncoder()
/** Keeps a byte order mark, so that each text has exactly one byte string and vice versa. */
const DECODER = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true })

export function utf8(text: string): Uint8Array {
  return ENCODER.encode(text)
}

/** @throws FormatError `bad-field` if the bytes are not UTF-8. */
export function fromUtf8(bytes: Uint8Array): string {
  try {
    return DECODER.decode(bytes)
  } catch (cause) {
    throw new FormatError('bad-field', 'text: expected UTF-8', {}, cause)
  }
}
