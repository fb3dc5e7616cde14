/**
 * How the experts of a composition are told apart: by a letter, a colour and a pattern of the underline, so that nobody
 * needs to see colours. The public model is always the first.
 */

const PATTERNS = ['solid', 'dashed', 'dotted', 'double', 'wavy']
const COLORS = 8

/** @param {number} index of an expert of the composition; 0 is the public model */
export function mark(index) {
  return {
    letter: index === 0 ? 'P' : String.fromCharCode(64 + ((index - 1) % 26) + 1),
    color: index === 0 ? 'public' : String((index - 1) % COLORS),
    pattern: PATTERNS[index % PATTERNS.length],
  }
}

/** Name of an expert for people. */
export function nameOf({ institution, expert, name }) {
  const own = expert ?? name
  return institution === 'public model' ? 'public model' : `${institution} / ${own}`
}
