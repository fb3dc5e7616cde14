/** Makes text that others wrote safe to print on a terminal. Does not know where it is printed. */

/** Control and format characters, lone surrogates, and separators of lines and paragraphs. */
const UNPRINTABLE = /[\p{Cc}\p{Cf}\p{Cs}\p{Zl}\p{Zp}]/gu

/** Replaces each unprintable character by its code point in hexadecimal, except for those in `kept`. */
export function escapeUnprintable(text: string, kept = ''): string {
  return text.replaceAll(UNPRINTABLE, (character) =>
    kept.includes(character) ? character : `\\u{${character.codePointAt(0)?.toString(16)}}`,
  )
}
