/**
 * Recognises Windows-1252 (which includes the printable characters of Latin-1) among encodings with one byte per
 * character, and lines of UTF-8 among lines of another encoding, from counts of bytes. Does not decode text.
 */
import { unfinished, utf8Length } from './utf8.ts'

/** Maximum share of non-ASCII letters among the letters of a Western European text; French has about 5 %. */
const MAX_WESTERN_SHARE = 0.2
/** Maximum share of symbols such as ± and ³ between two letters: in other encodings these bytes are letters. */
const MAX_SYMBOL_SHARE = 0.05
/** Maximum share of bytes above 127 that belong to complete UTF-8 characters: above it, the file is damaged UTF-8. */
const MAX_UTF8_SHARE = 0.1
/** Number of UTF-8 characters outside the Latin alphabet with which a line counts as UTF-8. */
const MIN_OTHER_CHARACTERS = 3
/** Minimum number of letters above 127 for conclusions from their shares. */
const MIN_LETTERS = 8
/** Maximum share of š and ž, or of ý, among them: Finnish, Estonian and Icelandic have less than a tenth. */
const MAX_OTHER_SHARE = 0.25
/** Minimum share of ì and of ø among them in Czech that was read as Windows-1252; Italian and Danish have only one. */
const MIN_CZECH_SHARE = 0.03
/** Bytes that Windows-1252 does not assign. */
const UNASSIGNED_1252 = new Set([0x81, 0x8d, 0x8f, 0x90, 0x9d])
/** Š Œ Ž š œ ž Ÿ in Windows-1252, and the marks that occur between letters: … ’ – — and the other apostrophe. */
const LETTERS_BELOW_A0 = new Set([0x8a, 0x8c, 0x8e, 0x9a, 0x9c, 0x9e, 0x9f])
const MARKS_IN_WORDS = new Set([0x85, 0x91, 0x92, 0x96, 0x97, 0xa0, 0xad])

/** Counts of a file that is not UTF-8. */
export interface ByteSurvey {
  /** Bytes that no text in Windows-1252 has: control characters and unassigned ones. */
  foreign: number
  asciiLetters: number
  /** Bytes above 127, those of them that are letters, and those that belong to complete UTF-8 characters. */
  high: number
  letters: number
  inUtf8: number
  /** Symbols between two ASCII letters. */
  symbolsInWords: number
  /** Number of each byte. */
  readonly bytes: Uint32Array
  /** Number of the first line whose bytes above 127 are all UTF-8, and of the first with others; 0 if none. */
  utf8Line: number
  otherLine: number
  /** Number of the line with the first byte that is not UTF-8. */
  invalidLine: number
}

/** @param invalidOffset of the first byte that is not UTF-8. */
export async function surveyBytes(
  chunks: AsyncIterable<Uint8Array>,
  invalidOffset: number,
): Promise<ByteSurvey> {
  const counter = new SurveyCounter(invalidOffset)
  let carry: Uint8Array = new Uint8Array()
  for await (const chunk of chunks) {
    const bytes = Buffer.concat([carry, chunk])
    const end = bytes.length - unfinished(bytes)
    counter.add(bytes, end)
    carry = bytes.subarray(end)
  }
  counter.add(carry, carry.length)
  return counter.finish()
}

class SurveyCounter {
  readonly #invalidOffset: number
  readonly #survey: ByteSurvey = {
    foreign: 0,
    asciiLetters: 0,
    high: 0,
    letters: 0,
    inUtf8: 0,
    symbolsInWords: 0,
    bytes: new Uint32Array(256),
    utf8Line: 0,
    otherLine: 0,
    invalidLine: 0,
  }
  #offset = 0
  #line = 1
  #previous = 0
  /** Counts of the line: bytes above 127, those in UTF-8 characters, and UTF-8 characters of other alphabets. */
  #high = 0
  #inUtf8 = 0
  #others = 0
  /** Bytes of the current UTF-8 character that follow. */
  #following = 0

  constructor(invalidOffset: number) {
    this.#invalidOffset = invalidOffset
  }

  /** Count the first `end` bytes; the others only complete characters and words. */
  add(bytes: Uint8Array, end: number): void {
    const survey = this.#survey
    for (let at = 0; at < end; at++) {
      const byte = bytes[at] as number
      if (this.#offset + at === this.#invalidOffset) survey.invalidLine = this.#line
      if (byte < 0x80) this.#ascii(byte)
      else this.#above(bytes, at, byte)
      this.#previous = byte
    }
    this.#offset += end
  }

  finish(): ByteSurvey {
    this.#endLine()
    return this.#survey
  }

  #ascii(byte: number): void {
    if (isAsciiLetter(byte)) this.#survey.asciiLetters++
    else if (byte === 0x0a) {
      if (this.#previous !== 0x0d) this.#endLine()
    } else if (byte === 0x0d) this.#endLine()
    else if (byte < 0x20 && byte !== 0x09 && byte !== 0x0c) this.#survey.foreign++
  }

  #above(bytes: Uint8Array, at: number, byte: number): void {
    const survey = this.#survey
    survey.high++
    survey.bytes[byte] = (survey.bytes[byte] as number) + 1
    this.#high++
    if (UNASSIGNED_1252.has(byte)) survey.foreign++
    else if (isWesternLetter(byte)) survey.letters++
    else if (
      !MARKS_IN_WORDS.has(byte) &&
      isAsciiLetter(this.#previous) &&
      isAsciiLetter(bytes[at + 1] ?? 0)
    ) {
      survey.symbolsInWords++
    }
    if (this.#following > 0) {
      this.#following--
      return
    }
    const length = byte >= 0xc2 ? utf8Length(bytes, at) : 0
    if (length === 0) return
    this.#following = length - 1
    survey.inUtf8 += length
    this.#inUtf8 += length
    if (!isLatinCharacter(byte, bytes[at + 1] as number)) this.#others++
  }

  #endLine(): void {
    if (this.#high > 0) {
      // Two bytes of Windows-1252 can look like one character of another alphabet, as the end of »CAFÉ« does.
      const isUtf8 =
        this.#inUtf8 === this.#high && (this.#others === 0 || this.#others >= MIN_OTHER_CHARACTERS)
      if (isUtf8) this.#survey.utf8Line ||= this.#line
      else if (this.#inUtf8 < this.#high) this.#survey.otherLine ||= this.#line
    }
    this.#line++
    this.#high = 0
    this.#inUtf8 = 0
    this.#others = 0
    this.#following = 0
  }
}

/** Whether the file is in Windows-1252 and not in another encoding with one byte per character. */
export function isWestern(survey: ByteSurvey): boolean {
  const { foreign, asciiLetters, letters, high, symbolsInWords, inUtf8 } = survey
  return (
    foreign === 0 &&
    !hasLettersOfOthers(survey) &&
    letters <= MAX_WESTERN_SHARE * (letters + asciiLetters) &&
    high - letters <= MAX_WESTERN_SHARE * asciiLetters &&
    symbolsInWords <= MAX_SYMBOL_SHARE * high &&
    inUtf8 <= MAX_UTF8_SHARE * high
  )
}

/**
 * Whether the letters above 127 have shares that no Western language has, but neighbours whose encodings differ in few
 * letters: š and ž (Slovene and Croatian in Windows-1250; ä, ö and ü of old Macintosh computers), ý (ı of Turkish in
 * Windows-1254), and ì together with ø (ě and ř of Czech in Windows-1250).
 */
function hasLettersOfOthers({ bytes, letters }: ByteSurvey): boolean {
  const share = (...codes: number[]): number =>
    codes.reduce((sum, code) => sum + (bytes[code] as number), 0) / Math.max(1, letters)
  const enough = letters >= MIN_LETTERS
  return (
    enough &&
    (share(0x8a, 0x8e, 0x9a, 0x9e, 0x9f) > MAX_OTHER_SHARE ||
      share(0xfd, 0xdd) > MAX_OTHER_SHARE ||
      (share(0xec) > MIN_CZECH_SHARE && share(0xf8) > MIN_CZECH_SHARE))
  )
}

/** The first line in UTF-8 and the first in another encoding, if the file has both. */
export function mixedLines({
  utf8Line,
  otherLine,
}: ByteSurvey): { utf8Line: number; otherLine: number } | undefined {
  return utf8Line > 0 && otherLine > 0 ? { utf8Line, otherLine } : undefined
}

const isAsciiLetter = (byte: number): boolean => (byte | 0x20) >= 0x61 && (byte | 0x20) <= 0x7a

/** À to ÿ except × and ÷, and the letters below 0xA0. */
const isWesternLetter = (byte: number): boolean =>
  (byte >= 0xc0 && byte !== 0xd7 && byte !== 0xf7) || LETTERS_BELOW_A0.has(byte)

/** U+00A0 to U+00FF, and the punctuation and symbols from U+2000 to U+2FFF: in Windows-1252, â, Â or Ã and a symbol. */
const isLatinCharacter = (first: number, second: number): boolean =>
  first === 0xc3 || (first === 0xc2 && second >= 0xa0) || first === 0xe2
