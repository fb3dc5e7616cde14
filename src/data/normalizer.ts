/**
 * The normalizers of a `tokenizer.json` as functions, with the results of Hugging Face's library in time that grows
 * linearly with the text. Knows nothing about tokens.
 */
import { FormatError } from '../lib/errors.ts'
import { NOT_NORMALIZED } from './library-unicode.ts'
import { fromOniguruma } from './oniguruma.ts'

/** The text that is split into tokens, from the text that the user gave. */
export type Normalizer = (text: string) => string

const FORMS = ['NFC', 'NFD', 'NFKC', 'NFKD'] as const
type Form = (typeof FORMS)[number]
const MAX_NESTING = 8

/**
 * @param json the member `normalizer` of the file
 * @returns undefined if the file has none
 * @throws FormatError `bad-field` for a normalizer that is not supported.
 */
export function readNormalizer(json: unknown, depth = 0): Normalizer | undefined {
  if (json === null || json === undefined) return undefined
  const { type, ...fields } = json as { readonly type?: unknown; readonly [name: string]: unknown }
  const form = FORMS.find((name) => name === type)
  if (form !== undefined) return (text) => normalized(text, form)
  if (type === 'Lowercase') return lowerCase
  if (type === 'Prepend' && typeof fields['prepend'] === 'string') {
    const { prepend } = fields
    return (text) => (text === '' ? '' : `${prepend}${text}`)
  }
  if (type === 'Strip')
    return (text) => stripped(text, fields['strip_left'] === true, fields['strip_right'] === true)
  if (type === 'Replace' && typeof fields['content'] === 'string') {
    const { content } = fields
    const pattern = readPattern(fields['pattern'])
    return (text) => text.replace(pattern, () => content)
  }
  if (type === 'Sequence' && Array.isArray(fields['normalizers']) && depth < MAX_NESTING) {
    const all = fields['normalizers'].flatMap((one: unknown) => readNormalizer(one, depth + 1) ?? [])
    return (text) => all.reduce((value, one) => one(value), text)
  }
  throw new FormatError(
    'bad-field',
    `tokenizer.json: normalizer ${JSON.stringify(type)} is not supported; supported are ${FORMS.join(', ')}, Lowercase, Prepend, Strip, Replace and Sequence`,
  )
}

/**
 * Maximum number of characters (UTF-16 code units) of a text that a supported normalizer turns into one byte: 2 for
 * normal forms, which turn U+1D400 into A. Infinity if there is no bound.
 */
export function shrinkage(json: unknown): number {
  if (json === null || json === undefined) return 1
  const { type, normalizers } = json as { readonly type?: unknown; readonly normalizers?: unknown }
  if (type === 'Sequence' && Array.isArray(normalizers)) return Math.max(1, ...normalizers.map(shrinkage))
  if (type === 'Lowercase' || type === 'Prepend') return 1
  return FORMS.some((form) => form === type) ? 2 : Infinity
}

/** A `pattern` of a `tokenizer.json`: `{"String": text}` or `{"Regex": expression}`. @throws FormatError `bad-field`. */
export function readPattern(json: unknown): RegExp {
  const { String: text, Regex: expression } = (json ?? {}) as { String?: unknown; Regex?: unknown }
  if (typeof text === 'string' && text !== '')
    return new RegExp(text.replace(/[\\^$.*+?()[\]{}|/]/g, '\\$&'), 'gu')
  if (typeof expression === 'string' && expression !== '') return fromOniguruma(expression)
  throw new FormatError('bad-field', 'tokenizer.json: expected a pattern with a String or a Regex')
}

/** By character, so that a capital sigma at the end of a word becomes the same letter as elsewhere. */
function lowerCase(text: string): string {
  return text
    .replace(/\P{ASCII}/gu, (character) => character.toLowerCase())
    .replace(/[A-Z]+/g, (word) => word.toLowerCase())
}

const SPACE = /\p{White_Space}/u

function stripped(text: string, left: boolean, right: boolean): string {
  let start = 0
  let end = text.length
  if (left) while (start < end && SPACE.test(text.charAt(start))) start++
  if (right) while (end > start && SPACE.test(text.charAt(end - 1))) end--
  return text.slice(start, end)
}

/** More combining marks than this in a row are sorted here: JavaScript takes quadratic time for them. */
const LONG_RUN = /\p{M}{64,}/gu

const KEPT = new RegExp(`([${NOT_NORMALIZED}]+)`, 'u')

function normalized(text: string, form: Form): string {
  // Every other part is characters that stay as they are.
  return text
    .split(KEPT)
    .map((part, i) =>
      i % 2 === 1 ? part : part.replace(LONG_RUN, (marks) => inCanonicalOrder(marks, form)).normalize(form),
    )
    .join('')
}

/** Sorts combining marks as the normal form demands (Unicode 16, section 3.11, canonical ordering). */
function inCanonicalOrder(marks: string, form: Form): string {
  const compatible = form === 'NFKC' || form === 'NFKD' ? 'NFKD' : 'NFD'
  // Marks decompose into several characters, which are sorted together with their neighbours.
  const decomposed = Array.from(marks, (mark) => mark.normalize(compatible)).join('')
  const order = new Map<string, number>()
  const classOf = (mark: string): number => {
    const known = order.get(mark)
    if (known !== undefined) return known
    const found = combiningClass(mark)
    order.set(mark, found)
    return found
  }
  let result = ''
  let run: string[] = []
  const flush = (): void => {
    result += run.sort((a, b) => classOf(a) - classOf(b)).join('')
    run = []
  }
  for (const mark of decomposed) {
    if (classOf(mark) > 0) run.push(mark)
    else {
      flush()
      result += mark
    }
  }
  flush()
  return result
}

/** One mark of each combining class, in ascending order of the classes. */
const CLASSES = Array.from(
  '\u0334\u{16ff0}\u093c\u3099\u094d\u05b0\u05b1\u05b2\u05b3\u05b4\u05b5\u05b6\u05b7\u05b8\u05b9\u05bb\u05bc\u05bd\u05bf\u05c1\u05c2\ufb1e\u064b\u064c\u064d\u0618\u0619\u061a\u0651\u0652\u0670\u0711\u0c55\u0c56\u0e38\u0e48\u0eb8\u0ec8\u0f71\u0f72\u0f74\u0321\u1dce\u031b\u1dfa\u0316\u059a\u302e\u{1d16d}\u05ae\u0300\u0315\u035c\u035d\u0345',
)

/**
 * A number that is 0 for a character that starts a sequence, and otherwise orders marks as their canonical combining
 * classes do. JavaScript does not expose the classes, but swaps two marks whose classes are in descending order.
 */
function combiningClass(mark: string): number {
  const comesAfter = (other: string): boolean => `${mark}${other}`.normalize('NFD') !== `${mark}${other}`
  const comesBefore = (other: string): boolean => `${other}${mark}`.normalize('NFD') !== `${other}${mark}`
  // Twice the index of the equal class, or an odd number between two of them.
  const below = CLASSES.filter(comesAfter).length
  const above = CLASSES.filter(comesBefore).length
  if (below === 0 && above === 0) return 0
  return below + (CLASSES.length - above) + 1
}
