import { readdir } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, describe, expect, it } from 'vitest'
import { openCheckpoint } from '../../src/checkpoint/checkpoint-directory.ts'
import { type TensorSource, writeHuggingFaceDirectory } from '../../src/checkpoint/huggingface-directory.ts'
import { limit } from '../../src/lib/limits.ts'
import { cleanUp, folder } from '../support/folders.ts'
import { codeOfAsync } from '../support/packages.ts'

afterAll(cleanUp)

const source = (name: string, bytes = 4): TensorSource => ({
  name,
  dtype: 'F32',
  shape: [1],
  pieces: () => [new Uint8Array(bytes)],
})
const many = (count: number): TensorSource[] => Array.from({ length: count }, (_, i) => source(`t${i}`))
const write = async (
  tensors: TensorSource[],
  options: Parameters<typeof writeHuggingFaceDirectory>[2] = {},
): Promise<string> => {
  const dir = join(await folder(), 'model')
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

  it('does not appear if a tensor is too short, a name is used twice or the write is aborted', async () => {
    const parent = await folder()
    const dir = join(parent, 'model')
    const content = (tensors: TensorSource[]) => ({ tensors, files: new Map([['config.json', '{}']]) })
    const codes = [
      await codeOfAsync(() => writeHuggingFaceDirectory(dir, content([source('a'), source('b', 3)]))),
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
})
