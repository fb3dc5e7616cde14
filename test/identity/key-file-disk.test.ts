import type { FileHandle } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, describe, expect, it, vi } from 'vitest'
import { loadIdentity, saveIdentity } from '../../src/identity/key-file.ts'
import { createIdentity } from '../../src/identity/keys.ts'
import { cleanUp, folder } from '../support/folders.ts'

/** Whether the disk is full. */
const disk = vi.hoisted(() => ({ full: false }))
vi.mock('node:fs/promises', async (original) => {
  const real = await original<typeof import('node:fs/promises')>()
  const open = async (...args: Parameters<typeof real.open>): Promise<FileHandle> => {
    const handle = await real.open(...args)
    if (disk.full) {
      handle.sync = () => Promise.reject(Object.assign(new Error('no space'), { code: 'ENOSPC' }))
    }
    return handle
  }
  return { ...real, open }
})

afterAll(cleanUp)

describe('a key file on a full disk', () => {
  it('is removed, so that the key can be saved once there is space', async () => {
    const path = join(await folder(), 'key.json')
    const alice = createIdentity(new Uint8Array(32).fill(7))
    disk.full = true
    const failed = saveIdentity(path, alice, { inTheClear: true })
    await expect(failed).rejects.toMatchObject({ code: 'disk-full' })
    disk.full = false
    await saveIdentity(path, alice, { inTheClear: true })
    expect(await loadIdentity(path)).toEqual(alice)
  })
})
