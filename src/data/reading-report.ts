/**
 * Counts and names what was read from an owner's files and what was left out, in bounded memory. Does not read files.
 */
import { Fields } from '../lib/fields.ts'

/** A number of files, folders, rows or documents with the first names. */
export interface Tally {
  readonly what: string
  readonly count: number
  /** Up to three names, relative to the parent folder of the --data path. */
  readonly first: readonly string[]
}

export interface ReadingReport {
  /** Files that were read, by extension. */
  readonly read: readonly Tally[]
  /** Tables, by the column that was read. */
  readonly columns: readonly Tally[]
  /** Symbolic links that were followed. */
  readonly links: readonly Tally[]
  /** Files and folders that were not read, by a word of `SKIPPED` or by extension. */
  readonly skipped: readonly Tally[]
  /** Rows and whole files that hold no text: null, empty or blank. */
  readonly withoutText: readonly Tally[]
  /** Documents that were left out, by `DocumentReason` (see `CorpusSplit`). */
  readonly documents: readonly Tally[]
  /** Documents that were read but look damaged, by `Damage`. */
  readonly damaged: readonly Tally[]
}

type List = keyof ReadingReport
const LISTS: readonly List[] = ['read', 'columns', 'links', 'skipped', 'withoutText', 'documents', 'damaged']

/** Why a file or folder was not read, apart from its extension. */
export type SkipReason =
  | 'hidden'
  | 'system'
  | 'again'
  | 'link-above'
  | 'broken-link'
  | 'not-regular'
  | 'not-utf8-name'
  | 'no-extension'

const SKIPPED: Readonly<Record<SkipReason, string>> = {
  hidden: 'with a name that begins with a dot',
  system: 'of the operating system or of an open document',
  again: 'read already, reached again by a symbolic link or another --data path',
  'link-above': 'symbolic links to a folder above the --data path',
  'broken-link': 'symbolic links without a target',
  'not-regular': 'neither files nor folders',
  'not-utf8-name': 'with a name that is not UTF-8',
  'no-extension': 'without an extension',
}

/** Why a document is neither trained on nor scored. */
export type DocumentReason = 'duplicate' | 'repeated' | 'unsampled'

const DOCUMENTS: Readonly<Record<DocumentReason, string>> = {
  duplicate: 'equal to an earlier one',
  repeated: 'neither trained on nor scored because they repeat the training text',
  unsampled: 'not needed for so few steps',
}

/** Signs that an earlier conversion has lost characters, or decoded UTF-8 as Windows-1252. */
export type Damage = 'lost-characters' | 'wrong-characters'

const DAMAGED: Readonly<Record<Damage, string>> = {
  'lost-characters': 'with U+FFFD, which stands for characters that an earlier conversion lost',
  'wrong-characters': 'with signs such as "Ã¤", which an earlier conversion in the wrong encoding leaves',
}

/** Maximum number of different values of `what` in one list; further ones are counted together. */
const MAX_TALLIES = 32
const OTHER = 'other'
const MAX_NAMES = 3
/** Characters of a name; a longer one keeps its end. */
const MAX_NAME = 200

/** Collects a report. */
export class ReadingLog {
  readonly #lists = new Map<string, Map<string, { count: number; first: string[] }>>(
    LISTS.map((list) => [list, new Map()]),
  )

  /** @param name of the file, folder or link concerned; only its first mention under `what` is kept. */
  add(list: List, what: string, name: string): void {
    const tallies = this.#lists.get(list) as Map<string, { count: number; first: string[] }>
    const clipped = clip(what)
    const key = tallies.has(clipped) || tallies.size < MAX_TALLIES ? clipped : OTHER
    const tally = tallies.get(key) ?? { count: 0, first: [] }
    tallies.set(key, tally)
    tally.count++
    const short = clip(name)
    if (tally.first.length < MAX_NAMES && !tally.first.includes(short)) tally.first.push(short)
  }

  report(): ReadingReport {
    const tallies = (list: List): Tally[] =>
      [...(this.#lists.get(list) ?? [])].map(([what, tally]) => ({ what, ...tally, first: [...tally.first] }))
    return {
      read: tallies('read'),
      columns: tallies('columns'),
      links: tallies('links'),
      skipped: tallies('skipped'),
      withoutText: tallies('withoutText'),
      documents: tallies('documents'),
      damaged: tallies('damaged'),
    }
  }
}

/** The report as lines for people. */
export function readingLines(report: ReadingReport): string[] {
  const lines: string[] = []
  const line = (start: string, parts: readonly string[]): void => {
    if (parts.length > 0) lines.push(`${start}: ${parts.join('; ')}`)
  }
  line('read', [
    ...report.read.map(({ what, count, first }) => `${count} ${what} (${names(count, first)})`),
    ...report.columns.map(({ what, count, first }) => `column "${what}" of ${names(count, first)}`),
    ...report.links.map(({ count, first }) => `${count} through symbolic links (${names(count, first)})`),
  ])
  line('not read', skippedParts(report))
  line('left out', [
    ...report.withoutText.map(
      ({ what, count, first }) => `${counted(count, what)} without text (${names(count, first)})`,
    ),
    ...report.documents.map(
      ({ what, count, first }) =>
        `${counted(count, 'documents')} ${DOCUMENTS[what as DocumentReason] ?? what} (${names(count, first)})`,
    ),
  ])
  line('look at', [
    ...report.damaged.map(
      ({ what, count, first }) =>
        `${counted(count, 'documents')} ${DAMAGED[what as Damage] ?? what} (${names(count, first)})`,
    ),
  ])
  return lines
}

/** What was not read and why, one part for each reason. */
export function skippedParts({ skipped }: ReadingReport): string[] {
  return skipped.map(({ what, count, first }) => {
    const words = Object.hasOwn(SKIPPED, what)
      ? SKIPPED[what as SkipReason]
      : what === OTHER
        ? 'of further kinds that cannot be read'
        : `${what}, a kind that cannot be read`
    return `${count} ${words} (${names(count, first)})`
  })
}

/** A number with a noun in the plural, without its "s" for one. */
export function counted(count: number, plural: string): string {
  return `${count} ${count === 1 ? plural.replace(/s$/, '') : plural}`
}

/** @param count of rows or documents, of which one file may have several. */
function names(count: number, first: readonly string[]): string {
  const isComplete = first.length < MAX_NAMES || count === MAX_NAMES
  return isComplete ? first.join(', ') : `${first.join(', ')}, …`
}

/** The end of a name that is too long. */
function clip(name: string): string {
  return name.length <= MAX_NAME ? name : `…${name.slice(1 - MAX_NAME)}`
}

/** Reads a report that was stored. @throws FormatError `bad-field`. */
export function readReport(fields: Fields): ReadingReport {
  const tallies = (list: List): Tally[] =>
    fields.list(list, MAX_TALLIES + 1, (item, title) => {
      const tally = new Fields(item, title)
      return {
        what: tally.text('what', MAX_NAME),
        count: tally.uint('count'),
        first: tally.list('first', MAX_NAMES, (name) => String(name).slice(0, MAX_NAME)),
      }
    })
  const [read = [], columns = [], links = [], skipped = [], withoutText = [], documents = [], damaged = []] =
    LISTS.map(tallies)
  return { read, columns, links, skipped, withoutText, documents, damaged }
}
