/**
 * Free space of the file system that holds a folder. Downloads claim the bytes that they will write, so that several at
 * once do not count on the same space. Knows nothing about files.
 */
import { InputError } from '../lib/errors.ts'
import { diskFull, type FileSystemSize, fileSystemSize } from '../lib/free-space.ts'
import { gigabytes } from '../lib/memory.ts'
import { type DiskQuota, QUOTA_ADVICE } from './disk-quota.ts'

/**
 * Space that downloads leave free for the catalogue, trainings and other programs, bytes. On a small file system it is
 * the `RESERVED_SHARE` of it.
 */
const RESERVE_BYTES = 64 * 2 ** 20
const RESERVED_SHARE = 0.02

/** The part of the free space that one download has claimed. */
export interface SpaceClaim {
  /** The download needs this many bytes more. */
  remaining(bytes: number): void
  /** The download has ended. */
  release(): void
}

export class DiskSpace {
  readonly #size: () => Promise<FileSystemSize>
  readonly #claims = new Map<SpaceClaim, number>()

  readonly #quota: DiskQuota | undefined

  /**
   * @param size default: asks the quota, or the system about the file system of `dir`
   * @param quota a limit besides the size of the disk
   */
  constructor(
    dir: string,
    size: (() => Promise<FileSystemSize>) | undefined = undefined,
    quota: DiskQuota | undefined = undefined,
  ) {
    this.#quota = quota
    this.#size = size ?? (() => quota?.size() ?? fileSystemSize(dir))
  }

  /** Bytes that nobody has claimed, without the reserve. Infinite if the system does not tell. */
  async free(): Promise<number> {
    return Math.max(0, await this.#unclaimed())
  }

  /**
   * Claim space for a download.
   * @throws InputError `disk-full` with `neededBytes` and `freeBytes` in its fields.
   */
  async claim(bytes: number): Promise<SpaceClaim> {
    const claim: SpaceClaim = {
      remaining: (rest) => {
        if (this.#claims.has(claim)) this.#claims.set(claim, rest)
      },
      release: () => void this.#claims.delete(claim),
    }
    // Claimed before the system is asked, so that two claims at the same time see each other.
    this.#claims.set(claim, bytes)
    const beyond = await this.#unclaimed()
    if (beyond >= 0) return claim
    claim.release()
    const free = Math.max(0, beyond + bytes)
    if (this.#quota === undefined) throw diskFull(bytes, free)
    throw new InputError(
      'disk-full',
      `expected ${gigabytes(bytes)} within the ${gigabytes(this.#quota.maxBytes)} that --max-disk allows, got ${gigabytes(free)}; ${QUOTA_ADVICE}`,
      { neededBytes: bytes, freeBytes: free },
    )
  }

  /** Bytes that nobody has claimed, without the reserve; negative if more is claimed than is free. */
  async #unclaimed(): Promise<number> {
    const { totalBytes, freeBytes } = await this.#size()
    if (totalBytes === 0) return Number.POSITIVE_INFINITY
    const reserve = Math.min(RESERVE_BYTES, totalBytes * RESERVED_SHARE)
    const claimed = [...this.#claims.values()].reduce((sum, bytes) => sum + bytes, 0)
    return Math.floor(freeBytes - reserve - claimed)
  }
}
