import { cp, rename, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { afterEach, describe, expect, it } from 'vitest'
import { Catalogue } from '../../src/store/catalogue.ts'
import { HomeMark } from '../../src/store/home-mark.ts'
import { cleanUp, folder } from '../support/folders.ts'

afterEach(cleanUp)

/** Open a home, do something with its mark, and close it. */
async function session<T>(home: string, body: (mark: HomeMark) => T | Promise<T>): Promise<T> {
  const catalogue = await Catalogue.open(home)
  try {
    return await body(await HomeMark.open(home, catalogue))
  } finally {
    await catalogue.close()
  }
}

const isCopied = (home: string): Promise<boolean> => session(home, (mark) => mark.isCopied)

/** A home that was opened before, and a place beside it. */
async function used(): Promise<{ home: string; backup: string }> {
  const dir = await folder()
  const [home, backup] = [join(dir, 'home'), join(dir, 'backup')]
  expect(await isCopied(home)).toBe(false)
  return { home, backup }
}

const copy = (from: string, to: string): Promise<void> =>
  cp(from, to, { recursive: true, preserveTimestamps: true })

describe('a home folder', () => {
  it('is no copy, however often it is opened, and after it was moved', async () => {
    const { home, backup } = await used()
    expect(await isCopied(home)).toBe(false)
    await session(home, (mark) => mark.replace())
    expect(await isCopied(home)).toBe(false)
    await rename(home, backup)
    expect(await isCopied(backup)).toBe(false)
  })

  it('that was restored from a backup is a copy until a member has told what it holds', async () => {
    const { home, backup } = await used()
    await copy(home, backup)
    await session(home, (mark) => mark.replace())
    await rm(home, { recursive: true })
    await copy(backup, home)
    expect(await isCopied(home)).toBe(true)
    expect(await isCopied(home)).toBe(true)
    await session(home, (mark) => mark.confirm())
    expect(await isCopied(home)).toBe(false)
  })

  it('is a copy if only the files that changed since the backup were restored', async () => {
    const { home, backup } = await used()
    await copy(home, backup)
    await session(home, (mark) => mark.replace())
    await rm(join(home, 'catalogue'), { recursive: true })
    await copy(join(backup, 'catalogue'), join(home, 'catalogue'))
    expect(await isCopied(home)).toBe(true)
  })

  it('is a copy if its mark is lost', async () => {
    const { home } = await used()
    await rm(join(home, 'mark'))
    expect(await isCopied(home)).toBe(true)
  })
})
