/** A limit of the operator on the size of a home folder. Knows nothing about what the files hold. */

import { lstat, readdir } from 'node:fs/promises'
import { join } from 'node:path'
import { ownCommand } from '../lib/command-line.ts'
import { hasErrno, InputError } from '../lib/errors.ts'
import { type FileSystemSize, fileSystemSize } from '../lib/free-space.ts'
import { gigabytes } from '../lib/memory.ts'

/** Size of a block in the count of `stat`, bytes. */
const BLOCK_BYTES = 512

/** Bytes that the files below a folder take on the disk. Files that are removed meanwhile do not count. */
export async function folderBytes(dir: string): Promise<number> {
  let bytes = 0
  for (const entry of await readdir(dir, { recursive: true, withFileTypes: true })) {
    if (entry.isDirectory()) continue
    try {
      // Files that are being received have holes, so their size is no measure.
      bytes += (await lstat(join(entry.parentPath, entry.name))).blocks * BLOCK_BYTES
    } catch (error) {
      if (!hasErrno(error, 'ENOENT')) throw error
    }
  }
  return bytes
}

/** The limit of one home folder. */
export class DiskQuota {
  readonly #root: string
  readonly maxBytes: number

  /** @param root the home folder */
  constructor(root: string, maxBytes: number) {
    this.#root = root
    this.maxBytes = maxBytes
  }

  /** What the folder may still grow: the rest of the quota, or the free space of the disk if that is less. */
  async size(): Promise<FileSystemSize> {
    const { totalBytes, freeBytes } = await fileSystemSize(this.#root)
    const left = Math.max(0, this.maxBytes - (await folderBytes(this.#root)))
    return totalBytes === 0
      ? { totalBytes: this.maxBytes, freeBytes: left }
      : { totalBytes: Math.min(totalBytes, this.maxBytes), freeBytes: Math.min(freeBytes, left) }
  }

  /** @throws InputError `disk-full` if the folder takes as much as it may. */
  async check(): Promise<void> {
    const taken = await folderBytes(this.#root)
    if (taken < this.maxBytes) return
    throw new InputError('disk-full', `${quotaWords(taken, this.maxBytes)}; ${QUOTA_ADVICE}`, {
      homeBytes: taken,
      maxBytes: this.maxBytes,
    })
  }
}

/** What to do about a quota that is used up. */
export const QUOTA_ADVICE = `run ${ownCommand('gc')} or ${ownCommand('forget', 'NAME')}, or start the node with a larger --max-disk`

/** As in "the home folder takes 1.2 GB of the 1.0 GB that --max-disk allows". */
export function quotaWords(taken: number, maxBytes: number): string {
  return `the home folder takes ${gigabytes(taken)} of the ${gigabytes(maxBytes)} that --max-disk allows`
}
