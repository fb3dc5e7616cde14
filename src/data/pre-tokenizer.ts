/**
 * The pre-tokenizers of a `tokenizer.json` as functions that split text into the pieces within which tokens are merged.
 * Knows nothing about tokens.
 */
import { FormatError } from '../lib/errors.ts'
import { NOT_PUNCTUATION } from './library-unicode.ts'
import { readPattern } from './normalizer.ts'
import { fromOniguruma } from './oniguruma.ts'

/** Splits a piece of text. A piece may be left out if the model says so. */
type Split = (text: string) => Iterable<string>

/** The expression of GPT-2, which the pre-tokenizer ByteLevel applies by default. */
const GPT2 = String.raw`'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+`
const PUNCTUATION = new RegExp(`(?![${NOT_PUNCTUATION}])[\\p{P}!-/:-@[-\`{-~\\u166d\\u{111c9}]`, 'gu')
const BEHAVIORS = ['Removed', 'Isolated', 'MergedWithPrevious', 'MergedWithNext', 'Contiguous'] as const
type Behavior = (typeof BEHAVIORS)[number]

interface PreTokenizerJson {
  readonly type?: unknown
  readonly [name: string]: unknown
}

/**
 * @param json the member `pre_tokenizer` of the file
 * @returns a function from a text to its pieces in order
 * @throws FormatError `bad-field` unless it ends with ByteLevel, after pre-tokenizers that are supported.
 */
export function readPreTokenizer(json: unknown): Split {
  const steps = flatten(json, 0)
  if (steps.at(-1)?.type !== 'ByteLevel' || steps.filter(({ type }) => type === 'ByteLevel').length > 1) {
    throw new FormatError(
      'bad-field',
      'tokenizer.json: expected a pre_tokenizer that is ByteLevel or ends with it; only byte-level tokenizers are supported',
    )
  }
  const splits = steps.map(readStep)
  return function* split(text: string): Generator<string, void, void> {
    yield* apply(splits, 0, text)
  }
}

function* apply(splits: readonly Split[], index: number, text: string): Generator<string, void, void> {
  const split = splits[index]
  if (split === undefined) {
    if (text !== '') yield text
    return
  }
  for (const piece of split(text)) {
    if (piece !== '') yield* apply(splits, index + 1, piece)
  }
}

const MAX_NESTING = 8

function flatten(json: unknown, depth: number): PreTokenizerJson[] {
  const step = (json ?? {}) as PreTokenizerJson
  if (step.type !== 'Sequence') return [step]
  const list = step['pretokenizers']
  if (!Array.isArray(list) || depth >= MAX_NESTING)
    throw new FormatError('bad-field', 'tokenizer.json: expected a Sequence to list its pretokenizers')
  return list.flatMap((one: unknown) => flatten(one, depth + 1))
}

function readStep(step: PreTokenizerJson): Split {
  const { type } = step
  if (type === 'ByteLevel') {
    const words = step['use_regex'] === false ? undefined : fromOniguruma(GPT2)
    const addsSpace = step['add_prefix_space'] !== false
    return (text) => {
      const spaced = addsSpace && !text.startsWith(' ') ? ` ${text}` : text
      return words === undefined ? [spaced] : splitBy(words, 'Isolated', false)(spaced)
    }
  }
  if (type === 'Split')
    return splitBy(readPattern(step['pattern']), readBehavior(step['behavior']), step['invert'] === true)
  if (type === 'Digits')
    return splitBy(/\p{N}/gu, step['individual_digits'] === true ? 'Isolated' : 'Contiguous', false)
  if (type === 'Punctuation') return splitBy(PUNCTUATION, readBehavior(step['behavior'] ?? 'Isolated'), false)
  throw new FormatError(
    'bad-field',
    `tokenizer.json: pre_tokenizer ${JSON.stringify(type)} is not supported; supported are ByteLevel, Split, Digits, Punctuation and Sequence`,
  )
}

function readBehavior(value: unknown): Behavior {
  const found = BEHAVIORS.find((name) => name === value)
  if (found === undefined) {
    throw new FormatError(
      'bad-field',
      `tokenizer.json: expected a behavior of ${BEHAVIORS.join(', ')}, got ${JSON.stringify(value)}`,
    )
  }
  return found
}

interface Stretch {
  readonly text: string
  readonly isMatch: boolean
}

function splitBy(pattern: RegExp, behavior: Behavior, invert: boolean): Split {
  return function* split(text: string): Generator<string, void, void> {
    const all = stretches(pattern, text, invert)
    if (behavior === 'Isolated') for (const { text: piece } of all) yield piece
    else if (behavior === 'Removed') {
      for (const { text: piece, isMatch } of all) if (!isMatch) yield piece
    } else yield* merged(all, behavior)
  }
}

/** The matches of a pattern and the stretches between them, in order. */
function* stretches(pattern: RegExp, text: string, invert: boolean): Generator<Stretch, void, void> {
  let end = 0
  for (const match of text.matchAll(pattern)) {
    if (match.index > end) yield { text: text.slice(end, match.index), isMatch: invert }
    yield { text: match[0], isMatch: !invert }
    end = match.index + match[0].length
  }
  if (end < text.length) yield { text: text.slice(end), isMatch: invert }
}

/** Joins matches with what stands before or after them, or with each other. */
function* merged(
  all: Iterable<Stretch>,
  behavior: 'MergedWithPrevious' | 'MergedWithNext' | 'Contiguous',
): Generator<string, void, void> {
  let piece = ''
  let last: boolean | undefined
  for (const { text, isMatch } of all) {
    const joins =
      last !== undefined &&
      (behavior === 'Contiguous'
        ? isMatch === last
        : behavior === 'MergedWithPrevious'
          ? isMatch && !last
          : last && !isMatch)
    if (!joins) {
      yield piece
      piece = ''
    }
    piece += text
    last = isMatch
  }
  yield piece
}
