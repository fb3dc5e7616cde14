/**
 * How wide a text is at most in the fonts that systems use for menus, which a picture cannot choose. The widths are those
 * of DejaVu Sans and Verdana, the widest of these fonts. Does not know what is drawn.
 */
import { displayWidth } from './terminal.ts'

/** Advance widths of characters in units of the font size. */
const NARROW = 0.47
const SMALL = 0.65
const CAPITAL = 0.85
const BROAD = 1.1
/** Letters of other scripts, some of which join to a broad one. */
const OTHER = 1.23
/** Half of an East Asian letter, which takes two columns of a terminal. */
const COLUMN = 0.55
const BOLD = 1.13
const NARROW_CHARACTERS = /[iIjlrtf.,:;|!'’ ()[\]/\\-]/
const BROAD_CHARACTERS = /[mwMW@%—…ÆæŒœŴŵĦħŉ]/
const SMALL_CHARACTERS = /(?=\p{Script=Latin})\p{Ll}|[0-9]/u
const CAPITAL_CHARACTERS = /[\x21-\x7e]|(?=\p{Script=Latin})\p{Lu}/u

/** Pixels. @param size of the font, in pixels */
export function textWidth(text: string, size: number, isBold = false): number {
  let width = 0
  for (const character of text) width += widthOf(character)
  return width * size * (isBold ? BOLD : 1)
}

function widthOf(character: string): number {
  const columns = displayWidth(character)
  if (columns === 2) return COLUMN * columns
  if (NARROW_CHARACTERS.test(character)) return NARROW
  if (BROAD_CHARACTERS.test(character)) return BROAD
  if (SMALL_CHARACTERS.test(character)) return SMALL
  return CAPITAL_CHARACTERS.test(character) ? CAPITAL : OTHER
}

/**
 * Break a text into lines that are at most `maxWidth` pixels wide, after a space, slash or hyphen where possible.
 * Nothing is left out.
 */
export function linesOfText(text: string, size: number, maxWidth: number): string[] {
  const lines: string[] = []
  let line = ''
  for (const part of text.split(/(?<=[ /-])/)) {
    for (const piece of textWidth(part, size) > maxWidth ? [...part] : [part]) {
      if (line !== '' && textWidth(line + piece, size) > maxWidth) {
        lines.push(line)
        line = ''
      }
      line += piece
    }
  }
  return [...lines, line]
}
