/**
 * Recognises files that have the name of a text file but another format, by their first bytes, to say what they are.
 * Knows nothing about encodings of text.
 */
import { InputError } from '../lib/errors.ts'

/** Bytes that `refuseOtherFormat` needs from the start of a file. */
export const SIGNATURE_BYTES = 64

/** Start of the file as Latin-1, what it is, and what to do. */
const SIGNATURES: readonly (readonly [start: string, format: string, advice: string])[] = [
  ['PK\x03\x04', 'a ZIP archive, as .xlsx and .docx files are', 'export its text, for a workbook as CSV'],
  ['\xd0\xcf\x11\xe0', 'a document of Microsoft Office', 'export its text, for a workbook as CSV'],
  ['%PDF-', 'a PDF document', 'extract its text, for example with pdftotext'],
  ['{\\rtf', 'an RTF document', 'save it as plain text'],
  ['\x1f\x8b', 'a gzip archive', 'add .gz to its name'],
  ['BZh', 'a bzip2 archive', 'decompress it'],
  ['\xfd7zXZ', 'an xz archive', 'decompress it'],
  ['\x28\xb5\x2f\xfd', 'a Zstandard archive', 'decompress it'],
  ['7z\xbc\xaf', 'a 7z archive', 'decompress it'],
  ['PAR1', 'a Parquet file', 'rename it to .parquet'],
  ['SQLite format 3', 'an SQLite database', 'export its text as CSV'],
  ['version https://git-lfs.github.com/spec/', 'a pointer of Git LFS', 'fetch the file with "git lfs pull"'],
]

/** @throws InputError `not-text` if `start`, the first bytes of the file, are those of another format. */
export function refuseOtherFormat(path: string, start: Uint8Array): void {
  const text = Buffer.from(start.subarray(0, SIGNATURE_BYTES)).toString('latin1')
  for (const [signature, format, advice] of SIGNATURES) {
    if (!text.startsWith(signature)) continue
    throw new InputError('not-text', `${path} is ${format}, not text: ${advice}, or leave it out of --data`)
  }
}
