import { readdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, describe, expect, it } from 'vitest'
import { loadPublicModel } from '../../src/checkpoint/public-model.ts'
import { readSafetensors, toFloat32 } from '../../src/checkpoint/safetensors.ts'
import type { FloatDtype } from '../../src/lib/float-formats.ts'
import { countOf, dtypeOf, readBytes, readValues, type Weight, wholeValues } from '../../src/model/weights.ts'
import { cleanUp } from '../support/folders.ts'
import { publishedModel, replayFile } from '../support/model-folders.ts'

afterAll(cleanUp)

/** A folder in shards, with replay text. */
async function modelDir(dtype: FloatDtype): Promise<string> {
  const dir = await publishedModel(dtype)
  await writeFile(join(dir, 'replay.jsonl'), await readFile(await replayFile()))
  return dir
}

async function shardsOf(dir: string): Promise<string[]> {
  return (await readdir(dir)).filter((name) => name.endsWith('.safetensors')).map((name) => join(dir, name))
}

describe.each(['BF16', 'F16', 'F32'] as const)('a weight in a %s file', (dtype) => {
  it('has the values of the file, read whole or in parts that begin anywhere', async () => {
    const dir = await modelDir(dtype)
    const { weights } = await loadPublicModel(dir)
    for (const shard of await shardsOf(dir)) {
      for (const [name, entry] of readSafetensors(await readFile(shard)).tensors) {
        const weight = weights.get(name) as Weight
        expect([weight.shape, dtypeOf(weight)]).toEqual([entry.shape, dtype])
        const expected = toFloat32(entry)
        expect(await wholeValues(weight)).toEqual(expected)
        const count = countOf(weight)
        const part = new Float32Array(Math.min(5, count - 1))
        await readValues(weight, part, 1)
        expect(part).toEqual(expected.slice(1, 1 + part.length))
        const bytes = new Uint8Array(3)
        await readBytes(weight, bytes, 1)
        expect(bytes).toEqual(Uint8Array.from(entry.data.subarray(1, 4)))
      }
    }
  })
})

describe('a weight in a file', () => {
  it('names the file that has changed since', async () => {
    const dir = await modelDir('BF16')
    const { weights } = await loadPublicModel(dir)
    const [first = ''] = await shardsOf(dir)
    await writeFile(first, '')
    const read = async (): Promise<void> => {
      for (const weight of weights.values()) await wholeValues(weight)
    }
    await expect(read()).rejects.toThrow(/model-0000\d-of-\d+\.safetensors: ended while it was read/)
  })

  it('cannot be read past its end, where another tensor lies', async () => {
    const { weights } = await loadPublicModel(await modelDir('BF16'))
    const weight = weights.get('model.norm.weight') as Weight
    await expect(readValues(weight, new Float32Array(2), countOf(weight) - 1)).rejects.toThrow(RangeError)
    await expect(readBytes(weight, new Uint8Array(1), -1)).rejects.toThrow(RangeError)
  })

  it('stops reading when it is told to', async () => {
    const { weights } = await loadPublicModel(await modelDir('BF16'))
    const weight = weights.get('model.norm.weight') as Weight
    await expect(wholeValues(weight, AbortSignal.abort(new Error('enough')))).rejects.toThrow('enough')
  })
})
