/**
 * Restricted canonical JSON (a profile of RFC 8785): each value has exactly one byte string. Strings, booleans,
 * arrays, objects and non-negative safe integers only; keys sorted by UTF-16 code unit; no white space. Knows nothing
 * about what a document means.
 */
import { fromUtf8, utf8 } from './bytes.ts'
import { FormatError } from './errors.ts'
import { limit } from './limits.ts'

export type JsonValue = string | number | boolean | readonly JsonValue[] | JsonObject
export interface JsonObject {
  readonly [key: string]: JsonValue
}

/** @throws FormatError `not-canonical` for a value outside the restricted profile. */
export function encodeCanonical(value: unknown): Uint8Array {
  return utf8(write(value, 0))
}

/**
 * Parse bytes that must already be canonical.
 * @throws FormatError `too-large`, `not-json` or `not-canonical`.
 */
export function decodeCanonical(bytes: Uint8Array, maxBytes = limit('statementBytes')): JsonValue {
  if (bytes.length > maxBytes) {
    throw new FormatError('too-large', `statement: expected at most ${maxBytes} bytes, got ${bytes.length}`)
  }
  const text = fromUtf8(bytes)
  let value: unknown
  try {
    value = JSON.parse(text)
  } catch (cause) {
    throw new FormatError('not-json', 'statement: expected JSON', {}, cause)
  }
  // Each text has exactly one UTF-8 encoding, so comparing texts is enough.
  if (write(value, 0) !== text) {
    throw new FormatError('not-canonical', 'statement: re-encoding gives other bytes')
  }
  return value as JsonValue
}

function write(value: unknown, depth: number): string {
  if (depth > limit('jsonDepth')) {
    throw new FormatError('not-canonical', `statement: nested deeper than ${limit('jsonDepth')}`)
  }
  switch (typeof value) {
    case 'string':
      return writeString(value)
    case 'boolean':
      return value ? 'true' : 'false'
    case 'number':
      if (!Number.isSafeInteger(value) || value < 0 || Object.is(value, -0)) {
        throw new FormatError('not-canonical', `number: expected a non-negative safe integer, got ${value}`)
      }
      return String(value)
    case 'object':
      if (Array.isArray(value)) return `[${value.map((item) => write(item, depth + 1)).join(',')}]`
      if (value !== null) return writeObject(value as Record<string, unknown>, depth)
      break
    default:
      break
  }
  throw new FormatError('not-canonical', `value: ${value === null ? 'null' : typeof value} is not allowed`)
}

function writeObject(value: Record<string, unknown>, depth: number): string {
  const keys = Object.keys(value).sort()
  const members = keys.map((key) => {
    if (key === '__proto__') throw new FormatError('not-canonical', 'key: __proto__ is not allowed')
    return `${writeString(key)}:${write(value[key], depth + 1)}`
  })
  return `{${members.join(',')}}`
}

/** Printable ASCII without quote and backslash, which needs no escapes. */
const PLAIN = /^[ !#-[\]-~]*$/

function writeString(text: string): string {
  if (PLAIN.test(text)) return `"${text}"`
  if (!text.isWellFormed()) throw new FormatError('not-canonical', 'string: lone surrogate')
  return JSON.stringify(text)
}
