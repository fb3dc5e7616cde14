/**
 * Cuts long texts into pieces of bounded size where a reader would: after a blank line, else after a line, else
 * after a space. Nothing is lost: the pieces joined are the text.
 */

/** Documents up to this length stay whole, characters. */
const WHOLE_CHARACTERS = 32_768
/** Largest piece of a longer one: several fit into the held-out text that is scored. */
const PIECE_CHARACTERS = 8192

/** The text itself when it is of ordinary length, else its pieces. */
export function* documentPieces(text: string): Generator<string> {
  if (text.length <= WHOLE_CHARACTERS) yield text
  else yield* cutText(text, PIECE_CHARACTERS)
}

/** Pieces of at most `size` characters, none of less than half of it but the last. */
export function* cutText(text: string, size: number): Generator<string> {
  let start = 0
  while (text.length - start > size) {
    const cut = start + cutBefore(text.slice(start, start + size))
    yield text.slice(start, cut)
    start = cut
  }
  if (start < text.length) yield text.slice(start)
}

/** Where to end a piece inside `window`: the last good place in its second half, at least one character on. */
function cutBefore(window: string): number {
  for (const [mark, length] of [
    ['\n\n', 2],
    ['\n', 1],
    [' ', 1],
  ] as const) {
    const at = window.lastIndexOf(mark)
    if (at + length > window.length / 2) return at + length
  }
  // Between the halves of a surrogate pair there is no character to end.
  return /[\uD800-\uDBFF]$/.test(window) && window.length > 1 ? window.length - 1 : window.length
}
