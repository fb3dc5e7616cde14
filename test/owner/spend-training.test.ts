import { mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import { afterEach, describe, expect, it } from 'vitest'
import type { Corpus } from '../../src/data/corpus.ts'
import type { Tokenizer } from '../../src/data/tokenizer.ts'
import { PrivacyBudget } from '../../src/owner/budget.ts'
import { forgetTraining, privateFiles } from '../../src/owner/private-data.ts'
import { spendTraining } from '../../src/owner/spend-training.ts'
import type { DpParameters } from '../../src/privacy/mechanism.ts'
import { cleanUp, folder } from '../support/folders.ts'

afterEach(cleanUp)

const PARAMETERS: Omit<DpParameters, 'clip'> = {
  unit: 'document',
  epsilon: 2,
  delta: 5e-5,
  truncationDelta: 0,
  noiseMultiplier: 1.238525,
  sampleRate: 0.032,
  steps: 200,
  expectedBatch: 64,
  capacity: 128,
  units: 2000,
  windowsPerUnit: 1,
}
const model = { tokenizer: { endOfText: 0 } as Tokenizer }
const corpus = {
  train: {
    read: async (start: number, count: number) => Int32Array.of(0, 7, 8, 9).slice(start, start + count),
  },
} as Pick<Corpus, 'train'>

describe('a private training that was killed before it wrote a checkpoint', () => {
  it('holds all that it had reserved until it is forgotten, and then nothing', async () => {
    const home = await folder()
    const root = join(home, 'training')
    await mkdir(join(root, 'ward'), { recursive: true })
    await spendTraining(model, root, 'ward', corpus, PARAMETERS, new AbortController().signal)
    const budget = new PrivacyBudget(root)
    expect((await budget.report()).groups).toMatchObject([{ documents: 1, epsilon: 1.9999981951077332 }])
    await forgetTraining(root, 'ward')
    expect((await budget.report()).groups).toMatchObject([{ documents: 1, epsilon: 0 }])
    const files = await privateFiles(home, root)
    expect(files.map(({ path, holds }) => [path, holds])).toEqual([
      ['training/.account/', 'what each text has spent of its privacy, by salted hashes of its documents'],
    ])
  })
})
