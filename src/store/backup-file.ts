/**
 * The content of a backup as a stream of records: where the home was, entries of its catalogue, files, and an end. A
 * record is the length of its head (4 bytes, big-endian), the head in JSON, and a body. Knows nothing about encryption,
 * nor about which files a backup holds.
 */
import { join } from 'node:path'
import { concatBytes, fromUtf8, utf8 } from '../lib/bytes.ts'
import { FormatError, InputError } from '../lib/errors.ts'
import { Fields } from '../lib/fields.ts'
import { mapDiskErrors, openFile, PIECE_BYTES } from '../lib/files.ts'

export type BackupHead =
  /** First: the path of the home folder, and when the backup began, in Unix seconds. */
  | { readonly type: 'home'; readonly root: string; readonly at: number }
  /** A key of the catalogue; the body is its value. */
  | { readonly type: 'entry'; readonly key: string; readonly size: number }
  /** A path in the home folder with `/` between its parts; the body is the content of the file. */
  | { readonly type: 'file'; readonly path: string; readonly size: number }
  /** Last: number of the records before it. */
  | { readonly type: 'end'; readonly records: number }

/** A record with its body, which must be read before the next record is asked for. */
export interface BackupRecord {
  readonly head: BackupHead
  readonly body: AsyncGenerator<Uint8Array, void, void>
}

const LENGTH_BYTES = 4
const MAX_HEAD_BYTES = 16 * 1024
const MAX_PATH = 4096
const MAX_KEY = 256

export function encodeHead(head: BackupHead): Uint8Array {
  const json = utf8(JSON.stringify(head))
  const length = new Uint8Array(LENGTH_BYTES)
  new DataView(length.buffer).setUint32(0, json.length)
  return concatBytes(length, json)
}

/**
 * The record of a file as it is now.
 * @returns undefined if the file does not exist. @throws InputError `io` for a file that becomes shorter meanwhile.
 */
export async function openFileRecord(
  root: string,
  path: string,
): Promise<AsyncGenerator<Uint8Array, void, void> | undefined> {
  const absolute = join(root, path)
  try {
    const handle = await openFile(absolute)
    const { size } = await handle.stat()
    return (async function* () {
      try {
        yield encodeHead({ type: 'file', path, size })
        for (let done = 0; done < size; ) {
          const piece = new Uint8Array(Math.min(PIECE_BYTES, size - done))
          const { bytesRead } = await mapDiskErrors(absolute, () => handle.read(piece, 0, piece.length, done))
          if (bytesRead === 0) {
            throw new InputError('io', `${absolute} was changed while it was read; run the command again`)
          }
          yield piece.subarray(0, bytesRead)
          done += bytesRead
        }
      } finally {
        await handle.close()
      }
    })()
  } catch (error) {
    if (error instanceof InputError && error.code === 'not-found') return undefined
    throw error
  }
}

/**
 * Read records from a stream. Bodies that the caller does not read are skipped.
 * @throws FormatError `bad-field`, `truncated`; what the stream throws.
 */
export async function* readRecords(
  content: AsyncIterable<Uint8Array>,
): AsyncGenerator<BackupRecord, void, void> {
  const source = new Source(content)
  for (let records = 0; ; records++) {
    const length = new DataView((await source.take(LENGTH_BYTES)).buffer).getUint32(0)
    if (length > MAX_HEAD_BYTES)
      throw new FormatError('too-large', 'backup: the head of a record is too long')
    const head = decodeHead(await source.take(length))
    if ((records === 0) !== (head.type === 'home')) {
      throw new FormatError('bad-field', 'backup: expected the record about the home first, and only once')
    }
    if (head.type === 'end') {
      if (head.records !== records) throw new FormatError('truncated', 'backup: records are missing')
      await source.end()
      yield { head, body: source.body(0) }
      return
    }
    const body = source.body(head.type === 'home' ? 0 : head.size)
    yield { head, body }
    for await (const _ of body);
  }
}

/** @throws FormatError. */
function decodeHead(bytes: Uint8Array): BackupHead {
  const fields = new Fields(parse(bytes), 'backup')
  const type = fields.literal('type', 'home', 'entry', 'file', 'end')
  const head = ((): BackupHead => {
    switch (type) {
      case 'home':
        return { type, root: fields.text('root', MAX_PATH), at: fields.uint('at') }
      case 'entry':
        return { type, key: fields.text('key', MAX_KEY), size: fields.uint('size') }
      case 'file':
        return { type, path: insidePath(fields.text('path', MAX_PATH)), size: fields.uint('size') }
      case 'end':
        return { type, records: fields.uint('records') }
    }
  })()
  fields.end()
  return head
}

function parse(bytes: Uint8Array): unknown {
  try {
    return JSON.parse(fromUtf8(bytes))
  } catch (error) {
    throw new FormatError('not-json', 'backup: expected JSON in the head of a record', {}, error)
  }
}

/** @throws FormatError `bad-field` for a path that leads out of the home folder. */
function insidePath(path: string): string {
  const isInside = path
    .split('/')
    .every((part) => part !== '' && part !== '.' && part !== '..' && !/[\\\0]/.test(part))
  if (isInside) return path
  throw new FormatError('bad-field', 'backup.path: expected a path inside of the home folder')
}

/** Bytes of a stream by number instead of by piece. */
class Source {
  readonly #pieces: AsyncIterator<Uint8Array>
  #rest = new Uint8Array()

  constructor(content: AsyncIterable<Uint8Array>) {
    this.#pieces = content[Symbol.asyncIterator]()
  }

  /** Exactly `size` bytes. @throws FormatError `truncated`. */
  async take(size: number): Promise<Uint8Array> {
    const parts: Uint8Array[] = []
    for await (const part of this.body(size)) parts.push(part)
    return concatBytes(...parts)
  }

  /** Exactly `size` bytes, piece by piece. @throws FormatError `truncated`. */
  async *body(size: number): AsyncGenerator<Uint8Array, void, void> {
    for (let left = size; left > 0; ) {
      if (this.#rest.length === 0 && !(await this.#more())) {
        throw new FormatError('truncated', 'backup: it ends within a record')
      }
      const part = this.#rest.subarray(0, left)
      this.#rest = this.#rest.subarray(part.length)
      left -= part.length
      yield part
    }
  }

  /** Read to the end of the stream. @throws FormatError `bad-field` if something is left. */
  async end(): Promise<void> {
    while (this.#rest.length === 0) if (!(await this.#more())) return
    throw new FormatError('bad-field', 'backup: something follows its end')
  }

  async #more(): Promise<boolean> {
    const { done, value } = await this.#pieces.next()
    if (done === true) return false
    this.#rest = new Uint8Array(value)
    return true
  }
}
