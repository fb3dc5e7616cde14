/** Free space of file systems, compared with what is about to be written. Knows nothing about files. */
import { statfs } from 'node:fs/promises'
import { InputError } from './errors.ts'

/** Size of a file system. */
export interface FileSystemSize {
  /** 0 if the system does not tell. */
  readonly totalBytes: number
  /** Bytes that an ordinary user may still write. */
  readonly freeBytes: number
}

/** Size of the file system that holds the folder `dir`. */
export async function fileSystemSize(dir: string): Promise<FileSystemSize> {
  const { blocks, bavail, bsize } = await statfs(dir)
  return { totalBytes: blocks * bsize, freeBytes: bavail * bsize }
}

/** The error of a write for which there is not enough space. */
export function diskFull(neededBytes: number, freeBytes: number, dir?: string): InputError {
  const [needed, free] = [neededBytes, freeBytes].map((bytes) => (bytes / 1e6).toFixed(1))
  const place = dir === undefined ? '' : ` for ${dir}`
  return new InputError(
    'disk-full',
    `expected ${needed} MB of free disk space${place}, got ${free} MB; free some space`,
    { neededBytes, freeBytes },
  )
}

/**
 * Check before a large write that its bytes fit the file system.
 * @param dir an existing folder
 * @throws InputError `disk-full` with `neededBytes` and `freeBytes` in its fields.
 */
export async function requireFreeSpace(dir: string, bytes: number): Promise<void> {
  const { totalBytes, freeBytes } = await fileSystemSize(dir)
  if (totalBytes > 0 && bytes > freeBytes) throw diskFull(bytes, freeBytes, dir)
}
