import { chmod, readFile, stat, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, describe, expect, it } from 'vitest'
import { loadIdentity, saveIdentity } from '../../src/identity/key-file.ts'
import { createIdentity } from '../../src/identity/keys.ts'
import { cleanUp, folder } from '../support/folders.ts'
import { codeOfAsync } from '../support/packages.ts'

const alice = createIdentity(new Uint8Array(32).fill(7))
const PASSPHRASE = 'a long passphrase'
/** The cheapest key derivation that a key file may ask for. */
const CHEAP = { logN: 15 }

afterAll(cleanUp)

async function encrypted(): Promise<string> {
  const path = join(await folder(), 'key.json')
  await saveIdentity(path, alice, { passphrase: PASSPHRASE }, CHEAP)
  return path
}

/** Change one field of a key file. */
async function changed(path: string, change: Record<string, unknown>): Promise<string> {
  await writeFile(path, JSON.stringify({ ...JSON.parse(await readFile(path, 'utf8')), ...change }))
  return path
}

describe('a key file', () => {
  it('returns the identity for its passphrase, and the file does not hold the key in the clear', async () => {
    const path = await encrypted()
    expect(await loadIdentity(path, PASSPHRASE)).toEqual(alice)
    const text = await readFile(path, 'utf8')
    expect(text).not.toContain(Buffer.from(alice.secretKey).toString('base64'))
    expect((await stat(path)).mode & 0o777).toBe(0o600)
  })

  it('holds the key in the clear on request', async () => {
    const path = join(await folder(), 'key.json')
    await saveIdentity(path, alice, { inTheClear: true })
    expect(await loadIdentity(path)).toEqual(alice)
  })

  it('is never overwritten', async () => {
    const path = await encrypted()
    const before = await readFile(path)
    expect(await codeOfAsync(() => saveIdentity(path, alice, { inTheClear: true }))).toBe('exists')
    expect(await readFile(path)).toEqual(before)
  })

  it('is not written under a short passphrase', async () => {
    const path = join(await folder(), 'key.json')
    expect(await codeOfAsync(() => saveIdentity(path, alice, { passphrase: 'short' }, CHEAP))).toBe('usage')
    await expect(stat(path)).rejects.toThrow('ENOENT')
  })

  it('needs its own passphrase', async () => {
    const path = await encrypted()
    expect(await codeOfAsync(() => loadIdentity(path))).toBe('usage')
    expect(await codeOfAsync(() => loadIdentity(path, 'another passphrase'))).toBe('wrong-passphrase')
  })

  it('is refused if others may read it', async () => {
    const path = await encrypted()
    await chmod(path, 0o640)
    await expect(loadIdentity(path, PASSPHRASE)).rejects.toThrow(/can be read by others; run: chmod 600/)
  })

  it('is refused with a changed header', async () => {
    const bob = createIdentity(new Uint8Array(32).fill(8))
    const path = await changed(await encrypted(), { peerId: bob.peerId })
    await expect(loadIdentity(path, PASSPHRASE)).rejects.toThrow('key file: its header was changed')
  })

  it.each([
    ['a cheaper key derivation', { logN: 14 }, 'bad-field'],
    ['a key derivation that exhausts the memory', { logN: 21 }, 'bad-field'],
    ['a nonce of another length', { nonce: 'AAAA' }, 'bad-field'],
    ['another version', { v: 2 }, 'bad-field'],
    ['an unknown field', { extra: 1 }, 'bad-field'],
  ])('is refused with %s', async (_, change, code) => {
    const path = await changed(await encrypted(), change)
    expect(await codeOfAsync(() => loadIdentity(path, PASSPHRASE))).toBe(code)
  })

  it('is refused if it is not JSON', async () => {
    const path = await encrypted()
    await writeFile(path, 'not JSON')
    expect(await codeOfAsync(() => loadIdentity(path, PASSPHRASE))).toBe('not-json')
  })
})
