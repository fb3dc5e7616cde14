/**
 * Files of an egress ledger: segments of rows, named by the number of their first row, a signed head, a signed summary of
 * the rows that were removed, and rows that are not in a segment yet. Reads them without judging them.
 */
import { randomBytes } from 'node:crypto'
import { readdir, rename } from 'node:fs/promises'
import { join } from 'node:path'
import { fromUtf8, toHex } from '../lib/bytes.ts'
import { encodeCanonical } from '../lib/canonical-json.ts'
import { FormatError } from '../lib/errors.ts'
import { Fields } from '../lib/fields.ts'
import { mapDiskErrors, pathExists, readFileBounded, writeFileAtomic } from '../lib/files.ts'
import { limit } from '../lib/limits.ts'
import { type EgressBody, readBody } from './egress-row.ts'

const SEGMENT = /^rows-(\d{16})\.log$/
const PENDING = /^pending-(\d{1,10})-[a-f0-9]{12}\.json$/
const MAX_PENDING_BYTES = 64 * 2 ** 20
const MAX_PENDING_ROWS = 1_000_000
const MAX_LINE_BYTES = 20_000

export interface Segment {
  readonly path: string
  /** Number of its first row by its name. */
  readonly first: number
}

/** Rows that a process has counted and that are not in a segment for certain. */
export interface PendingRows {
  /** Lines that were being appended to the last segment. */
  readonly lines: readonly string[]
  /** Rows that could still grow. */
  readonly open: readonly EgressBody[]
  /** Unix seconds. */
  readonly savedAt: number
}

export const headPath = (dir: string): string => join(dir, 'head.json')
export const summaryPath = (dir: string): string => join(dir, 'summary.json')
export const segmentPath = (dir: string, first: number): string =>
  join(dir, `rows-${String(first).padStart(16, '0')}.log`)
/** Rows that the process which appends to the segments has not appended for certain. Exists while it runs. */
export const ownPendingPath = (dir: string): string => join(dir, 'pending.json')

/** Segments in the order of their rows; none if the folder does not exist. */
export async function segmentsOf(dir: string): Promise<Segment[]> {
  const names = (await pathExists(dir)) ? await mapDiskErrors(dir, () => readdir(dir)) : []
  return names.sort().flatMap((name) => {
    const [, first] = SEGMENT.exec(name) ?? []
    return first === undefined ? [] : [{ path: join(dir, name), first: Number(first) }]
  })
}

/** Files with rows of processes that may not append to the segments, with the id of their process. */
export async function foreignPending(dir: string): Promise<{ path: string; pid: number }[]> {
  const names = (await pathExists(dir)) ? await mapDiskErrors(dir, () => readdir(dir)) : []
  return names.flatMap((name) => {
    const [, pid] = PENDING.exec(name) ?? []
    return pid === undefined ? [] : [{ path: join(dir, name), pid: Number(pid) }]
  })
}

/** Lines of a segment, and the bytes after its last line break. */
export async function readSegment(path: string): Promise<{ lines: string[]; rest: string; bytes: number }> {
  const bytes = await readFileBounded(path, limit('egressSegmentBytes') + MAX_PENDING_BYTES)
  // Bytes that are not UTF-8 become other characters, so that their line does not have its hash.
  const lines = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('utf8').split('\n')
  const rest = lines.pop() ?? ''
  return { lines, rest, bytes: bytes.length }
}

/** An envelope; undefined if the file does not exist. */
export async function readEnvelopeFile(path: string): Promise<Uint8Array | undefined> {
  return (await pathExists(path)) ? readFileBounded(path, limit('envelopeBytes')) : undefined
}

/** Replace a file without flushing it: the end of the process does not lose it, a loss of power may. */
export async function writePending(path: string, pending: PendingRows): Promise<void> {
  const { lines, open, savedAt } = pending
  await writeFileAtomic(path, encodeCanonical({ lines, open, savedAt }), { sync: false })
}

/** Undefined if the file does not exist. @throws FormatError for a damaged one. */
export async function readPending(path: string): Promise<PendingRows | undefined> {
  if (!(await pathExists(path))) return undefined
  const bytes = await readFileBounded(path, MAX_PENDING_BYTES)
  let value: unknown
  try {
    value = JSON.parse(fromUtf8(bytes))
  } catch (error) {
    throw new FormatError('not-json', `${path}: expected JSON`, {}, error)
  }
  const fields = new Fields(value, 'pending rows')
  const pending = {
    lines: fields.list('lines', MAX_PENDING_ROWS, (item, title) => {
      if (typeof item === 'string' && item.length <= MAX_LINE_BYTES) return item
      throw new FormatError('bad-field', `${title}: expected a line`)
    }),
    open: fields.list('open', MAX_PENDING_ROWS, (item, title) => {
      const row = new Fields(item, title)
      const body = readBody(row)
      row.end()
      return body
    }),
    savedAt: fields.uint('savedAt'),
  }
  fields.end()
  return pending
}

/** A new path for the rows of a process that may not append to the segments. @param pid 0 once it has ended */
export function foreignPath(dir: string, pid: number): string {
  return join(dir, `pending-${pid}-${toHex(randomBytes(6))}.json`)
}

/** Mark the rows of a process as complete, so that the next start of the node takes them. */
export async function handOver(path: string, dir: string): Promise<void> {
  await mapDiskErrors(path, () => rename(path, foreignPath(dir, 0)))
}
