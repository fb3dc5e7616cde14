/**
 * Reads the passphrase of a key from the file that the user named: a regular file, or a pipe that the process has
 * inherited, as in `--passphrase-file /dev/stdin`. Does not know what the passphrase opens.
 */
import { createReadStream } from 'node:fs'
import { stat } from 'node:fs/promises'
import { isatty } from 'node:tty'
import type { Protection } from '../identity/key-file.ts'
import { concatBytes, fromUtf8 } from '../lib/bytes.ts'
import { FormatError, InputError } from '../lib/errors.ts'
import { mapDiskErrors, readFileBounded } from '../lib/files.ts'

const MAX_BYTES = 4096
/** Paths that name an open file of this process; a pipe among them has a writer, so reading it ends. */
const INHERITED = /^\/dev\/stdin$|^(?:\/dev|\/proc\/self)\/fd\/(\d+)$/

/**
 * The first line break at the end of the file, which editors add, is not part of the passphrase.
 * @throws InputError `not-found`, `permissions`, `not-a-file`, `empty`, `usage`.
 */
export async function readPassphrase(file: string, signal: AbortSignal): Promise<string> {
  const pipe = await inheritedPipe(file)
  const bytes =
    pipe === undefined ? await readFileBounded(file, MAX_BYTES) : await readPipe(file, pipe, signal)
  const passphrase = decode(file, bytes).replace(/\r?\n$/, '')
  if (passphrase === '') throw new InputError('empty', `${file} is empty; expected a passphrase in it`)
  return passphrase
}

/** Undefined if no file is named. @throws as `readPassphrase`. */
export async function optionalPassphrase(
  file: string | undefined,
  signal: AbortSignal,
): Promise<string | undefined> {
  return file === undefined ? undefined : readPassphrase(file, signal)
}

/** How a key is stored: under a passphrase, or in the clear without one. */
export function protectionOf(passphrase: string | undefined): Protection {
  return passphrase === undefined ? { inTheClear: true } : { passphrase }
}

/** The descriptor of a pipe or socket that the process has inherited; undefined for any other path. */
async function inheritedPipe(path: string): Promise<number | undefined> {
  const match = INHERITED.exec(path)
  if (match === null) return undefined
  const descriptor = Number(match[1] ?? 0)
  if (isatty(descriptor))
    throw new InputError('not-a-file', `${path} is a terminal; expected a file or a pipe`)
  const info = await mapDiskErrors(path, () => stat(path))
  return info.isFIFO() || info.isSocket() ? descriptor : undefined
}

async function readPipe(path: string, fd: number, signal: AbortSignal): Promise<Uint8Array> {
  const chunks: Uint8Array[] = []
  let size = 0
  for await (const chunk of createReadStream('', { fd, autoClose: false, signal })) {
    const bytes = chunk as Uint8Array
    chunks.push(bytes)
    size += bytes.length
    if (size > MAX_BYTES) {
      throw new FormatError('too-large', `${path}: expected at most ${MAX_BYTES} bytes`)
    }
  }
  return concatBytes(...chunks)
}

function decode(path: string, bytes: Uint8Array): string {
  try {
    return fromUtf8(bytes)
  } catch (error) {
    if (!(error instanceof FormatError)) throw error
    throw new InputError('usage', `${path}: expected a passphrase in UTF-8`, {}, error)
  }
}
