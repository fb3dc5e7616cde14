/**
 * A stream of any length as an encrypted file: a header, then boxes (NaCl secretbox, XSalsa20-Poly1305) of 64 KiB under a
 * key that scrypt derives from a passphrase and the whole header. The nonce of a box is its number and whether it is the
 * last one, so that no box can be moved, left out or added (the STREAM construction: Hoang, Reyhanitabar, Rogaway, Vizár,
 * "Online Authenticated-Encryption and its Nonce-Reuse Misuse-Resistance", 2015). Knows nothing about the content.
 *
 * Layout: the text `flexmesh-backup/1` and a line break, logN (1 byte), a salt (16 bytes), a box without content that
 * shows whether the passphrase is right (16 bytes), boxes.
 */
import { randomBytes } from 'node:crypto'
import type { FileHandle } from 'node:fs/promises'
import nacl from 'tweetnacl'
import { concatBytes, equalBytes, utf8 } from '../lib/bytes.ts'
import { FormatError, InputError } from '../lib/errors.ts'
import { mapDiskErrors, openFile } from '../lib/files.ts'
import {
  checkNewPassphrase,
  DEFAULT_LOG_N,
  MAX_LOG_N,
  MIN_LOG_N,
  passphraseKey,
} from '../lib/passphrase-key.ts'

const CONTEXT = 'flexmesh/v1/backup'
const MAGIC = utf8('flexmesh-backup/1\n')
/** What every version begins with. */
const ANY_VERSION = utf8('flexmesh-backup/')
const SALT_BYTES = 16
const BOX_OVERHEAD = nacl.secretbox.overheadLength
/** Magic, logN and salt, which the key depends on. */
const HEADER_BYTES = MAGIC.length + 1 + SALT_BYTES
const START_BYTES = HEADER_BYTES + BOX_OVERHEAD
/** Content of every box but the last one, which may be shorter or empty. */
export const SEALED_BYTES = 64 * 1024

/** The last byte of a nonce. */
const KIND = { middle: 0, last: 1, check: 2 } as const

/**
 * Encrypt a stream.
 * @param options.logN cost of scrypt; for tests
 * @returns the bytes of the file, piece by piece. @throws InputError `usage` for a short passphrase.
 */
export async function* sealed(
  content: AsyncIterable<Uint8Array>,
  passphrase: string,
  { logN = DEFAULT_LOG_N }: { logN?: number } = {},
): AsyncGenerator<Uint8Array, void, void> {
  checkNewPassphrase(passphrase)
  const header = concatBytes(MAGIC, Uint8Array.of(logN), new Uint8Array(randomBytes(SALT_BYTES)))
  const key = await keyOf(passphrase, header)
  yield header
  yield nacl.secretbox(new Uint8Array(), nonceOf(0, 'check'), key)
  const buffer = new Uint8Array(SEALED_BYTES)
  let filled = 0
  let index = 0
  for await (const piece of content) {
    for (let at = 0; at < piece.length; ) {
      // A full buffer waits for the next byte, because it may be the last one.
      if (filled === SEALED_BYTES) {
        yield nacl.secretbox(buffer, nonceOf(index++, 'middle'), key)
        filled = 0
      }
      const part = piece.subarray(at, at + SEALED_BYTES - filled)
      buffer.set(part, filled)
      filled += part.length
      at += part.length
    }
  }
  yield nacl.secretbox(buffer.subarray(0, filled), nonceOf(index, 'last'), key)
}

/**
 * Decrypt a file that `sealed` has made. Every piece is authenticated before it is returned, and the last one is returned
 * only if the file is whole.
 * @throws InputError `wrong-passphrase`, `not-acceptable` for another version; FormatError `bad-field` for a file that was
 * changed or is something else, `truncated`; the signal's reason.
 */
export async function* opened(
  path: string,
  passphrase: string,
  signal?: AbortSignal,
): AsyncGenerator<Uint8Array, void, void> {
  const handle = await openFile(path)
  try {
    const { size } = await handle.stat()
    const start = await read(handle, path, 0, Math.min(size, START_BYTES))
    const key = await openStart(path, start, passphrase)
    const step = SEALED_BYTES + BOX_OVERHEAD
    for (let index = 0, at = START_BYTES; ; index++, at += step) {
      signal?.throwIfAborted()
      const isLast = at + step >= size
      const box = await read(handle, path, at, Math.min(step, Math.max(0, size - at)))
      const content = nacl.secretbox.open(box, nonceOf(index, isLast ? 'last' : 'middle'), key)
      if (content === null) throw isLast ? cutOff(path, at) : changed(path, at)
      yield content
      if (isLast) return
    }
  } finally {
    await handle.close()
  }
}

/** @returns the key. @throws as `opened`. */
async function openStart(path: string, start: Uint8Array, passphrase: string): Promise<Uint8Array> {
  if (!equalBytes(start.subarray(0, MAGIC.length), MAGIC)) {
    if (equalBytes(start.subarray(0, ANY_VERSION.length), ANY_VERSION)) {
      throw new InputError(
        'not-acceptable',
        `${path} was written by another version of flexmesh, whose backups this one does not know; restore it with that version`,
      )
    }
    throw new FormatError('bad-field', `${path} is no backup; name a file that "flexmesh backup" has written`)
  }
  if (start.length < START_BYTES) throw cutOff(path, 0)
  const logN = start[MAGIC.length] as number
  if (logN < MIN_LOG_N || logN > MAX_LOG_N) throw changed(path, MAGIC.length)
  const key = await keyOf(passphrase, start.subarray(0, HEADER_BYTES))
  if (nacl.secretbox.open(start.subarray(HEADER_BYTES), nonceOf(0, 'check'), key) === null) {
    throw new InputError(
      'wrong-passphrase',
      `${path}: the passphrase is wrong, or the first ${START_BYTES} bytes of the file were changed`,
    )
  }
  return key
}

function keyOf(passphrase: string, header: Uint8Array): Promise<Uint8Array> {
  return passphraseKey(passphrase, concatBytes(utf8(CONTEXT), header), header[MAGIC.length] as number)
}

/** Never used twice with one key, because every file has its own salt. */
function nonceOf(index: number, kind: keyof typeof KIND): Uint8Array {
  const nonce = new Uint8Array(nacl.secretbox.nonceLength)
  new DataView(nonce.buffer).setBigUint64(nonce.length - 9, BigInt(index))
  nonce[nonce.length - 1] = KIND[kind]
  return nonce
}

/** @throws FormatError `truncated` if the file has become shorter meanwhile. */
async function read(handle: FileHandle, path: string, at: number, size: number): Promise<Uint8Array> {
  const bytes = new Uint8Array(size)
  for (let done = 0; done < size; ) {
    const { bytesRead } = await mapDiskErrors(path, () => handle.read(bytes, done, size - done, at + done))
    if (bytesRead === 0) throw cutOff(path, at)
    done += bytesRead
  }
  return bytes
}

function cutOff(path: string, at: number): FormatError {
  return new FormatError(
    'truncated',
    `${path} is not whole: it was cut off, or changed after byte ${at}; use another backup`,
  )
}

function changed(path: string, at: number): FormatError {
  return new FormatError('bad-field', `${path} was changed or damaged after byte ${at}; use another backup`)
}
