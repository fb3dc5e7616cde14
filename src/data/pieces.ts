/**
 * Cuts long texts into pieces of bounded size, preferably after a blank line, else after a line, else after a space.
 * The concatenated pieces are the text. Knows nothing about files and tokens.
 */

/** Maximum length of a document that stays whole. */
const WHOLE_CHARACTERS = 32_768
/** Maximum length of a piece: several fit into the held-out text that is scored. */
const PIECE_CHARACTERS = 8192

/** The text itself if it is at most 32,768 characters long, else its pieces. */
export function* documentPieces(text: string): Generator<string> {
  if (text.length <= WHOLE_CHARACTERS) yield text
  else yield* cutText(text, PIECE_CHARACTERS)
}

/** Pieces of at most `size` characters; all except the last have at least half of that. */
export function* cutText(text: string, size: number): Generator<string> {
  let start = 0
  while (text.length - start > size) {
    const cut = start + cutBefore(text.slice(start, start + size))
    yield text.slice(start, cut)
    start = cut
  }
  if (start < text.length) yield text.slice(start)
}

/** Index after the last separator in the second half of `window`, or the length of `window` if it has none. */
function cutBefore(window: string): number {
  for (const [mark, length] of [
    ['\n\n', 2],
    ['\n', 1],
    [' ', 1],
  ] as const) {
    const at = window.lastIndexOf(mark)
    if (at + length > window.length / 2) return at + length
  }
  // A cut must not separate the halves of a surrogate pair.
  return /[\uD800-\uDBFF]$/.test(window) && window.length > 1 ? window.length - 1 : window.length
}
