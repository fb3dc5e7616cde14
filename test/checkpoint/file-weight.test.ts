import { readdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, describe, expect, it } from 'vitest'
import { loadPublicModel, loadPublicModelLazily } from '../../src/checkpoint/public-model.ts'
import { cleanUp } from '../support/folders.ts'
import { publishedModel, replayFile } from '../support/model-folders.ts'

afterAll(cleanUp)

/** A folder in shards, with replay text. */
async function modelDir(): Promise<string> {
  const dir = await publishedModel('BF16')
  await writeFile(join(dir, 'replay.jsonl'), await readFile(await replayFile()))
  return dir
}

describe('a public model that is loaded lazily', () => {
  it('has the same parameters, in the same order, each read once', async () => {
    const dir = await modelDir()
    const [whole, lazy] = await Promise.all([loadPublicModel(dir), loadPublicModelLazily(dir)])
    expect([...lazy.params.keys()]).toEqual([...whole.params.keys()])
    for (const [name, param] of lazy.params) {
      expect(param.shape).toEqual(whole.params.get(name)?.shape)
      expect(param.data).toEqual(whole.params.get(name)?.data)
      expect(param.data).toBe(param.data)
    }
  })

  it('names the file that has changed since', async () => {
    const dir = await modelDir()
    const lazy = await loadPublicModelLazily(dir)
    const shards = (await readdir(dir)).filter((name) => name.endsWith('.safetensors'))
    await writeFile(join(dir, shards[0] as string), '')
    const read = (): unknown => [...lazy.params.values()].map(({ data }) => data)
    expect(read).toThrow(/model-0000\d-of-\d+\.safetensors: ended while it was read/)
  })
})
