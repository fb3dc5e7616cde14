/**
 * Recognises a quoted cell that swallowed the following rows, because a quote that is not closed met a later one. Knows
 * no files.
 */
import type { CsvRow } from './csv-parser.ts'

/**
 * The cell with the text spans several lines. If it holds several rows, each of these lines has the cells of a row, and
 * the cells beside the text have the form of those of the row itself: digits where it has digits, letters where it has
 * letters. Prose does not have this form in every line.
 * @param index of the column with the text.
 * @returns the number of the first line that looks like the beginning of another row; undefined if not all lines do.
 */
export function mergedRows({ cells, line }: CsvRow, index: number, separator: string): number | undefined {
  const lines = (cells[index] as string).split(/\r\n|[\r\n]/)
  if (lines.length < 2 || cells.length < 2) return undefined
  const forms = cells.map(formOf)
  let hasDigits = false
  const fits = (parts: readonly string[], column: number): boolean =>
    parts.every((part, i) => {
      const form = formOf(part)
      if (form.includes('0')) hasDigits = true
      return form === forms[column + i]
    })
  const isRow = (text: string, i: number): boolean => {
    const parts = text.split(separator)
    // The first line begins with the text, the last one ends with it: they lack the cells before and after it.
    const before = i === 0 ? 0 : index
    const after = i === lines.length - 1 ? 0 : cells.length - 1 - index
    if (parts.length !== before + 1 + after) return false
    return fits(parts.slice(0, before), index - before) && fits(parts.slice(before + 1), index + 1)
  }
  return lines.every(isRow) && hasDigits ? line + 1 : undefined
}

/** The form of a cell: 0 for every run of digits, a for every run of letters, other characters as they are. */
function formOf(cell: string): string {
  return cell
    .trim()
    .replaceAll(/\p{N}+/gu, '0')
    .replaceAll(/[\p{L}\p{M}]+/gu, 'a')
}
