import { mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import fc from 'fast-check'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { gateShares, statisticsShare } from '../../src/acceptance/gate-share.ts'
import { checkStatistics } from '../../src/acceptance/weight-checks.ts'
import { loadPublicModel, type PublicModel } from '../../src/checkpoint/public-model.ts'
import type { Corpus } from '../../src/data/corpus.ts'
import { disjointStretches, packTokens, TokenFile } from '../../src/data/token-file.ts'
import { writeFileAtomic } from '../../src/lib/files.ts'
import { limit } from '../../src/lib/limits.ts'
import { mulberry32 } from '../../src/lib/random.ts'
import { STATISTICS_TOKENS } from '../../src/lib/tensor-names.ts'
import { type RouterStatistics, STATISTICS_WINDOW, solveGate } from '../../src/model/solved-router.ts'
import { openReplay } from '../../src/owner/replay.ts'
import {
  loadOwnStatistics,
  type OwnStatistics,
  ownStatistics,
  publicStatistics,
  saveOwnStatistics,
} from '../../src/owner/statistics.ts'
import { trainingDirs } from '../../src/owner/training-folder.ts'
import { routerStatistics } from '../../src/training/router-statistics.ts'
import { cleanUp, folder, tinyModel } from '../support/network.ts'
import { codeOf } from '../support/packages.ts'
import { madeUpStatistics, naiveBayes } from '../support/router-statistics.ts'

const V = 32
/** Log-odds as the statistics give them, the public text one of the owners. */
const PLAIN = { scale: 1, prior: 0 }
const documentsOf = (lengths: readonly number[], seed = 1): Int32Array[] => {
  const random = mulberry32(seed)
  // Low tokens more often than high ones, and which those are differs between seeds.
  return lengths.map((length) =>
    Int32Array.from({ length }, () => (Math.floor(random() * random() * V) + 5 * seed) % V),
  )
}

let model: PublicModel
beforeAll(async () => {
  model = await loadPublicModel(await tinyModel())
})
afterAll(cleanUp)

describe('router statistics', () => {
  it('count each document the same, however long, and of it no more than a window', () => {
    const [short, long] = [Int32Array.of(2), Int32Array.of(0, 3, 0, 0)]
    expect([...routerStatistics(5, [short, long]).tokens]).toEqual([0.375, 0, 0.5, 0.125, 0])
    const tooLong = Int32Array.from({ length: 3 * STATISTICS_WINDOW }, (_, i) =>
      i < STATISTICS_WINDOW ? 1 : 2,
    )
    expect([...routerStatistics(3, [tooLong]).tokens]).toEqual([0, 1, 0])
    expect(() => routerStatistics(3, [])).toThrow(RangeError)
  })

  const document = fc
    .array(fc.integer({ min: 0, max: V - 1 }), { minLength: 1, maxLength: 200 })
    .map((ids) => Int32Array.from(ids))
  const documents = fc.array(document, { minLength: 1, maxLength: 12 })

  it('are shares of one whole, which move by 2/n together when one of n documents is exchanged', () => {
    const moved = (a: readonly Int32Array[], b: readonly Int32Array[]): number[] => {
      const [before, after] = [a, b].map((all) => routerStatistics(V, all).tokens) as [
        Float32Array,
        Float32Array,
      ]
      const by = Array.from(before, (share, v) => share - (after[v] as number))
      return [by.reduce((sum, x) => sum + Math.abs(x), 0), Math.hypot(...by)]
    }
    fc.assert(
      fc.property(documents, document, (all, other) => {
        const { tokens } = routerStatistics(V, all)
        expect(tokens.every((share) => share >= 0)).toBe(true)
        expect(tokens.reduce((sum, share) => sum + share, 0)).toBeCloseTo(1, 6)
        const [l1, l2] = moved(all, [other, ...all.slice(1)])
        expect(l1).toBeLessThanOrEqual(2 / all.length + 1e-6)
        expect(l2).toBeLessThanOrEqual(Math.SQRT2 / all.length + 1e-6)
      }),
      { seed: 3, numRuns: 200 },
    )
    const [zeros, ones] = [new Int32Array(9), new Int32Array(4).fill(1)]
    const rest = documentsOf([5, 6, 7])
    const [l1, l2] = moved([zeros, ...rest], [ones, ...rest])
    expect(l1).toBeCloseTo(2 / 4, 6)
    expect(l2).toBeCloseTo(Math.SQRT2 / 4, 6)
  })
})

describe('shares of a gate', () => {
  it('are its mean probabilities over the tokens of a document, then over documents', () => {
    const all = [1, 2, 3].map((seed) => madeUpStatistics(V, seed))
    const documents = documentsOf([40, 1, 7])
    const expected = [0, 0, 0]
    for (const ids of documents) {
      for (const logits of naiveBayes(all, ids, PLAIN)) {
        const odds = logits.map(Math.exp)
        const total = odds.reduce((a, b) => a + b)
        odds.forEach((value, e) => {
          expected[e] = (expected[e] as number) + value / total / ids.length / documents.length
        })
      }
    }
    const found = gateShares(solveGate(all, PLAIN), documents)
    expected.forEach((share, e) => {
      expect(found[e]).toBeCloseTo(share, 5)
    })
    expect(() => gateShares(solveGate(all), [])).toThrow(RangeError)
  })

  it('show that statistics of the public text would take half of it, and those of another little', () => {
    const own = documentsOf([40, 30, 128, 300], 3)
    const text = own.map((tokens) => ({ tokens, bytes: tokens.length }))
    const known = routerStatistics(V, own)
    expect(statisticsShare(known, known, text)).toBeCloseTo(0.5, 6)
    const other = routerStatistics(V, documentsOf([40, 30, 128], 4))
    expect(statisticsShare(known, other, text)).toBeLessThan(0.3)
  })
})

describe('acceptance of router statistics', () => {
  const judged = ({ tokens }: RouterStatistics): string =>
    codeOf(() =>
      checkStatistics(
        new Map([[STATISTICS_TOKENS, { name: STATISTICS_TOKENS, dtype: 'F32', shape: [V], data: tokens }]]),
      ),
    )

  it('takes those of any text, and an expert without', () => {
    for (const lengths of [[1], [1, 1, 1], [2, 128], new Array<number>(64).fill(5)])
      expect(judged(routerStatistics(V, documentsOf(lengths)))).toBe('accept')
    expect(codeOf(() => checkStatistics(new Map()))).toBe('accept')
  })

  it.each([
    ['a share below 0', (share: number, v: number) => share + (v === 0 ? -0.1 : v === 9 ? 0.1 : 0)],
    ['no number', (share: number, v: number) => (v === 4 ? Number.NaN : share)],
    ['shares of more than one whole', (share: number) => 1.01 * share],
    ['shares of less', (share: number) => 0.99 * share],
    ['no text at all', () => 0],
  ] as const)('refuses %s', (_, change) => {
    const { tokens } = routerStatistics(V, documentsOf([40, 30, 20]))
    expect(judged({ tokens: tokens.map(change) })).toBe('statistics-shares')
  })
})

describe('documents of statistics', () => {
  it('are disjoint stretches of one document each', async () => {
    const dir = await folder()
    const path = join(dir, 'train.tokens')
    // Documents of 100, 3 and 60 ids, each after a boundary 0.
    const ids = [100, 3, 60].flatMap((length, i) => [0, ...new Array(length).fill(i + 1)])
    await writeFileAtomic(path, packTokens(Int32Array.from(ids), 2))
    const file = await TokenFile.open(path, 2)
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

describe('statistics of the public text', () => {
  it('are counted from the text for replay', async () => {
    const root = await folder()
    const signal = AbortSignal.timeout(30_000)
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
  /** Of a text whose documents fill a window each. */
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

  it('need documents enough to hide one', async () => {
    const least = limit('statisticsDocuments')
    expect(await statisticsOf(least - 1)).toBeUndefined()
    const own = await statisticsOf(least)
    expect(own?.documents).toBe(least)
    expect(own?.statistics.tokens[model.tokenizer.endOfText]).toBeCloseTo(1 / STATISTICS_WINDOW, 6)
  })

  it('are kept for an expert that is trained elsewhere', async () => {
    const root = await folder()
    const dirs = trainingDirs(root, 'law')
    expect(await loadOwnStatistics(dirs)).toBeUndefined()
    await mkdir(join(dirs.statistics, '..'), { recursive: true })
    const own = { statistics: madeUpStatistics(V, 1), documents: 77 }
    await saveOwnStatistics(dirs, own)
    expect(await loadOwnStatistics(dirs)).toEqual(own)
  })
})
