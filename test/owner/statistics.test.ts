import { mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { loadPublicModel, type PublicModel } from '../../src/checkpoint/public-model.ts'
import type { Corpus } from '../../src/data/corpus.ts'
import { packTokens, TokenFile } from '../../src/data/token-file.ts'
import { writeFileAtomic } from '../../src/lib/files.ts'
import { limit } from '../../src/lib/limits.ts'
import { STATISTICS_WINDOW } from '../../src/model/solved-router.ts'
import { openReplay } from '../../src/owner/replay.ts'
import {
  loadOwnStatistics,
  type OwnStatistics,
  ownStatistics,
  publicStatistics,
  saveOwnStatistics,
  unitStatistics,
} from '../../src/owner/statistics.ts'
import { trainingDirs } from '../../src/owner/training-folder.ts'
import { STATISTICS_DOCUMENTS } from '../../src/training/router-statistics.ts'
import { cleanUp, folder } from '../support/folders.ts'
import { madeUpStatistics } from '../support/router-statistics.ts'
import { tinyModel } from '../support/tiny-model.ts'

const V = 32

let model: PublicModel
beforeAll(async () => {
  model = await loadPublicModel(await tinyModel())
})
afterAll(cleanUp)

describe('publicStatistics', () => {
  it('counts the tokens of the replay text', async () => {
    const root = await folder()
    const signal = new AbortController().signal
    const { tokens } = await publicStatistics(model, root, signal)
    expect(tokens).toHaveLength(model.config.vocabSize)
    expect(tokens.reduce((sum, share) => sum + share, 0)).toBeCloseTo(1, 4)
    const { train, close } = await openReplay(model, root, signal)
    const ids = new Set(await train.read(0, train.tokens))
    await close()
    expect([...tokens.keys()].filter((id) => (tokens[id] as number) > 0 && !ids.has(id))).toEqual([])
  })
})

describe('statistics of an owner’s text', () => {
  /** Statistics of a text whose documents fill a window each. */
  async function statisticsOf(documents: number): Promise<OwnStatistics | undefined> {
    const path = join(await folder(), 'train.tokens')
    const ids = Int32Array.from({ length: documents * STATISTICS_WINDOW }, (_, i) =>
      i % STATISTICS_WINDOW === 0 ? model.tokenizer.endOfText : 1 + (i % 7),
    )
    await writeFileAtomic(path, packTokens(ids, 2))
    const train = await TokenFile.open(path, 2)
    const own = await ownStatistics(model, { train } as Corpus)
    await train.close()
    return own
  }

  it('need a minimum number of documents', async () => {
    const minimum = limit('statisticsDocuments')
    expect(await statisticsOf(minimum - 1)).toBeUndefined()
    const own = await statisticsOf(minimum)
    expect(own?.documents).toBe(minimum)
    expect(own?.statistics.tokens[model.tokenizer.endOfText]).toBeCloseTo(1 / STATISTICS_WINDOW, 6)
  })

  it('are kept in the folder of the training', async () => {
    const root = await folder()
    const dirs = trainingDirs(root, 'law')
    expect(await loadOwnStatistics(dirs)).toBeUndefined()
    await mkdir(join(dirs.statistics, '..'), { recursive: true })
    const own = { statistics: madeUpStatistics(V, 1), documents: 77 }
    await saveOwnStatistics(dirs, own)
    expect(await loadOwnStatistics(dirs)).toEqual(own)
  })
})

describe('unitStatistics', () => {
  it('change by at most the sensitivity of their noise when one unit is added in front of more than they count', async () => {
    const count = STATISTICS_DOCUMENTS + 300
    /** Every unit repeats one token. */
    const shares = async (ids: readonly number[]): Promise<Float32Array> => {
      const tokens = Int32Array.from(ids)
      const train = { read: async (at: number, n: number) => tokens.slice(at, at + n) } as Corpus['train']
      const units = ids.map((_, i) => [{ start: i, tokens: 1 }])
      const own = await unitStatistics(model, { train }, units)
      expect(own?.documents).toBe(STATISTICS_DOCUMENTS)
      return (own as OwnStatistics).statistics.tokens
    }
    const ids = Array.from({ length: count }, (_, i) => (i * i) % V)
    const [before, after] = [await shares(ids), await shares([V - 1, ...ids])]
    const distance = Math.hypot(...before.map((share, token) => share - (after[token] as number)))
    expect(distance).toBeGreaterThan(0)
    expect(distance).toBeLessThanOrEqual((Math.SQRT2 / STATISTICS_DOCUMENTS) * (1 + 1e-3))
  })
})
