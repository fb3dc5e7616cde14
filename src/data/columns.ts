/** Chooses the column of a table, or the member of JSON objects, that holds the text. Does not read files. */
import { InputError } from '../lib/errors.ts'

/** The column that is read unless the owner names another one. */
export const TEXT_COLUMN = 'text'
/** The column that says whom a text is from or about, such as a patient or an author. */
export const SOURCE_COLUMN = 'source'

/** A row of a table. */
export interface Row {
  /** Undefined if the row has no text. */
  readonly text: string | undefined
  /** Value of the column `source`; undefined if the row has none. */
  readonly source: string | undefined
}

const MAX_LISTED = 12
const MAX_LISTED_CHARACTERS = 60
/** A name without white space or punctuation that could separate columns. */
const PLAIN_NAME = /^[\p{L}\p{M}\p{N}_.-]{1,64}$/u

/**
 * Index of the column with the text: the one that is called `wanted`, or else `text`. A table with a single column is
 * read whatever its name, unless that name looks like text or like several names.
 * @param advice what else to do if there is no such column.
 * @throws InputError `usage`, naming the columns.
 */
export function textColumn(
  title: string,
  columns: readonly string[],
  wanted: string | undefined,
  advice = '',
): number {
  const name = wanted ?? TEXT_COLUMN
  const index = columns.indexOf(name)
  if (index >= 0) {
    if (columns.lastIndexOf(name) === index) return index
    throw new InputError('usage', `${title}: two columns are called ${quoted(name)}; rename one of them`)
  }
  if (wanted === undefined && columns.length === 1 && PLAIN_NAME.test(columns[0] as string)) return 0
  throw missingColumn(title, columns, wanted, advice)
}

/** @param columns of the table, or members of the object. @param advice what else to do. */
export function missingColumn(
  title: string,
  columns: readonly string[],
  wanted: string | undefined,
  advice = '',
): InputError {
  const found =
    columns.length === 1 ? `its only column is ${listed(columns)}` : `its columns are ${listed(columns)}`
  return new InputError(
    'usage',
    `${title} has no column ${quoted(wanted ?? TEXT_COLUMN)}; ${found}; choose the one that holds the text with --column NAME${advice}`,
  )
}

function listed(columns: readonly string[]): string {
  const shown = columns.slice(0, MAX_LISTED).map(quoted)
  const more = columns.length - shown.length
  return more > 0 ? `${shown.join(', ')} and ${more} more` : shown.join(', ')
}

function quoted(name: string): string {
  return JSON.stringify(
    name.length <= MAX_LISTED_CHARACTERS ? name : `${name.slice(0, MAX_LISTED_CHARACTERS - 1)}…`,
  )
}
