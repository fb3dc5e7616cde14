import { readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { loadPublicModel, type PublicModel } from '../../src/checkpoint/public-model.ts'
import { inlineJobs } from '../../src/lib/jobs.ts'
import { OWNER_JOBS } from '../../src/owner/owner-jobs.ts'
import type { PublishRequest } from '../../src/owner/release.ts'
import type { TrainEvent, TrainRequest } from '../../src/owner/train-expert.ts'
import { type TrainResult, trainingDirs } from '../../src/owner/training-folder.ts'
import { Trainings } from '../../src/owner/trainings.ts'
import { checkStatedEpsilon } from '../../src/privacy/stated-epsilon.ts'
import { onnx as engine } from '../support/engines.ts'
import { cleanUp, folder } from '../support/folders.ts'
import { shortText } from '../support/texts.ts'
import { tinyModel } from '../support/tiny-model.ts'

const signal = new AbortController().signal
let model: PublicModel
let hospital: string
beforeAll(async () => {
  model = await loadPublicModel(await tinyModel())
  hospital = await shortText('hospital')
})
afterAll(cleanUp)

interface Home {
  readonly root: string
  readonly trainings: Trainings
}

async function newHome(): Promise<Home> {
  const root = await folder()
  return {
    root,
    trainings: new Trainings(
      inlineJobs(OWNER_JOBS, { engine, publicModel: model, training: root }),
      model,
      root,
      signal,
    ),
  }
}

function request(change: Partial<TrainRequest> = {}): TrainRequest {
  return {
    name: 'ward',
    paths: [hospital],
    steps: 4,
    accumulate: 1,
    rank: 1,
    privacy: { unit: 'document', epsilon: 8, batch: 20 },
    seed: 1,
    ...change,
  }
}

type Events = TrainEvent | { readonly stage: 'waiting' }

/** Train to the end, or up to `until`. */
async function train({ trainings }: Home, asked: TrainRequest, until?: (event: Events) => boolean) {
  const events: Events[] = []
  for await (const event of trainings.train(asked, signal)) {
    events.push(event)
    if (until?.(event) === true) break
  }
  const find = <S extends Events['stage']>(stage: S) =>
    events.find((event): event is Extract<Events, { stage: S }> => event.stage === stage)
  return { result: find('done')?.result as TrainResult, privacy: find('privacy'), prepared: find('prepared') }
}

const EXPERT: PublishRequest = {
  name: 'ward',
  license: 'CC0-1.0',
  domain: 'wards',
  dtype: 'BF16',
  statistics: undefined,
  epsilonMilli: 4000,
}

function pack({ root, trainings }: Home, change: Partial<PublishRequest> = {}) {
  const publish = { ...EXPERT, ...change }
  return trainings.pack({ publish, into: undefined, scratch: join(root, 'scratch') }, signal)
}

describe('a training with --epsilon', () => {
  it('states parameters for which the accountant gives at most the epsilon that was asked for', async () => {
    const home = await newHome()
    const { result } = await train(home, request())
    const { privacy } = result
    expect(privacy).toMatchObject({ unit: 'document', epsilon: 8, expectedBatch: 20, steps: 4, delta: 1e-3 })
    expect(privacy?.units).toBe(result.documents)
    expect(() => checkStatedEpsilon(privacy as NonNullable<typeof privacy>)).not.toThrow()
    expect(privacy?.truncationDelta).toBeLessThanOrEqual(1e-5)
  })

  it('is published without exact statistics; noised ones count one document for each unit', async () => {
    const home = await newHome()
    await train(home, request())
    expect((await pack(home)).statistics).toMatchObject({ statisticsDocuments: 0, statisticsNoise: 0 })
    await expect(pack(home, { statistics: 'exact' })).rejects.toMatchObject({ code: 'usage' })
    const noised = await pack(home, { statistics: 'noised' })
    expect(noised.result.statisticsPerUnit).toBe(1)
    expect(noised.statistics.statisticsDocuments).toBe(noised.result.privacy?.units)
    expect(noised.statistics.statisticsNoise).toBeGreaterThan(0)
  })

  it('starts router rows from zero, so that they hold nothing of the text but gradients', async () => {
    const home = await newHome()
    const { root } = home
    const start = await train(home, request(), ({ stage }) => stage === 'privacy')
    expect(start.privacy?.clip).toBeGreaterThan(0)
    const other = await newHome()
    const archive = await shortText('archive')
    await train(other, request({ paths: [archive, hospital] }), ({ stage }) => stage === 'privacy')
    const constantRows = (home: string) => readFile(trainingDirs(home, 'ward').constantRows)
    // The rows into which biases are folded are the same whatever the owner's text is.
    expect(await constantRows(root)).toEqual(await constantRows(other.root))
  })

  it('that is continued keeps its parameters and refuses others', async () => {
    const home = await newHome()
    const first = await train(home, request(), ({ stage }) => stage === 'step')
    await expect(train(home, request({ privacy: { unit: 'document', epsilon: 4 } }))).rejects.toThrow(
      /^training ward was begun with --epsilon 8, and its noise is chosen for that/,
    )
    await expect(train(home, request({ steps: 5 }))).rejects.toThrow(/--steps 4/)
    const { result } = await train(home, request({ privacy: undefined, steps: undefined, paths: [] }))
    const { stage: _, ...parameters } = first.privacy as NonNullable<typeof first.privacy>
    expect(result.privacy).toEqual(parameters)
  })

  it('that has lost its last steps takes new samples and new noise for them', async () => {
    const expert = async (): Promise<Buffer> => {
      const home = await newHome()
      await train(home, request())
      return readFile(trainingDirs(home.root, 'ward').expert)
    }
    // Two runs of the same request agree in everything but random numbers.
    expect(await expert()).not.toEqual(await expert())
  })

  it('does not continue one without, since its steps have no guarantee', async () => {
    const home = await newHome()
    await train(home, request({ privacy: undefined }))
    await expect(train(home, request())).rejects.toThrow(/was begun without --epsilon/)
  })

  it('refuses text that has too few units for the epsilon, in words', async () => {
    const home = await newHome()
    const refused = train(home, request({ privacy: { unit: 'document', epsilon: 0.01 } }))
    await expect(refused).rejects.toMatchObject({ code: 'too-small' })
    await expect(refused).rejects.toThrow(/documents are too few for --epsilon 0.01: the noise would be/)
    await expect(
      train(home, request({ privacy: { unit: 'document', epsilon: 8, batch: 5000 } })),
    ).rejects.toThrow(/--batch: expected at most \d+, the number of documents of this text, got 5000/)
  })

  it('protects sources: all rows of one value of the column "source"', async () => {
    const lines = (await readFile(hospital, 'utf8')).trimEnd().split('\n')
    const path = join(await folder(), 'wards.jsonl')
    const rows = lines.map((line, i) => JSON.stringify({ ...JSON.parse(line), source: `patient ${i % 30}` }))
    await writeFile(path, rows.join('\n'))
    const home = await newHome()
    const privacy = { unit: 'source', epsilon: 8 } as const
    const { result } = await train(home, request({ paths: [path], privacy }))
    expect(result.privacy).toMatchObject({ unit: 'source', units: 30, expectedBatch: 30, sampleRate: 1 })
  })

  it('keeps documents that equal others, so that one does not decide about another', async () => {
    const line = JSON.stringify({ text: 'The same words again, in every document of this file.' })
    const path = join(await folder(), 'same.jsonl')
    await writeFile(path, `${line}\n`.repeat(200))
    const home = await newHome()
    const asked = request({ paths: [hospital, path] })
    const { prepared } = await train(home, asked, ({ stage }) => stage === 'prepared')
    expect(prepared?.stats.duplicates).toBe(0)
    const alone = await train(await newHome(), request(), ({ stage }) => stage === 'prepared')
    expect(prepared?.stats.train.documents).toBe((alone.prepared?.stats.train.documents as number) + 200)
  })
})
