/** Reads JSON Lines: one JSON object per line, whose text is one member. Knows nothing about encodings. */
import { InputError } from '../lib/errors.ts'
import { limit } from '../lib/limits.ts'
import { missingColumn, type Row, SOURCE_COLUMN, TEXT_COLUMN } from './columns.ts'

/**
 * The row of every line that is not blank; its text is undefined if the member is null or missing.
 * @param chunks the text of the file.
 * @param path of the file, for messages.
 * @param column name of the member with the text, if it is not `text`.
 * @param onColumn called once, with the name of the member, when a line has it.
 * @throws InputError `not-text` for a line that is not a JSON object or holds half of a surrogate pair; `usage` for a
 * member that is not a string, and if no line has the member.
 */
export async function* readJsonLines(
  chunks: AsyncIterable<string>,
  path: string,
  column: string | undefined,
  onColumn: (name: string) => void,
): AsyncGenerator<Row, void, void> {
  const name = column ?? TEXT_COLUMN
  let number = 0
  let isFound = false
  let firstMembers: string[] | undefined
  for await (const line of linesOf(chunks, path)) {
    number++
    if (line.trim() === '') continue
    const title = `${path} line ${number}`
    const object = objectOf(line, title)
    firstMembers ??= Object.keys(object)
    const value = Object.hasOwn(object, name) ? object[name] : undefined
    if (value !== undefined && countMember(line, name) > 1) {
      throw new InputError(
        'not-text',
        `${title}: expected one member "${name}", got several; rename or remove the others`,
      )
    }
    if (value !== undefined && !isFound) {
      isFound = true
      onColumn(name)
    }
    const source = Object.hasOwn(object, SOURCE_COLUMN) ? object[SOURCE_COLUMN] : undefined
    yield {
      text:
        value === undefined || value === null ? undefined : textValue(value, `${title}, member "${name}"`),
      source: typeof source === 'string' || typeof source === 'number' ? String(source) : undefined,
    }
  }
  if (firstMembers !== undefined && !isFound) throw missingColumn(path, firstMembers, column)
}

/** Lines that end with \n, \r\n or \r, since JSON strings may contain other line separators. */
async function* linesOf(chunks: AsyncIterable<string>, path: string): AsyncGenerator<string> {
  let number = 1
  let rest = ''
  let endsWithCr = false
  for await (const chunk of chunks) {
    // Only the new text is searched, so that a long line takes linear time.
    const lines = (endsWithCr && chunk.startsWith('\n') ? chunk.slice(1) : chunk).split(/\r\n|[\r\n]/)
    endsWithCr = chunk.endsWith('\r')
    for (const line of lines.slice(0, -1)) {
      yield rest + line
      rest = ''
      number++
    }
    rest += lines.at(-1)
    if (rest.length > limit('documentBytes')) {
      throw new InputError(
        'usage',
        `${path} line ${number}: longer than ${limit('documentBytes')} characters; split the document`,
      )
    }
  }
  yield rest
}

function objectOf(line: string, title: string): Record<string, unknown> {
  let value: unknown
  try {
    value = JSON.parse(line)
  } catch (cause) {
    const advice = line.trimStart().startsWith('[') || line.trim() === '{' ? `; ${CONVERT}` : ''
    const reason = cause instanceof Error ? cause.message.slice(0, 100) : ''
    throw new InputError(
      'not-text',
      `${title}: expected a JSON object on one line, got text that is not valid JSON (${reason})${advice}`,
      {},
      cause,
    )
  }
  if (typeof value === 'object' && value !== null && !Array.isArray(value))
    return value as Record<string, unknown>
  const advice = Array.isArray(value) ? `; ${CONVERT}` : ''
  throw new InputError('not-text', `${title}: expected a JSON object, got ${typeOf(value)}${advice}`)
}

/** Number of members of this name in the outermost object of a line of valid JSON; JSON.parse keeps only the last. */
function countMember(line: string, name: string): number {
  const key = JSON.stringify(name)
  if (line.indexOf(key) === line.lastIndexOf(key)) return 1
  let depth = 0
  let count = 0
  for (let at = 0; at < line.length; at++) {
    const character = line[at] as string
    if (character === '{' || character === '[') depth++
    else if (character === '}' || character === ']') depth--
    else if (character === '"') {
      const end = stringEnd(line, at)
      const isKey = depth === 1 && end - at === key.length && line.startsWith(key, at)
      if (isKey && /^[ \t]*:/.test(line.slice(end, end + MAX_SPACE))) count++
      at = end - 1
    }
  }
  return count
}
/** Characters after a string in which its colon is looked for. */
const MAX_SPACE = 64

/** Index after the string of valid JSON that begins at `start`. */
function stringEnd(line: string, start: number): number {
  for (let quote = line.indexOf('"', start + 1); ; quote = line.indexOf('"', quote + 1)) {
    let before = quote
    while (line[before - 1] === '\\') before--
    if ((quote - before) % 2 === 0) return quote + 1
  }
}

const CONVERT = `convert it with "jq -c '.[]' FILE > NEW.jsonl" (for one array) or "jq -c . FILE > NEW.jsonl"`

/** @throws InputError `usage` if the value is not a string, `not-text` if it is not well-formed Unicode. */
function textValue(value: unknown, title: string): string {
  if (typeof value !== 'string') {
    throw new InputError(
      'usage',
      `${title}: expected a string or null, got ${typeOf(value)}; choose another member with --column NAME, or leave the file out of --data`,
    )
  }
  if (!value.isWellFormed()) {
    throw new InputError(
      'not-text',
      `${title}: expected Unicode text, got half of a surrogate pair (an escape such as \\ud83d without its other half); mend the line`,
    )
  }
  return value
}

function typeOf(value: unknown): string {
  if (value === null) return 'null'
  if (Array.isArray(value)) return 'an array'
  return typeof value === 'object' ? 'an object' : `a ${typeof value}`
}
