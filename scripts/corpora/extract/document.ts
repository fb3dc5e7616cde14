/** The documents that extractors return, and the cleaning of all texts. Knows nothing about sources. */
import { createHash } from 'node:crypto'

export interface RawDocument {
  /** Unique within its source; determines the document's split. */
  readonly id: string
  readonly text: string
}

/** Reads unpacked packages; `folder` returns the root of a package of its source by name. */
export type Extractor = (
  folder: (packageName: string) => string,
) => Iterable<RawDocument> | AsyncIterable<RawDocument>

/** Minimum length of a text; shorter ones are headings and fragments. */
export const MIN_CHARACTERS = 60

// biome-ignore lint/suspicious/noControlCharactersInRegex: these are the characters to remove.
const INVISIBLE = /[\u0000-\u0008\u000b-\u001f\u007f\u00ad\u200b\ufeff]/g

/** Normalizes to NFC and \n line ends; removes control characters, trailing spaces and repeated blank lines. */
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

/** Cleans documents and drops those whose letters and digits equal an earlier document's, ignoring case. */
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
