import { mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, expect, it } from 'vitest'
import { referenceExpert } from '../../scripts/bench/inference/reference-models.ts'
import { mulberry32 } from '../../src/lib/random.ts'
import { checkpointFile } from '../../src/owner/checkpoint-file.ts'
import {
  loadTrained,
  needsCalibration,
  saveExpert,
  saveResult,
  trainingDirs,
} from '../../src/owner/training-folder.ts'
import { knownTrainings } from '../../src/owner/training-list.ts'
import { cleanUp, folder } from '../support/folders.ts'
import { TINY } from '../support/tiny-model.ts'

afterAll(cleanUp)

const RESULT = {
  name: 'law',
  steps: 200,
  tokens: 5000,
  documents: 7,
  replayShareMilli: 250,
  statisticsDocuments: 0,
  own: { before: 2.666, after: 1.2 },
  public: { before: 1.483, after: 1.489 },
}

it.each([
  ['without calibration', {}],
  [
    'with what calibration changed',
    {
      calibration: {
        bias: -1.125,
        router: 'rows' as const,
        uncalibrated: { own: { before: 2.666, after: 1.08 }, public: { before: 1.483, after: 1.504 } },
        calibrated: { own: RESULT.own, public: RESULT.public },
      },
    },
  ],
])('a finished training is read as it was written, %s', async (_, calibration) => {
  const root = await folder()
  const dirs = trainingDirs(root, 'law')
  await mkdir(dirs.dir)
  const expert = referenceExpert(TINY, mulberry32(4))
  await saveExpert(TINY, dirs, expert)
  await saveResult(dirs, { ...RESULT, ...calibration })
  const found = await loadTrained({ config: TINY }, root, 'law')
  expect(found.result).toEqual({ ...RESULT, ...calibration })
  expect(found.expert.routerRows).toEqual(expert.routerRows)
})

it.each([
  ['trained here, without statistics', RESULT, true, false],
  ['trained here, without statistics that it never had', RESULT, false, false],
  ['trained here, with statistics', { ...RESULT, statisticsDocuments: 100 }, true, false],
  ['trained here, without its statistics', { ...RESULT, statisticsDocuments: 100 }, false, true],
  ['trained elsewhere', { ...RESULT, public: undefined }, true, true],
] as const)(
  'an expert %s, is calibrated for its publication if train did not do that',
  async (_, result, statistics, needed) => {
    const root = await folder()
    const dirs = trainingDirs(root, 'law')
    await mkdir(dirs.dir)
    await saveExpert(TINY, dirs, referenceExpert(TINY, mulberry32(4)))
    const { public: scored, ...rest } = result
    await saveResult(dirs, { ...rest, ...(scored && { public: scored }) })
    expect(await needsCalibration(root, 'law', statistics)).toBe(needed)
  },
)

it('lists the trainings of a home, finished or not, and nothing else', async () => {
  const root = await folder()
  const [law, ward] = [trainingDirs(root, 'law'), trainingDirs(root, 'ward')]
  for (const { dir } of [law, ward, trainingDirs(root, 'empty')]) await mkdir(dir)
  await mkdir(join(root, '.replay'))
  await saveResult(law, { ...RESULT, rank: 0 })
  await writeFile(law.audit, '{}')
  await checkpointFile(ward.checkpoint).save({ step: 12, arrays: new Map([['a', new Float32Array(3)]]) })
  expect(await knownTrainings(root)).toEqual([
    { name: 'empty', isFinished: false, isAudited: false },
    {
      name: 'law',
      isFinished: true,
      isAudited: true,
      steps: 200,
      own: { before: 2.666, after: 1.2 },
      public: { before: 1.483, after: 1.489 },
    },
    { name: 'ward', isFinished: false, isAudited: false, step: 12 },
  ])
  expect(await knownTrainings(join(root, 'missing'))).toEqual([])
})
