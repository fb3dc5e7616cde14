/**
 * Rows of the egress ledger, and the lines that hold them: `HASH JSON`, where HASH is the SHA-256 of the JSON text in
 * hex, and the JSON, in canonical form, names the hash of the line before it. `sha256sum` can check a line. Knows nothing
 * about files and about what sends bytes.
 */
import { createHash } from 'node:crypto'
import { type Digest, fromUtf8, utf8 } from '../lib/bytes.ts'
import { decodeCanonical, encodeCanonical } from '../lib/canonical-json.ts'
import { FormatError } from '../lib/errors.ts'
import { Fields } from '../lib/fields.ts'

/** What left the node, or a note of the ledger about itself. */
export interface EgressBody {
  /** Unix seconds: when the first and the last of the bytes were handed to the stream. */
  readonly from: number
  readonly until: number
  /** `file`, `statement`, `head`, `request`, ...; the id of the protocol if it names no kinds. */
  readonly kind: string
  /** Peer id of the receiver, or another name of it; `-` for a note. */
  readonly to: string
  /** Bytes handed to the stream, with their framing. */
  readonly bytes: number
  /** Number of objects in the row. */
  readonly count: number
  /** Id of the protocol, if `kind` is used by several. */
  readonly protocol?: string
  /**
   * SHA-256 of the object. Of several objects: SHA-256 of their SHA-256s, in the order in which they were sent. Of the
   * chunks of a file: SHA-256 of the hashes of the chunks that `chunks` lists, in their order. Absent if only bytes are
   * counted.
   */
  readonly digest?: Digest
  readonly file?: Digest
  /** First and last index of each run of chunks, ascending. */
  readonly chunks?: readonly (readonly [first: number, last: number])[]
  /** Number of tokens in answers of the API. */
  readonly tokens?: number
  /** The node ended before it had completed the row, which holds what was counted until then. */
  readonly interrupted?: true
  /** For people. */
  readonly note?: string
}

export interface EgressRow extends EgressBody {
  /** 1 for the first row. */
  readonly seq: number
  /** Hash of the line before, hex; `NO_HASH` for the first row. */
  readonly previous: string
}

/** A line of the ledger. */
export interface EgressLine {
  readonly row: EgressRow
  readonly hash: string
  /** Without the line break. */
  readonly text: string
}

/** The receiver of a note. */
export const NOBODY = '-'
export const NO_HASH = '0'.repeat(64)
/** Maximum number of runs of chunks in a row. */
export const MAX_RUNS = 256
const MAX_LINE_BYTES = 16_384
const MAX_WORD = 200
const MAX_NOTE = 400
const HASH = /^[a-f0-9]{64}$/

export function lineOf(body: EgressBody, seq: number, previous: string): EgressLine {
  const row: EgressRow = { ...body, seq, previous }
  const json = encodeCanonical(row)
  const hash = createHash('sha256').update(json).digest('hex')
  return { row, hash, text: `${hash} ${fromUtf8(json)}` }
}

/** @throws FormatError if the text is not a line of a ledger or its hash is not that of its content. */
export function parseLine(text: string): EgressLine {
  if (text.length > MAX_LINE_BYTES) throw new FormatError('too-large', 'the line is too long')
  const hash = text.slice(0, 64)
  const json = utf8(text.slice(65))
  if (!HASH.test(hash) || text[64] !== ' ')
    throw new FormatError('bad-field', 'the line does not begin with a hash')
  if (createHash('sha256').update(json).digest('hex') !== hash)
    throw new FormatError('bad-field', 'the content of the row does not have the hash that its line names')
  const fields = new Fields(decodeCanonical(json, MAX_LINE_BYTES), 'row')
  const row = { ...readBody(fields), seq: fields.uint('seq'), previous: fields.text('previous', 64, HASH) }
  fields.end()
  return { row, hash, text }
}

/** Reads the members of a body; the caller reads the others and ends. @throws FormatError `bad-field`. */
export function readBody(fields: Fields): EgressBody {
  return {
    from: fields.uint('from'),
    until: fields.uint('until'),
    kind: fields.text('kind', MAX_WORD),
    to: fields.text('to', MAX_WORD),
    bytes: fields.uint('bytes'),
    count: fields.uint('count'),
    ...(fields.has('protocol') ? { protocol: fields.text('protocol', MAX_WORD) } : {}),
    ...(fields.has('digest') ? { digest: fields.digest('digest') } : {}),
    ...(fields.has('file') ? { file: fields.digest('file') } : {}),
    ...(fields.has('chunks') ? { chunks: fields.list('chunks', MAX_RUNS, readRun) } : {}),
    ...(fields.has('tokens') ? { tokens: fields.uint('tokens') } : {}),
    ...(fields.has('interrupted') && fields.bool('interrupted') ? { interrupted: true as const } : {}),
    ...(fields.has('note') ? { note: fields.text('note', MAX_NOTE) } : {}),
  }
}

function readRun(item: unknown, title: string): [number, number] {
  const [first, last] = Array.isArray(item) && item.length === 2 ? (item as unknown[]) : []
  const isRun = Number.isSafeInteger(first) && Number.isSafeInteger(last)
  if (isRun && 0 <= (first as number) && (first as number) <= (last as number))
    return [first as number, last as number]
  throw new FormatError('bad-field', `${title}: expected the first and the last index of a run`)
}

/** A note of the ledger about itself. */
export function note(kind: string, at: number, text: string): EgressBody {
  return { from: at, until: at, kind, to: NOBODY, bytes: 0, count: 0, note: text.slice(0, MAX_NOTE) }
}
