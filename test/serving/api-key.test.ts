import { readdir, readFile, stat, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { loadApiKey } from '../../src/serving/api-key.ts'
import { cleanUp, folder } from '../support/folders.ts'

let dir: string
beforeEach(async () => {
  dir = await folder()
})
afterEach(cleanUp)

describe('the API key', () => {
  it('is created once, readable by its owner only', async () => {
    const path = join(dir, 'api-key')
    const key = await loadApiKey(path)
    expect(key).toMatch(/^fm-[0-9a-f]{48}$/)
    expect(await loadApiKey(path)).toBe(key)
    expect((await stat(path)).mode & 0o777).toBe(0o600)
  })

  it('is one and the same for all that create it at the same time', async () => {
    const path = join(dir, 'api-key')
    const keys = await Promise.all(Array.from({ length: 20 }, () => loadApiKey(path)))
    expect(new Set(keys).size).toBe(1)
    expect(await readFile(path, 'utf8')).toBe(`${keys[0]}\n`)
    expect(await readdir(dir)).toEqual(['api-key'])
  })

  it('is not read from an empty file, which would admit a request without a key', async () => {
    const path = join(dir, 'api-key')
    await writeFile(path, '\n')
    await expect(loadApiKey(path)).rejects.toMatchObject({ code: 'empty' })
  })
})
