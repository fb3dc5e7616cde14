import { readdir, readFile, rm, stat, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterEach, describe, expect, it } from 'vitest'
import { PrivacyBudget } from '../../src/owner/budget.ts'
import { epsilonOf, noiseFor, type SubsampledGaussian } from '../../src/privacy/accountant.ts'
import { cleanUp, folder } from '../support/folders.ts'
import { codeOfAsync } from '../support/packages.ts'

afterEach(cleanUp)

const BOUNDARY = 0
const DELTA = 1e-5
const LIMIT = { epsilon: 4, delta: DELTA }
const TRAINING: SubsampledGaussian = { noiseMultiplier: 1.1, sampleRate: 0.02, steps: 300 }

/** A token file of documents: number n is the tokens n, n + 1 and n + 2. */
function texts(from: number, count: number) {
  const ids = Int32Array.from(
    Array.from({ length: count }, (_, i) => [BOUNDARY, from + i, from + i + 1, from + i + 2]).flat(),
  )
  return { read: async (start: number, length: number) => ids.slice(start, start + length) }
}

async function home(): Promise<{ budget: PrivacyBudget; dir: string; again: () => PrivacyBudget }> {
  const dir = await folder()
  const again = () => new PrivacyBudget(dir, () => 1_800_000_000)
  return { budget: again(), dir: join(dir, '.account'), again }
}

const spendingOf = (
  training: string,
  mechanisms: readonly SubsampledGaussian[] | undefined,
  run = training,
) => ({
  training,
  by: 'training' as const,
  run,
  purpose: 'training of 300 steps',
  mechanisms,
  truncationDelta: 0,
})

/** Train on documents `from` to `from + count`. */
async function spend(
  budget: PrivacyBudget,
  training: string,
  [from, count]: readonly [number, number],
  mechanisms: readonly SubsampledGaussian[] | 'unbounded' = [TRAINING],
  run = training,
): Promise<void> {
  const set = await budget.textsOf(texts(from, count), BOUNDARY)
  await budget.spend(set, spendingOf(training, mechanisms === 'unbounded' ? undefined : mechanisms, run))
}

/** Epsilons of the groups, by number of documents. */
async function groups(budget: PrivacyBudget): Promise<Record<number, number | null>> {
  const report = await budget.report()
  return Object.fromEntries(report.groups.map(({ documents, epsilon }) => [documents, epsilon]))
}
const together = (count: number, delta = 1e-6): number =>
  epsilonOf(
    Array.from({ length: count }, () => TRAINING),
    delta,
  ).epsilon

describe('the account of a text', () => {
  it('adds up what was spent on the documents that several trainings share, and only on those', async () => {
    const { budget } = await home()
    await spend(budget, 'one', [1, 100])
    await spend(budget, 'two', [71, 80])
    await spend(budget, 'three', [141, 15])
    expect(await groups(budget)).toEqual({
      70: together(1),
      30: together(2),
      40: together(1),
      10: together(2),
      5: together(1),
    })
  })

  it('knows a document again in another order, and once for all of its copies', async () => {
    const { budget } = await home()
    const set = await budget.textsOf(texts(1, 50), BOUNDARY)
    const copies = await budget.textsOf(
      {
        read: async (start, length) => {
          const ids = await texts(1, 50).read(0, 1e6)
          return Int32Array.from([...ids.slice(100), ...ids]).slice(start, start + length)
        },
      },
      BOUNDARY,
    )
    expect(copies).toEqual(set)
    expect(set.documents).toBe(50)
  })

  it('tells documents apart that differ in one token, and reads long ones in pieces', async () => {
    const { budget } = await home()
    const long = (last: number) => {
      const ids = new Int32Array(2 ** 20 + 5).fill(7)
      ids[0] = BOUNDARY
      ids[ids.length - 1] = last
      return { read: async (start: number, length: number) => ids.slice(start, start + length) }
    }
    const first = await budget.textsOf(long(8), BOUNDARY)
    expect(first.documents).toBe(1)
    expect(await budget.textsOf(long(8), BOUNDARY)).toEqual(first)
    expect((await budget.textsOf(long(9), BOUNDARY)).id).not.toBe(first.id)
  })

  it('is the same after a restart, and holds nothing of the text', async () => {
    const { budget, dir, again } = await home()
    await spend(budget, 'one', [1, 100])
    expect(await again().report()).toEqual(await budget.report())
    const { budget: other, dir: otherDir } = await home()
    await spend(other, 'one', [1, 100])
    const sets = (names: string[]) => names.filter((name) => name.endsWith('.texts'))
    expect(sets(await readdir(otherDir))).not.toEqual(sets(await readdir(dir)))
    for (const name of await readdir(dir)) expect((await stat(join(dir, name))).mode & 0o777).toBe(0o600)
  })

  it('has no bound once a document was published without a guarantee', async () => {
    const { budget } = await home()
    await spend(budget, 'one', [1, 100])
    await spend(budget, 'two', [1, 10], 'unbounded')
    expect(await groups(budget)).toEqual({ 90: together(1), 10: null })
  })

  it('charges a training once, however often it is continued', async () => {
    const { budget, again } = await home()
    await spend(budget, 'one', [1, 100])
    await spend(again(), 'one', [1, 100])
    expect(await groups(budget)).toEqual({ 100: together(1) })
    await spend(budget, 'one', [1, 100], [TRAINING], 'begun anew under the same name')
    expect(await groups(budget)).toEqual({ 100: together(2) })
  })

  it('counts the steps of a training that was stopped, and all of them again when it goes on', async () => {
    const { budget } = await home()
    await spend(budget, 'one', [1, 100])
    await budget.settle('one', 40)
    expect(await groups(budget)).toEqual({ 100: epsilonOf([{ ...TRAINING, steps: 40 }], 1e-6).epsilon })
    await spend(budget, 'one', [1, 100])
    expect(await groups(budget)).toEqual({ 100: together(1) })
  })

  it('counts the trainings that shared a document', async () => {
    const { budget } = await home()
    await spend(budget, 'one', [1, 100])
    await spend(budget, 'two', [71, 80])
    await spend(budget, 'three', [500, 10])
    expect(await budget.runsOn(await budget.textsOf(texts(90, 5), BOUNDARY))).toBe(2)
    expect(await budget.runsOn(await budget.textsOf(texts(500, 10), BOUNDARY))).toBe(1)
  })

  it('is not read past an entry that is missing or was cut', async () => {
    const { budget, dir } = await home()
    await spend(budget, 'one', [1, 100])
    await spend(budget, 'two', [1, 100])
    const path = join(dir, '00000002.json')
    const whole = await readFile(path)
    await writeFile(path, whole.subarray(0, 40))
    expect(await codeOfAsync(() => budget.report())).toBe('not-json')
    await writeFile(path, whole)
    await rm(join(dir, '00000001.json'))
    expect(await codeOfAsync(() => budget.report())).toBe('truncated')
  })
})

describe('the delta of the account', () => {
  it('is the smallest that a training stated, until the operator chooses one', async () => {
    const { budget } = await home()
    const set = await budget.textsOf(texts(1, 10), BOUNDARY)
    await budget.spend(set, { ...spendingOf('one', [TRAINING]), delta: 1e-4 })
    await budget.spend(set, { ...spendingOf('two', [TRAINING]), delta: 1e-5 })
    expect(await groups(budget)).toEqual({ 10: together(2, 1e-5) })
    await budget.setLimit({ epsilon: 8, delta: 1e-7 })
    expect(await groups(budget)).toEqual({ 10: together(2, 1e-7) })
  })
})

describe('a limit', () => {
  it('refuses a spending that would exceed it on a shared document, with numbers, and spends nothing', async () => {
    const { budget } = await home()
    await budget.setLimit(LIMIT)
    await spend(budget, 'one', [1, 100])
    await expect(spend(budget, 'two', [91, 50], [{ ...TRAINING, noiseMultiplier: 0.8 }])).rejects.toThrow(
      /^two: training of 300 steps would bring 10 documents to an epsilon of \d\.\d\d, of which 2\.\d\d is spent already; the limit of this home is an epsilon of 4 at delta 1e-5; choose at most --epsilon 3\.\d\d, train on other text, or change the limit with `flexmesh privacy limit EPSILON`$/,
    )
    expect(await groups(budget)).toEqual({ 100: together(1, DELTA) })
  })

  it('advises an epsilon that it then allows', async () => {
    const { budget } = await home()
    await budget.setLimit(LIMIT)
    await spend(budget, 'one', [1, 100])
    const set = await budget.textsOf(texts(1, 100), BOUNDARY)
    const delta = 1e-4 // That of the training, which is not that of the limit.
    const planned = { ...spendingOf('two', [{ ...TRAINING, noiseMultiplier: 0.7 }]), delta }
    const refusal = await budget.spend(set, planned).then(
      () => '',
      (error: Error) => error.message,
    )
    const advised = Number(/--epsilon (\S+),/.exec(refusal)?.[1])
    const noiseMultiplier = noiseFor({ ...TRAINING, epsilon: advised, delta }) as number
    await spend(budget, 'two', [1, 100], [{ ...TRAINING, noiseMultiplier }])
    const [group] = (await budget.report()).groups
    expect(group?.epsilon).toBeGreaterThan(0.98 * LIMIT.epsilon)
    expect(group?.left).toBeCloseTo(LIMIT.epsilon - (group?.epsilon as number), 12)
  })

  it('forbids what has no bound, until it is ended', async () => {
    const { budget } = await home()
    await budget.setLimit(LIMIT)
    expect(await codeOfAsync(() => spend(budget, 'one', [1, 10], 'unbounded'))).toBe('over-budget')
    expect(await codeOfAsync(() => budget.requireNoLimit('training one', 'x'))).toBe('over-budget')
    await budget.setLimit(undefined)
    await spend(budget, 'one', [1, 10], 'unbounded')
    await budget.requireNoLimit('training one', 'x')
  })

  it('holds when two trainings on one text begin at the same time', async () => {
    const { budget, again } = await home()
    const [most] = [epsilonOf([TRAINING, TRAINING, TRAINING], DELTA).epsilon]
    await budget.setLimit({ epsilon: most, delta: DELTA })
    const names = Array.from({ length: 8 }, (_, i) => `training-${i}`)
    const outcomes = await Promise.all(names.map((name) => codeOfAsync(() => spend(again(), name, [1, 20]))))
    expect(outcomes.filter((code) => code === 'accept')).toHaveLength(3)
    expect(outcomes.filter((code) => code === 'over-budget')).toHaveLength(5)
    expect(await groups(budget)).toEqual({ 20: most })
  })

  it('pays for the truncation of batches out of its delta', async () => {
    const { budget } = await home()
    const set = await budget.textsOf(texts(1, 10), BOUNDARY)
    await budget.spend(set, { ...spendingOf('one', [TRAINING]), truncationDelta: 4e-7 })
    expect(await groups(budget)).toEqual({ 10: epsilonOf([TRAINING], 6e-7).epsilon })
    await budget.spend(set, { ...spendingOf('two', [TRAINING]), truncationDelta: 7e-7 })
    expect(await groups(budget)).toEqual({ 10: null })
  })
})
