import type { FileHandle } from 'node:fs/promises'
import { mkdir, readdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeEach, describe, expect, it, vi } from 'vitest'
import { openCorpus } from '../../src/data/corpus.ts'
import { prepareCorpus } from '../../src/data/prepare-corpus.ts'
import { Tokenizer } from '../../src/data/tokenizer.ts'
import { cleanUp, folder, SMALL_MODEL } from '../support/folders.ts'

/** Every file that was opened, and the paths that cannot be opened. */
const { opened, refused } = vi.hoisted(() => ({
  opened: [] as { path: string; handle: FileHandle }[],
  refused: new Set<string>(),
}))
vi.mock('node:fs/promises', async (original) => {
  const real = await original<typeof import('node:fs/promises')>()
  const open = async (...args: Parameters<typeof real.open>): Promise<FileHandle> => {
    const path = String(args[0])
    if (refused.has(path)) throw Object.assign(new Error('no space left'), { code: 'ENOSPC' })
    const handle = await real.open(...args)
    opened.push({ path, handle })
    return handle
  }
  return { ...real, open }
})

const tokenizer = Tokenizer.load(new Uint8Array(await readFile(join(SMALL_MODEL, 'tokenizer.json'))))

/** Paths of the files that are still open. */
const stillOpen = (): string[] => opened.filter(({ handle }) => handle.fd >= 0).map(({ path }) => path)

async function textFile(): Promise<{ paths: string[]; outDir: string }> {
  const dir = await folder()
  const lines = Array.from({ length: 100 }, (_, i) => JSON.stringify({ text: `Document number ${i}.` }))
  await writeFile(join(dir, 'a.jsonl'), lines.join('\n'))
  return { paths: [join(dir, 'a.jsonl')], outDir: join(dir, 'corpus') }
}

beforeEach(() => {
  opened.length = 0
  refused.clear()
})
afterAll(cleanUp)

describe('the files of a corpus', () => {
  it.each(['train.tokens', 'held-out.tokens'])(
    'are closed and removed when %s cannot get its name',
    async (name) => {
      const { paths, outDir } = await textFile()
      // A folder that is not empty cannot be replaced by a file.
      await mkdir(join(outDir, name, 'full'), { recursive: true })
      await expect(prepareCorpus({ paths, tokenizer, outDir })).rejects.toThrow()
      expect(opened.length).toBeGreaterThan(1)
      expect(stillOpen()).toEqual([])
      expect((await readdir(outDir)).filter((file) => file.endsWith('.tmp'))).toEqual([])
    },
  )

  it('are closed and removed when the second one cannot be created', async () => {
    const { paths, outDir } = await textFile()
    refused.add(join(outDir, 'held-out.tokens.tmp'))
    await expect(prepareCorpus({ paths, tokenizer, outDir })).rejects.toThrow('no space left')
    expect(opened.length).toBeGreaterThan(0)
    expect(stillOpen()).toEqual([])
    expect(await readdir(outDir)).toEqual([])
  })

  it('are closed when the index is damaged', async () => {
    const { paths, outDir } = await textFile()
    await (await prepareCorpus({ paths, tokenizer, outDir })).close()
    const index = join(outDir, 'corpus.json')
    const { paths: _, ...damaged } = JSON.parse(await readFile(index, 'utf8')) as Record<string, unknown>
    await writeFile(index, JSON.stringify(damaged))
    await expect(openCorpus(outDir, tokenizer)).rejects.toThrow('paths')
    expect(stillOpen()).toEqual([])
  })
})
