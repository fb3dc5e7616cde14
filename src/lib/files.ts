/**
 * Durable, bounded, private file access. After a crash, a file written here has either its old or its new content,
 * never a mixture. Knows no format.
 */
import { randomBytes } from 'node:crypto'
import { constants } from 'node:fs'
import { type FileHandle, mkdir, open, rename, rm, stat } from 'node:fs/promises'
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

/**
 * Create the folder `path` and its missing parents, readable by the owner only. Existing folders keep their mode.
 * @throws InputError `permissions` for a place where no folder can be created; `not-a-file` if a file is in the way.
 */
export async function ensurePrivateDir(path: string): Promise<void> {
  const missing: string[] = []
  // Not `mkdir` with `recursive`, which never ends in some places that only the system writes, such as /proc.
  for (let dir = path; !(await pathExists(dir)); dir = dirname(dir)) missing.unshift(dir)
  for (const dir of missing) await mapDiskErrors(dir, () => createDir(dir))
  const info = await mapDiskErrors(path, () => stat(path))
  if (!info.isDirectory()) throw new InputError('not-a-file', `${path} is not a folder; choose another path`)
}

async function createDir(path: string): Promise<void> {
  try {
    await mkdir(path, { mode: PRIVATE_DIR_MODE })
  } catch (error) {
    if (hasErrno(error, 'EEXIST')) return // Another process or a dangling link; the caller looks at the result.
    if (hasErrno(error, 'ENOENT')) {
      throw new InputError('permissions', `${path} cannot be created; choose another folder`, { path }, error)
    }
    throw error
  }
}

/**
 * Whether other users of the machine may enter a folder, read or write it.
 * @returns false where the system has no such modes.
 * @throws InputError `not-found`, `permissions`.
 */
export async function isOpenToOthers(path: string): Promise<boolean> {
  const { mode } = await mapDiskErrors(path, () => stat(path))
  return process.platform !== 'win32' && (mode & 0o077) !== 0
}

/**
 * Write a temporary file in the folder of `path`, flush it, rename it to `path`, flush the folder.
 * @param options.sync false: flush nothing, so that only the end of the process, not of the machine, is survived
 */
export async function writeFileAtomic(
  path: string,
  data: Uint8Array | string | readonly Uint8Array[],
  options: { mode?: number; signal?: AbortSignal; onPart?: (bytes: number) => void; sync?: boolean } = {},
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
        if (options.sync !== false) await handle.sync()
      } finally {
        await handle.close()
      }
      await rename(temporary, path)
      if (options.sync !== false) await syncDir(dirname(path))
    } catch (error) {
      await removeLeftOver(temporary)
      throw error
    }
  })
}

/** Remove a file after a failure, whose error matters more than one of this removal. Never rejects. */
export async function removeLeftOver(path: string): Promise<void> {
  await rm(path, { force: true }).catch(() => undefined)
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

/** Without waiting for the other end of a named pipe; the flag changes nothing for regular files. */
const READ_WITHOUT_WAITING = constants.O_RDONLY | (constants.O_NONBLOCK ?? 0)

/**
 * Open a regular file for reading. Follows links.
 * @throws InputError `not-a-file` for a folder, named pipe, socket or device; `not-found`, `permissions`, `io`.
 */
export async function openFile(path: string): Promise<FileHandle> {
  return mapDiskErrors(path, async () => {
    const handle = await open(path, READ_WITHOUT_WAITING)
    const info = await handle.stat()
    if (info.isFile()) return handle
    await handle.close()
    const kind = info.isDirectory() ? 'a folder' : info.isFIFO() ? 'a named pipe' : 'a device'
    throw new InputError('not-a-file', `${path} is ${kind}; expected a regular file`, { path })
  })
}

/**
 * Read a whole regular file whose size is checked before it is read.
 * @throws FormatError `too-large`; InputError `not-a-file`, `not-found`, `permissions`, `io`.
 */
export async function readFileBounded(
  path: string,
  maxBytes: number,
  signal?: AbortSignal,
): Promise<Uint8Array> {
  const handle = await openFile(path)
  try {
    const { size } = await handle.stat()
    if (size > maxBytes) {
      throw new FormatError('too-large', `${path}: expected at most ${maxBytes} bytes, got ${size}`)
    }
    const buffer = await mapDiskErrors(path, () => handle.readFile(signal === undefined ? {} : { signal }))
    return new Uint8Array(buffer.buffer, buffer.byteOffset, buffer.byteLength)
  } finally {
    await handle.close()
  }
}

/** @throws InputError `permissions` if a folder on the way may not be entered. */
export async function pathExists(path: string): Promise<boolean> {
  return mapDiskErrors(path, async () => {
    try {
      await stat(path)
      return true
    } catch (error) {
      if (hasErrno(error, 'ENOENT', 'ENOTDIR')) return false
      throw error
    }
  })
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
    if (hasErrno(error, 'EROFS')) {
      throw new InputError(
        'permissions',
        `${path} is on a read-only file system; look for errors of the disk, or mount it for writing`,
        { path },
        error,
      )
    }
    if (hasErrno(error, 'EACCES', 'EPERM')) {
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
    if (hasErrno(error, 'EISDIR')) {
      throw new InputError('not-a-file', `${path} is a folder; expected a regular file`, { path }, error)
    }
    if (hasErrno(error, 'ENXIO', 'EOPNOTSUPP')) {
      throw new InputError('not-a-file', `${path} is a socket; expected a regular file`, { path }, error)
    }
    if (hasErrno(error, 'ERR_INVALID_ARG_VALUE')) {
      throw new InputError('usage', `${path}: a path has no null character`, { path }, error)
    }
    if (hasErrno(error, 'ENAMETOOLONG')) {
      throw new InputError('usage', `${path}: the path is too long; choose a shorter one`, { path }, error)
    }
    if (hasErrno(error, 'ELOOP', 'EIO', 'EMFILE', 'ENFILE', 'EBUSY', 'ENODEV', 'ESTALE', 'EINVAL')) {
      throw new InputError('io', `${path} cannot be read or written: ${textOf(error)}`, { path }, error)
    }
    throw error
  }
}

function textOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error)
}
