import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import type { FileSystemSize } from '../../src/lib/free-space.ts'
import { DiskQuota } from '../../src/store/disk-quota.ts'
import { DiskSpace } from '../../src/store/disk-space.ts'
import { cleanUp, folder } from '../support/folders.ts'

const MIB = 2 ** 20
const GIB = 2 ** 30
const of = (size: FileSystemSize): DiskSpace => new DiskSpace('unused', async () => size)

describe('free space', () => {
  it.each([
    ['a large file system, less 64 MiB', 100 * GIB, 10 * GIB, 10 * GIB - 64 * MIB],
    ['a small one, less 2 % of it', 100 * MIB, 50 * MIB, 48 * MIB],
    ['a full one', 100 * GIB, 10 * MIB, 0],
    ['one whose size the system does not tell', 0, 0, Number.POSITIVE_INFINITY],
  ])('is that of %s', async (_, totalBytes, freeBytes, expected) => {
    expect(await of({ totalBytes, freeBytes }).free()).toBe(expected)
  })

  it('is that of a real folder', async () => {
    expect(await new DiskSpace(await folder()).free()).toBeGreaterThan(0)
    await cleanUp()
  })

  it('does not count what downloads have claimed and not written yet', async () => {
    const space = of({ totalBytes: 100 * MIB, freeBytes: 50 * MIB })
    const claim = await space.claim(30 * MIB)
    expect(await space.free()).toBe(18 * MIB)
    claim.remaining(10 * MIB)
    expect(await space.free()).toBe(38 * MIB)
    claim.release()
    claim.remaining(10 * MIB)
    expect(await space.free()).toBe(48 * MIB)
  })
})

describe('a claim', () => {
  it('beyond the quota of a home folder is refused with what to do', async () => {
    const home = await folder()
    const space = new DiskSpace(home, undefined, new DiskQuota(home, 100 * MIB))
    ;(await space.claim(90 * MIB)).release()
    await writeFile(join(home, 'file'), new Uint8Array(20 * MIB))
    await expect(space.claim(90 * MIB)).rejects.toThrow(
      'expected 94 MB within the 105 MB that --max-disk allows, got 82 MB; run `flexmesh gc`',
    )
    await cleanUp()
  })

  it('of more than is free is refused with both numbers, and claims nothing', async () => {
    const space = of({ totalBytes: 100 * MIB, freeBytes: 50 * MIB })
    await expect(space.claim(49 * MIB)).rejects.toMatchObject({
      code: 'disk-full',
      message: 'expected 51.4 MB of free disk space, got 50.3 MB; free some space',
      fields: { neededBytes: 49 * MIB, freeBytes: 48 * MIB },
    })
    expect(await space.free()).toBe(48 * MIB)
  })

  it('sees another one that is made at the same time', async () => {
    const space = of({ totalBytes: 100 * MIB, freeBytes: 50 * MIB })
    const claims = await Promise.allSettled([space.claim(30 * MIB), space.claim(30 * MIB)])
    expect(claims.filter(({ status }) => status === 'fulfilled').length).toBeLessThanOrEqual(1)
  })
})
