/**
 * The body of a request as a JSON value: bounded in bytes and in depth, before and after parsing. Knows nothing about
 * what the value means.
 */
import { fromUtf8 } from '../lib/bytes.ts'
import { FormatError } from '../lib/errors.ts'
import { limit } from '../lib/limits.ts'
import { Refusal } from './problem.ts'

/**
 * Maximum number of bytes, as a multiple of the size limit, that are read and thrown away before a request that is too
 * large is refused. A client that is still sending when the socket closes may never see the refusal.
 */
const DISCARDED = 16

/**
 * @throws Refusal `bad_content_type`, `body_too_large`; FormatError `not-json`; the reason why the request was aborted
 */
export async function readJson(request: Request): Promise<unknown> {
  if (!/^application\/json\s*(?:;|$)/i.test(request.headers.get('content-type') ?? ''))
    throw new Refusal({ status: 415, code: 'bad_content_type', message: 'send application/json' })
  if ((request.headers.get('content-encoding') ?? 'identity').toLowerCase() !== 'identity')
    throw new Refusal({ status: 415, code: 'bad_content_type', message: 'send the body uncompressed' })
  const bytes = await readBody(request)
  let text: string
  try {
    // Editors and shells of Windows put a byte order mark before JSON.
    text = fromUtf8(bytes).replace(/^\ufeff/, '')
  } catch (cause) {
    throw new FormatError('not-json', 'the body is not UTF-8', {}, cause)
  }
  if (isDeeperThan(text, limit('bodyDepth')))
    throw new FormatError('not-json', `the body is nested more than ${limit('bodyDepth')} deep`)
  try {
    return JSON.parse(text)
  } catch (cause) {
    throw new FormatError('not-json', 'the body is not JSON', {}, cause)
  }
}

async function readBody(request: Request): Promise<Uint8Array> {
  const max = limit('bodyBytes')
  const chunks: Uint8Array[] = []
  let size = 0
  for await (const chunk of (request.body ?? []) as AsyncIterable<Uint8Array>) {
    size += chunk.length
    if (size <= max) chunks.push(chunk)
    else if (size > DISCARDED * max) break
  }
  if (size <= max) return Buffer.concat(chunks)
  throw new Refusal({
    status: 413,
    code: 'body_too_large',
    message: `the body may have at most ${max} bytes`,
    headers: { Connection: 'close' },
  })
}

/** Whether objects and lists of a JSON text are nested more than `max` deep. The text need not be valid. */
function isDeeperThan(text: string, max: number): boolean {
  let depth = 0
  let isInString = false
  for (let i = 0; i < text.length; i++) {
    const character = text[i]
    if (isInString) {
      if (character === '\\') i++
      else if (character === '"') isInString = false
    } else if (character === '"') isInString = true
    else if (character === '[' || character === '{') depth++
    else if (character === ']' || character === '}') depth--
    if (depth > max) return true
  }
  return false
}
