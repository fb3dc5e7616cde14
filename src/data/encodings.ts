/**
 * Recognises the encoding of a text file. Valid UTF-8 and UTF-16 with a byte order mark are certain. UTF-16 without a
 * mark and Windows-1252 (which includes the printable characters of Latin-1) are recognised by rules that other
 * encodings, mixtures of encodings and binary files do not pass. Anything else is refused. Knows nothing about kinds of files.
 */
import { isUtf8 } from 'node:buffer'
import { InputError } from '../lib/errors.ts'
import { unfinished, utf8Length } from './utf8.ts'
import { isWestern, mixedLines, surveyBytes } from './western.ts'

/** Names that TextDecoder accepts. */
export type Encoding = 'utf-8' | 'utf-16le' | 'utf-16be' | 'windows-1252'

/** Minimum share of ASCII characters (spaces, digits, line ends) in UTF-16 without a mark. */
const MIN_ASCII_SHARE = 0.02
/**
 * UTF-16 code units in a row whose two bytes are both printable ASCII, and different ones among them: so many are text
 * of one byte per character within a UTF-16 file. In Chinese, a third of the characters are such units.
 */
const MAX_PACKED_UNITS = 24
const MIN_PACKED_VARIETY = 8
const NEVER_IN_TEXT = /[^\P{Cc}\t\n\v\f\r]|\p{Co}|\p{Cn}/u

/**
 * @param chunks opens the file; called up to three times.
 * @throws InputError `not-text` with the offset of the first byte that fits no encoding.
 */
export async function encodingOf(path: string, chunks: () => AsyncIterable<Uint8Array>): Promise<Encoding> {
  const { start, invalid, nul, shift } = await firstFaults(chunks())
  if (start.length >= 4 && (startsWith(start, 0xff, 0xfe, 0, 0) || startsWith(start, 0, 0, 0xfe, 0xff))) {
    throw notText(path, 'it is UTF-32', 'UTF-32')
  }
  const marked = startsWith(start, 0xff, 0xfe)
    ? 'utf-16le'
    : startsWith(start, 0xfe, 0xff)
      ? 'utf-16be'
      : undefined
  if (marked !== undefined) {
    const { valid, packedAt } = await decodes(marked, chunks())
    if (packedAt !== undefined) {
      throw new InputError(
        'not-text',
        `${path} mixes encodings: it begins in UTF-16, but from about byte ${packedAt} on it has one byte per character; put each part into a file of its own, or leave it out of --data`,
      )
    }
    if (!valid) throw notText(path, 'it is UTF-16 with half a character in it or at its end', 'UTF-16')
    return marked
  }
  if (nul !== undefined) {
    for (const encoding of ['utf-16le', 'utf-16be'] as const) {
      const { valid, asciiShare } = await decodes(encoding, chunks())
      if (valid && asciiShare >= MIN_ASCII_SHARE) return encoding
    }
    throw notText(path, `a zero byte at offset ${nul}`)
  }
  if (shift !== undefined)
    throw notText(path, `an escape sequence of ISO-2022 at offset ${shift}`, 'ISO-2022-JP')
  if (invalid === undefined) return 'utf-8'
  const survey = await surveyBytes(chunks(), invalid.offset)
  const byte = `byte 0x${invalid.byte.toString(16).toUpperCase()} at offset ${invalid.offset} (line ${survey.invalidLine})`
  const mixed = mixedLines(survey)
  if (mixed !== undefined) {
    throw new InputError(
      'not-text',
      `${path} is damaged or mixes encodings: line ${mixed.utf8Line} is in UTF-8, but line ${mixed.otherLine} is not (the first byte that is not: ${byte}); put the documents of each encoding into a file of their own and convert them with "iconv -f ENCODING -t UTF-8 FILE > NEW", or leave the file out of --data`,
    )
  }
  if (isWestern(survey)) return 'windows-1252'
  throw notText(path, `${byte} is not valid UTF-8`)
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
  readonly shift?: number
}

/**
 * The first four bytes, the first byte that is not UTF-8, and the offsets of the first zero byte and of the first
 * escape sequence that selects a character set of two bytes (ISO 2022; JIS text is ASCII otherwise).
 */
async function firstFaults(chunks: AsyncIterable<Uint8Array>): Promise<Faults> {
  const faults: { -readonly [K in keyof Faults]: Faults[K] } = { start: new Uint8Array() }
  let carry: Uint8Array = new Uint8Array()
  let offset = 0
  for await (const chunk of chunks) {
    const bytes = Buffer.concat([carry, chunk])
    if (offset === 0 && faults.start.length < 4) faults.start = bytes.subarray(0, 4)
    const nul = bytes.indexOf(0)
    if (nul >= 0) faults.nul ??= offset + nul
    const shift = bytes.indexOf('\u001b$')
    if (shift >= 0) faults.shift ??= offset + shift
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

/**
 * Whether the bytes are text in UTF-16, the share of ASCII characters, and the approximate offset of text of one byte
 * per character among it.
 */
async function decodes(
  encoding: 'utf-16le' | 'utf-16be',
  chunks: AsyncIterable<Uint8Array>,
): Promise<{ valid: boolean; asciiShare: number; packedAt?: number }> {
  const decoder = new TextDecoder(encoding, { fatal: true })
  let characters = 0
  let ascii = 0
  let packedAt: number | undefined
  let packed: number[] = []
  const isText = (text: string): boolean => {
    for (let i = 0; i < text.length; i++) {
      const unit = text.charCodeAt(i)
      if (unit < 0x80) ascii++
      if (!isPrintableAscii(unit >> 8) || !isPrintableAscii(unit & 255)) packed = []
      else if (packed.push(unit) === MAX_PACKED_UNITS) {
        if (new Set(packed).size >= MIN_PACKED_VARIETY) packedAt ??= 2 * (characters + i - MAX_PACKED_UNITS)
        packed = []
      }
    }
    characters += text.length
    return packedAt === undefined && !NEVER_IN_TEXT.test(text)
  }
  const isTextInChunks = async (): Promise<boolean> => {
    for await (const chunk of chunks) if (!isText(decoder.decode(chunk, { stream: true }))) return false
    return isText(decoder.decode())
  }
  const valid = await isTextInChunks().catch((error: unknown) => {
    if (error instanceof TypeError) return false
    throw error
  })
  return {
    valid,
    asciiShare: ascii / Math.max(1, characters),
    ...(packedAt === undefined ? {} : { packedAt }),
  }
}

const isPrintableAscii = (byte: number): boolean =>
  (byte >= 0x20 && byte < 0x7f) || byte === 0x09 || byte === 0x0a || byte === 0x0d
