import { mkdir, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { afterEach, expect, it } from 'vitest'
import { utf8 } from '../../src/lib/bytes.ts'
import { writeHashedFile } from '../../src/store/write-hashed.ts'
import { cleanUp, folder } from '../support/folders.ts'

afterEach(cleanUp)

it('fails with the error of its pieces, also if what it has written cannot be removed', async () => {
  const path = join(await folder(), 'file')
  async function* pieces(): AsyncGenerator<Uint8Array, void, void> {
    yield utf8('the first piece')
    await rm(path)
    await mkdir(path)
    throw new Error('the text is no longer there')
  }
  await expect(writeHashedFile(path, pieces())).rejects.toThrow('the text is no longer there')
})
