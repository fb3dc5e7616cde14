/** What an extractor gives, and the cleaning that all texts get. Knows no source. */
import { createHash } from 'node:crypto'

export interface RawDocument {
  /** Unique within its source; decides into which split the document falls. */
  readonly id: string
  readonly text: string
}

/** Reads unpacked packages; `folder` gives the root of each package of its source by name. */
export type Extractor = (
  folder: (packageName: string) => string,
) => Iterable<RawDocument> | AsyncIterable<RawDocument>

/** Shorter texts are headings and leftovers. */
export const MIN_CHARACTERS = 60

// biome-ignore lint/suspicious/noControlCharactersInRegex: these are the characters to remove.
const INVISIBLE = /[\u0000-\u0008\u000b-\u001f\u007f\u00ad\u200b\ufeff]/g

/** NFC, \n line ends, no control characters, no trailing spaces, at most one blank line in a row. */
export function cleanText(text: string): string {
  return text
    .normalize('NFC')
    .replace(/\r\n?/g, '\n')
    .replace(INVISIBLE, '')
    .replaceAll('\u00a0', ' ')
    .replace(/[ \t]+$/gm, '')
    .replace(/\n{3,}/g, '\n\n')
    .trim()
}

export interface CleanDocuments {
  readonly documents: readonly RawDocument[]
  readonly tooShort: number
  readonly duplicates: number
}

/** Cleaned documents, without those that equal an earlier one in letters and digits, whatever their case. */
export async function cleanDocuments(
  raw: Iterable<RawDocument> | AsyncIterable<RawDocument>,
): Promise<CleanDocuments> {
  const seen = new Set<string>()
  const documents: RawDocument[] = []
  let tooShort = 0
  let duplicates = 0
  for await (const { id, text } of raw) {
    const cleaned = cleanText(text)
    const key = createHash('sha1')
      .update(
        cleaned
          .toLowerCase()
          .replace(/[^\p{L}\p{N}]+/gu, ' ')
          .trim(),
      )
      .digest('base64')
    if (cleaned.length < MIN_CHARACTERS) tooShort++
    else if (seen.has(key)) duplicates++
    else {
      seen.add(key)
      documents.push({ id, text: cleaned })
    }
  }
  return { documents, tooShort, duplicates }
}
