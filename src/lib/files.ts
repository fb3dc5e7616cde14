/**
 * Durable, bounded, private file access. After a crash, a file written here has either its old or its new content,
 * never a mixture. Knows no format.
 */
import { randomBytes } from 'node:crypto'
import { mkdir, open, readFile, rename, rm, stat } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { toHex } from './bytes.ts'
import { FormatError, hasErrno, InputError } from './errors.ts'

export const PRIVATE_FILE_MODE = 0o600
export const PRIVATE_DIR_MODE = 0o700
/**
 * Bytes of a large file that are read at once: a multiple of every element size, and large enough that handing a read
 * to another thread, which takes as long as hashing 200 KiB, costs little.
 */
export const PIECE_BYTES = 4 * 2 ** 20

/** Create the folder `path` and its parents, readable by the owner only. */
export async function ensurePrivateDir(path: string): Promise<void> {
  await mapDiskErrors(path, () => mkdir(path, { recursive: true, mode: PRIVATE_DIR_MODE }))
}

/** Write a temporary file in the folder of `path`, flush it, rename it to `path`, flush the folder. */
export async function writeFileAtomic(
  path: string,
  data: Uint8Array | string | readonly Uint8Array[],
  options: { mode?: number; signal?: AbortSignal; onPart?: (bytes: number) => void } = {},
): Promise<void> {
  const temporary = join(dirname(path), `.${toHex(randomBytes(8))}.tmp`)
  await mapDiskErrors(path, async () => {
    try {
      const handle = await open(temporary, 'wx', options.mode ?? PRIVATE_FILE_MODE)
      try {
        for (const part of Array.isArray(data) ? data : [data]) {
          options.signal?.throwIfAborted()
          await handle.writeFile(part as Uint8Array | string)
          options.onPart?.(part.length)
        }
        await handle.sync()
      } finally {
        await handle.close()
      }
      await rename(temporary, path)
      await syncDir(dirname(path))
    } catch (error) {
      await rm(temporary, { force: true })
      throw error
    }
  })
}

/** Flush a folder's entries, so that a rename survives power loss. */
export async function syncDir(path: string): Promise<void> {
  const handle = await open(path, 'r')
  try {
    await handle.sync()
  } finally {
    await handle.close()
  }
}

/**
 * Read a whole file whose size is checked before it is read.
 * @throws FormatError `too-large`; InputError `not-found`, `permissions`, `io`.
 */
export async function readFileBounded(
  path: string,
  maxBytes: number,
  signal?: AbortSignal,
): Promise<Uint8Array> {
  return mapDiskErrors(path, async () => {
    const { size } = await stat(path)
    if (size > maxBytes) {
      throw new FormatError('too-large', `${path}: expected at most ${maxBytes} bytes, got ${size}`)
    }
    const buffer = await readFile(path, signal === undefined ? {} : { signal })
    return new Uint8Array(buffer.buffer, buffer.byteOffset, buffer.byteLength)
  })
}

export async function pathExists(path: string): Promise<boolean> {
  try {
    await stat(path)
    return true
  } catch (error) {
    if (hasErrno(error, 'ENOENT', 'ENOTDIR')) return false
    throw error
  }
}

/** Translate errors of the operating system into an InputError whose message says what to do. */
export async function mapDiskErrors<T>(path: string, action: () => Promise<T>): Promise<T> {
  try {
    return await action()
  } catch (error) {
    if (hasErrno(error, 'ENOSPC', 'EDQUOT', 'EFBIG')) {
      throw new InputError(
        'disk-full',
        `no space left to write ${path}; free some space and run the command again, nothing was lost`,
        { path },
        error,
      )
    }
    if (hasErrno(error, 'EACCES', 'EPERM', 'EROFS')) {
      throw new InputError(
        'permissions',
        `no permission for ${path}; check its owner and mode`,
        { path },
        error,
      )
    }
    if (hasErrno(error, 'ENOENT', 'ENOTDIR')) {
      throw new InputError('not-found', `${path} does not exist`, { path }, error)
    }
    throw error
  }
}
