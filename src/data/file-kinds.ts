/**
 * Decides from the name of a file or folder whether it holds text of an owner, and in which format. Does not open
 * files.
 */
import { extname } from 'node:path'

export type TextFormat = 'plain' | 'json-lines' | 'csv' | 'parquet'

export interface TextKind {
  /** The extension in lower case, as in `.csv.gz`. */
  readonly extension: string
  readonly format: TextFormat
  readonly compressed: boolean
}

const FORMATS: Readonly<Record<string, TextFormat>> = {
  '.txt': 'plain',
  '.md': 'plain',
  '.jsonl': 'json-lines',
  '.ndjson': 'json-lines',
  '.csv': 'csv',
  '.tsv': 'csv',
  '.parquet': 'parquet',
}

/** The kinds that are read, for messages and help texts. */
export const TEXT_KINDS = `${Object.keys(FORMATS).join(', ')}; all but .parquet also with .gz`

/** The kind of a file that can be read; letter case does not matter. */
export function textKind(name: string): TextKind | undefined {
  const extension = extensionOf(name)
  const compressed = extension.endsWith('.gz')
  const format = FORMATS[compressed ? extension.slice(0, -'.gz'.length) : extension]
  if (format === undefined || (compressed && format === 'parquet')) return undefined
  return { extension, format, compressed }
}

/** The extension in lower case, together with the one before `.gz`; empty for a name without extension. */
export function extensionOf(name: string): string {
  const lower = name.toLowerCase()
  const last = extname(lower)
  return last === '.gz' ? extname(lower.slice(0, -last.length)) + last : last
}

/** Names that operating systems and servers create beside an owner's files, in lower case. */
const SYSTEM_NAMES = new Set([
  '__macosx',
  'thumbs.db',
  'ehthumbs.db',
  'desktop.ini',
  '$recycle.bin',
  'recycler',
  '#recycle',
  'system volume information',
  'lost+found',
  '@eadir',
])

/**
 * Why files and folders of this name below a folder are passed over: names that begin with a dot, as Hugging Face
 * datasets does, and files of operating systems and of open documents (`~$`). Undefined for all other names.
 */
export function whyPassedOver(name: string): 'hidden' | 'system' | undefined {
  if (name.startsWith('.')) return 'hidden'
  return name.startsWith('~$') || SYSTEM_NAMES.has(name.toLowerCase()) ? 'system' : undefined
}
