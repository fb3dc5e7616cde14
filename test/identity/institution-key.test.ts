import { readdir, rename, rm } from 'node:fs/promises'
import { basename, join } from 'node:path'
import { afterAll, describe, expect, it } from 'vitest'
import {
  completeRotation,
  institutionKeyId,
  loadInstitutionKey,
  openOrCreateInstitutionKey,
  prepareRotation,
} from '../../src/identity/institution-key.ts'
import { readKeyId } from '../../src/identity/key-file.ts'
import { cleanUp, folder } from '../support/folders.ts'

afterAll(cleanUp)

const CLEAR = { inTheClear: true } as const

/** The keys of FILE and FILE.next, and the one that a rotation has prepared. */
async function prepared() {
  const file = join(await folder(), 'archive.key')
  const { key, next } = await openOrCreateInstitutionKey(file, CLEAR)
  const rotation = await prepareRotation(file, CLEAR)
  return { file, key: key.peerId, next: next.peerId, afterNext: rotation.next.peerId }
}

describe('the files of an institution key', () => {
  it('hold the same keys when they are opened again', async () => {
    const { file, key, next, afterNext } = await prepared()
    const again = await openOrCreateInstitutionKey(file, CLEAR)
    expect([again.key.peerId, again.next.peerId]).toEqual([key, next])
    expect((await prepareRotation(file, CLEAR)).next.peerId).toBe(afterNext)
  })

  it.each([
    ['before the first move', []],
    ['after the first move', [['', '.replaced']]],
    [
      'after the second move',
      [
        ['', '.replaced'],
        ['.next', ''],
      ],
    ],
  ] as const)('are in their places after a rotation that was interrupted %s', async (_, moves) => {
    const { file, next, afterNext } = await prepared()
    for (const [from, to] of moves) await rename(`${file}${from}`, `${file}${to}`)
    expect((await loadInstitutionKey(file, CLEAR, next)).peerId).toBe(next)
    await completeRotation(file, next)
    await completeRotation(file, next)
    expect(await institutionKeyId(file)).toBe(next)
    expect(await readKeyId(`${file}.next`)).toBe(afterNext)
    const names = (await readdir(join(file, '..'))).sort()
    expect(names).toEqual(['', '.next', '.replaced'].map((end) => `${basename(file)}${end}`))
  })

  it('stay as they are if the rotation was not logged', async () => {
    const { file, key, next } = await prepared()
    await completeRotation(file, key)
    expect(await institutionKeyId(file)).toBe(key)
    expect(await readKeyId(`${file}.next`)).toBe(next)
  })

  it('name what is missing', async () => {
    const { file, key } = await prepared()
    await rm(`${file}.next`)
    await expect(prepareRotation(file, CLEAR)).rejects.toMatchObject({ code: 'not-found' })
    const other = await prepared()
    await expect(loadInstitutionKey(other.file, CLEAR, key)).rejects.toMatchObject({ code: 'mismatch' })
  })
})
