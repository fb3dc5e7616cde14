import { join } from 'node:path'
import { afterAll, describe, expect, it } from 'vitest'
import { disjointStretches, packTokens, TokenFile, windowSampler } from '../../src/data/token-file.ts'
import { writeFileAtomic } from '../../src/lib/files.ts'
import { cleanUp, folder } from '../support/folders.ts'

afterAll(cleanUp)

async function tokenFile(ids: readonly number[]): Promise<TokenFile> {
  const path = join(await folder(), 'train.tokens')
  await writeFileAtomic(path, packTokens(Int32Array.from(ids), 2))
  return TokenFile.open(path, 2)
}

describe('windowSampler', () => {
  it('is a function of the seed and the index only', async () => {
    const file = await tokenFile(Array.from({ length: 5000 }, (_, i) => i))
    const sample = windowSampler(file, 33, 5)
    expect(await sample(4)).toEqual(await windowSampler(file, 33, 5)(4))
    expect(await sample(4)).not.toEqual(await sample(5))
    expect(await sample(4)).not.toEqual(await windowSampler(file, 33, 6)(4))
    expect((await sample(4)).length).toBe(33)
    await file.close()
  })

  it('repeats a file that is shorter than a window', async () => {
    const file = await tokenFile([1, 2, 3])
    expect([...(await windowSampler(file, 7, 5)(0))]).toEqual([1, 2, 3, 1, 2, 3, 1])
    await file.close()
  })
})

describe('disjointStretches', () => {
  it('returns disjoint stretches of one document each', async () => {
    // Documents of 100, 3 and 60 ids, each after a boundary 0.
    const ids = [100, 3, 60].flatMap((length, i) => [0, ...new Array(length).fill(i + 1)])
    const file = await tokenFile(ids)
    const all = await disjointStretches(file, 0, 32, 100)
    expect(all.map((part) => [part.length, new Set(part.filter((id) => id !== 0)).size])).toEqual([
      [32, 1],
      [32, 1],
      [32, 1],
      [23, 1],
      [32, 1],
    ])
    const few = await disjointStretches(file, 0, 32, 2)
    expect(few.map((part) => Array.from(part))).toEqual(
      [all[0], all[2]].map((part) => Array.from(part ?? [])),
    )
    await file.close()
  })
})
