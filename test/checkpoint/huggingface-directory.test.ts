import { spawnSync } from 'node:child_process'
import { mkdir, readdir, stat, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, describe, expect, it } from 'vitest'
import { openCheckpoint } from '../../src/checkpoint/checkpoint-directory.ts'
import { DiskFile, FileWeight } from '../../src/checkpoint/file-weight.ts'
import { writeHuggingFaceDirectory } from '../../src/checkpoint/huggingface-directory.ts'
import type { NamedTensor } from '../../src/checkpoint/tensor-file.ts'
import { limit } from '../../src/lib/limits.ts'
import type { WeightSource } from '../../src/model/weights.ts'
import { cleanUp, folder } from '../support/folders.ts'
import { codeOfAsync } from '../support/packages.ts'

afterAll(cleanUp)

const source = (name: string): NamedTensor => ({ name, weight: { shape: [1], data: Float32Array.of(1) } })
const many = (count: number): NamedTensor[] => Array.from({ length: count }, (_, i) => source(`t${i}`))
const write = async (
  tensors: NamedTensor[],
  options: Parameters<typeof writeHuggingFaceDirectory>[2] = {},
  target?: string,
): Promise<string> => {
  const dir = target ?? join(await folder(), 'model')
  await writeHuggingFaceDirectory(dir, { tensors, files: new Map() }, options)
  return dir
}

describe('a written model folder', () => {
  it.each([
    ['one file without an index', many(3), undefined, 1],
    ['as many files as the shard size demands', many(7), 8, 4],
    ['a file of its own for a tensor above the shard size', many(2), 1, 2],
    ['no more tensors in a file than a reader accepts', many(limit('tensorsPerFile') + 1), undefined, 2],
  ])('has %s', async (_, tensors, shardBytes, files) => {
    const {
      weightFiles,
      indexed,
      tensors: found,
    } = await openCheckpoint(await write(tensors, { shardBytes }))
    expect(weightFiles).toHaveLength(files)
    expect(indexed).toBe(files > 1)
    expect([...found.keys()].sort()).toEqual(tensors.map(({ name }) => name).sort())
  })

  it('does not appear if a tensor cannot be read, a name is used twice or the write is aborted', async () => {
    const parent = await folder()
    const dir = join(parent, 'model')
    const content = (tensors: NamedTensor[]) => ({ tensors, files: new Map([['config.json', '{}']]) })
    const path = join(await folder(), 'short')
    await writeFile(path, 'abc')
    const location = { name: 'b', dtype: 'F32' as const, shape: [1], offset: 0, length: 4 }
    const short = { name: 'b', weight: new FileWeight(new DiskFile(path), location) }
    const codes = [
      await codeOfAsync(() => writeHuggingFaceDirectory(dir, content([source('a'), short]))),
      await codeOfAsync(() => writeHuggingFaceDirectory(dir, content([source('a'), source('a')]))),
    ]
    expect(codes).toEqual(['truncated', 'bad-safetensors'])
    const abort = new AbortController()
    const onProgress = (): void => abort.abort()
    const { signal } = abort
    await expect(
      writeHuggingFaceDirectory(dir, content(many(3)), { signal, onProgress }),
    ).rejects.toMatchObject({ name: 'AbortError' })
    expect(await readdir(parent)).toEqual([])
    await writeHuggingFaceDirectory(dir, content(many(3)))
    expect(await readdir(dir)).toEqual(['config.json', 'model.safetensors'])
  })

  it('reports the bytes of all weight files, up to the last one', async () => {
    const reports: [number, number][] = []
    const dir = join(await folder(), 'model')
    const onProgress = (...report: [number, number]): void => void reports.push(report)
    await writeHuggingFaceDirectory(
      dir,
      { tensors: many(7), files: new Map() },
      { shardBytes: 8, onProgress },
    )
    const files = (await readdir(dir)).filter((name) => name.endsWith('.safetensors'))
    const sizes = await Promise.all(files.map(async (name) => (await stat(join(dir, name))).size))
    const total = sizes.reduce((a, b) => a + b, 0)
    expect(reports).toHaveLength(7)
    expect(reports.at(-1)).toEqual([total, total])
  })

  it('is refused before anything is written if the disk has too little space', async () => {
    const parent = await folder()
    const huge: WeightSource = {
      shape: [2 ** 24, 2 ** 24],
      dtype: 'BF16',
      read: () => Promise.reject(new Error('read')),
      readBytes: () => Promise.reject(new Error('read')),
    }
    const content = { tensors: [{ name: 'huge', weight: huge }], files: new Map<string, string>() }
    await expect(writeHuggingFaceDirectory(join(parent, 'model'), content)).rejects.toMatchObject({
      code: 'disk-full',
      message: expect.stringMatching(
        /^expected 562949953\.\d MB of free disk space for .*, got .* MB; free some space$/,
      ),
    })
    expect(await readdir(parent)).toEqual([])
  })

  it('replaces what a killed process has left of it, and nothing else', async () => {
    const parent = await folder()
    const dir = join(parent, 'model')
    const ended = spawnSync(process.execPath, ['--eval', '']).pid
    const left = (name: string, pid: number): string => `.${name}.${pid}-0123456789ab.tmp`
    const others = [left('model', process.ppid), left('other', ended), '.model.tmp']
    for (const name of [left('model', ended), left('model', process.pid), ...others]) {
      await mkdir(join(parent, name))
      await writeFile(join(parent, name, 'model.safetensors'), 'part of a file')
    }
    await write(many(3), {}, dir)
    expect((await readdir(parent)).sort()).toEqual([...others, 'model'].sort())
  })
})
