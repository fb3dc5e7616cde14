/**
 * The bytes of a text file, decompressed, and its text piece by piece in the encoding that was recognised. Knows
 * nothing about documents.
 */
import { createReadStream } from 'node:fs'
import { createGunzip } from 'node:zlib'
import { hasErrno, InputError } from '../lib/errors.ts'
import { mapDiskErrors } from '../lib/files.ts'
import { type Encoding, encodingOf } from './encodings.ts'
import { refuseOtherFormat } from './file-signatures.ts'
import type { FoundFile } from './find-files.ts'

export interface StreamOptions {
  readonly signal?: AbortSignal
  /** Called for a file that is not in UTF-8. */
  readonly onEncoding?: (path: string, encoding: Encoding) => void
  /** Called with the number of bytes read from disk; a text file is read twice, first to recognise its encoding. */
  readonly onBytes?: (bytes: number) => void
}

/**
 * The text of a file piece by piece, without a byte order mark. Characters are never replaced.
 * @throws InputError `not-text` for other formats and encodings; of `mapDiskErrors`.
 */
export async function* textOf(file: FoundFile, options: StreamOptions): AsyncGenerator<string> {
  const { path } = file
  const encoding = await mapDiskErrors(path, () => encodingOf(path, () => checked(file, options)))
  if (encoding !== 'utf-8') options.onEncoding?.(path, encoding)
  const decoder = new TextDecoder(encoding, { fatal: true })
  const decode = (chunk?: Uint8Array): string => {
    try {
      return chunk === undefined ? decoder.decode() : decoder.decode(chunk, { stream: true })
    } catch (cause) {
      throw new InputError(
        'not-text',
        `${path} has changed while it was read; run the command again when nothing writes to it`,
        {},
        cause,
      )
    }
  }
  for await (const chunk of bytesOf(file, options)) {
    const text = decode(chunk)
    if (text !== '') yield text
  }
  yield decode()
}

async function* checked(file: FoundFile, options: StreamOptions): AsyncGenerator<Uint8Array> {
  let isFirst = true
  for await (const chunk of bytesOf(file, options)) {
    if (isFirst) refuseOtherFormat(file.path, chunk)
    isFirst = false
    yield chunk
  }
}

/** The bytes of a file, decompressed if its name ends in .gz. */
async function* bytesOf(
  { path, kind }: FoundFile,
  { signal, onBytes }: StreamOptions,
): AsyncGenerator<Uint8Array> {
  const file = createReadStream(path, signal === undefined ? {} : { signal })
  const gunzip = createGunzip()
  const bytes = kind.compressed ? file.on('error', (error) => gunzip.destroy(error)).pipe(gunzip) : file
  let reported = 0
  try {
    for await (const chunk of bytes) {
      onBytes?.(file.bytesRead - reported)
      reported = file.bytesRead
      yield chunk as Uint8Array
    }
  } catch (cause) {
    if (hasErrno(cause, 'Z_DATA_ERROR', 'Z_BUF_ERROR'))
      throw new InputError(
        'not-text',
        `${path} is a truncated or damaged gzip archive; copy it again`,
        {},
        cause,
      )
    throw cause
  } finally {
    file.destroy()
    gunzip.destroy()
  }
}
