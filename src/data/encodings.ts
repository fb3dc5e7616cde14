/**
 * Recognises the encoding of a text file. Valid UTF-8 and UTF-16 with a byte order mark are certain. UTF-16 without a
 * mark and Windows-1252 (which includes the printable characters of Latin-1) are recognised by rules that other
 * encodings and binary files do not pass. Anything else is refused. Knows no kinds of file.
 */
import { isUtf8 } from 'node:buffer'
import { InputError } from '../lib/errors.ts'

/** Names that TextDecoder accepts. */
export type Encoding = 'utf-8' | 'utf-16le' | 'utf-16be' | 'windows-1252'

/** Maximum share of non-ASCII letters among the letters of a Western European text; French has about 5 %. */
const MAX_WESTERN_SHARE = 0.2
/** Maximum share of symbols such as ± and ³ between two letters: in other alphabets these bytes are letters. */
const MAX_SYMBOL_SHARE = 0.05
/** Maximum share of bytes above 127 that belong to complete UTF-8 characters: above it, the file is damaged UTF-8. */
const MAX_UTF8_SHARE = 0.1
/** Minimum share of ASCII characters (spaces, digits, line ends) in UTF-16 without a mark. */
const MIN_ASCII_SHARE = 0.02
/** Bytes that Windows-1252 does not assign. */
const UNASSIGNED_1252 = new Set([0x81, 0x8d, 0x8f, 0x90, 0x9d])
const NEVER_IN_TEXT = /[^\P{Cc}\t\n\v\f\r]|\p{Co}|\p{Cn}/u

/**
 * @param chunks opens the file; called up to three times.
 * @throws InputError `not-text` with the offset of the first byte that fits no encoding.
 */
export async function encodingOf(path: string, chunks: () => AsyncIterable<Uint8Array>): Promise<Encoding> {
  const { start, invalid, nul } = await firstFaults(chunks())
  if (start.length >= 4 && (startsWith(start, 0xff, 0xfe, 0, 0) || startsWith(start, 0, 0, 0xfe, 0xff))) {
    throw notText(path, 'it is UTF-32', 'UTF-32')
  }
  const marked = startsWith(start, 0xff, 0xfe)
    ? 'utf-16le'
    : startsWith(start, 0xfe, 0xff)
      ? 'utf-16be'
      : undefined
  if (marked !== undefined) {
    if (!(await decodes(marked, chunks())).valid)
      throw notText(path, 'it is UTF-16 with half a character at its end', 'UTF-16')
    return marked
  }
  if (nul !== undefined) {
    for (const encoding of ['utf-16le', 'utf-16be'] as const) {
      const { valid, asciiShare } = await decodes(encoding, chunks())
      if (valid && asciiShare >= MIN_ASCII_SHARE) return encoding
    }
    throw notText(path, `a zero byte at offset ${nul}`)
  }
  if (invalid === undefined) return 'utf-8'
  if (await isWestern(chunks())) return 'windows-1252'
  throw notText(
    path,
    `byte 0x${invalid.byte.toString(16).toUpperCase()} at offset ${invalid.offset} is not valid UTF-8`,
  )
}

function startsWith(bytes: Uint8Array, ...expected: number[]): boolean {
  return expected.every((byte, i) => bytes[i] === byte)
}

function notText(path: string, found: string, encoding = 'ENCODING'): InputError {
  const which = encoding === 'ENCODING' ? `, where "file -i '${path}'" may tell ENCODING` : ''
  return new InputError(
    'not-text',
    `${path} is not text in UTF-8, UTF-16 or Windows-1252: ${found}; convert it with "iconv -f ${encoding} -t UTF-8 '${path}' > NEW"${which}, or leave it out of --data`,
  )
}

interface Faults {
  readonly start: Uint8Array
  readonly invalid?: { readonly byte: number; readonly offset: number }
  readonly nul?: number
}

/** The first four bytes, the first byte that is not UTF-8, and the offset of the first zero byte. */
async function firstFaults(chunks: AsyncIterable<Uint8Array>): Promise<Faults> {
  const faults: { -readonly [K in keyof Faults]: Faults[K] } = { start: new Uint8Array() }
  let carry: Uint8Array = new Uint8Array()
  let offset = 0
  for await (const chunk of chunks) {
    const bytes = Buffer.concat([carry, chunk])
    if (offset === 0 && faults.start.length < 4) faults.start = bytes.subarray(0, 4)
    const nul = bytes.indexOf(0)
    if (nul >= 0) faults.nul ??= offset + nul
    const end = bytes.length - unfinished(bytes)
    if (faults.invalid === undefined && !isUtf8(bytes.subarray(0, end))) faults.invalid = fault(bytes, offset)
    if (faults.nul !== undefined && faults.invalid !== undefined) return faults
    carry = bytes.subarray(end)
    offset += end
  }
  if (carry.length > 0) faults.invalid ??= fault(carry, offset)
  return faults
}

function fault(bytes: Uint8Array, offset: number): { byte: number; offset: number } {
  let at = 0
  for (let length = 1; length > 0 && at < bytes.length; at += length) {
    length = utf8Length(bytes, at)
    if (length === 0) break
  }
  return { byte: bytes[at] as number, offset: offset + at }
}

/** Number of bytes at the end that begin a character which the next chunk may complete. */
function unfinished(bytes: Uint8Array): number {
  for (let back = 1; back <= Math.min(3, bytes.length); back++) {
    const byte = bytes[bytes.length - back] as number
    if (byte < 0x80) return 0
    if (byte >= 0xc0) return back < (byte >= 0xf0 ? 4 : byte >= 0xe0 ? 3 : 2) ? back : 0
  }
  return 0
}

/** Length of the complete UTF-8 character at offset `at`, or 0. */
function utf8Length(bytes: Uint8Array, at: number): number {
  const byte = bytes[at] as number
  if (byte < 0x80) return 1
  const length = byte >= 0xf0 ? 4 : byte >= 0xe0 ? 3 : 2
  return at + length <= bytes.length && isUtf8(bytes.subarray(at, at + length)) ? length : 0
}

async function decodes(
  encoding: 'utf-16le' | 'utf-16be',
  chunks: AsyncIterable<Uint8Array>,
): Promise<{ valid: boolean; asciiShare: number }> {
  const decoder = new TextDecoder(encoding, { fatal: true })
  let characters = 0
  let ascii = 0
  const check = (text: string): boolean => {
    characters += text.length
    for (let i = 0; i < text.length; i++) if (text.charCodeAt(i) < 0x80) ascii++
    return !NEVER_IN_TEXT.test(text)
  }
  try {
    for await (const chunk of chunks) {
      if (!check(decoder.decode(chunk, { stream: true }))) return { valid: false, asciiShare: 0 }
    }
    return { valid: check(decoder.decode()), asciiShare: ascii / Math.max(1, characters) }
  } catch {
    return { valid: false, asciiShare: 0 }
  }
}

const isAsciiLetter = (byte: number): boolean => (byte | 0x20) >= 0x61 && (byte | 0x20) <= 0x7a
/** À to ÿ except × and ÷, and Š Œ Ž š œ ž Ÿ. */
const isWesternLetter = (byte: number): boolean =>
  (byte >= 0xc0 && byte !== 0xd7 && byte !== 0xf7) ||
  [0x8a, 0x8c, 0x8e, 0x9a, 0x9c, 0x9e, 0x9f].includes(byte)

/** Whether the text is in Windows-1252 and not in another encoding with one byte per character. */
async function isWestern(chunks: AsyncIterable<Uint8Array>): Promise<boolean> {
  let asciiLetters = 0
  let letters = 0
  let high = 0
  let inUtf8 = 0
  let symbolsInWords = 0
  for await (const bytes of chunks) {
    for (let at = 0; at < bytes.length; at++) {
      const byte = bytes[at] as number
      if (byte < 0x20 && byte !== 0x09 && byte !== 0x0a && byte !== 0x0c && byte !== 0x0d) return false
      if (isAsciiLetter(byte)) asciiLetters++
      if (byte < 0x80) continue
      if (UNASSIGNED_1252.has(byte)) return false
      high++
      if (isWesternLetter(byte)) letters++
      else if (isAsciiLetter(bytes[at - 1] ?? 0) && isAsciiLetter(bytes[at + 1] ?? 0) && byte >= 0xa1)
        symbolsInWords++
      if (byte >= 0xc2 && utf8Length(bytes, at) > 0) inUtf8 += utf8Length(bytes, at)
    }
  }
  return (
    letters <= MAX_WESTERN_SHARE * (letters + asciiLetters) &&
    high - letters <= MAX_WESTERN_SHARE * asciiLetters &&
    symbolsInWords <= MAX_SYMBOL_SHARE * high &&
    inUtf8 <= MAX_UTF8_SHARE * high
  )
}
