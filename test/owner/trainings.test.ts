import { copyFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { loadPublicModel, type PublicModel } from '../../src/checkpoint/public-model.ts'
import { ReadingLog } from '../../src/data/reading-report.ts'
import { pathExists } from '../../src/lib/files.ts'
import { inlineJobs, resultOf } from '../../src/lib/jobs.ts'
import type { Waiting } from '../../src/lib/turns.ts'
import { allOwnHeldOut, ownHeldOut } from '../../src/owner/held-out.ts'
import { importExpert } from '../../src/owner/import-expert.ts'
import { OWNER_JOBS } from '../../src/owner/owner-jobs.ts'
import type { PackedTraining } from '../../src/owner/pack-training.ts'
import type { PublishRequest } from '../../src/owner/release.ts'
import { openReplay } from '../../src/owner/replay.ts'
import { TRAIN_DEFAULTS } from '../../src/owner/train-defaults.ts'
import type { TrainEvent, TrainRequest } from '../../src/owner/train-expert.ts'
import type { TrainResult } from '../../src/owner/training-folder.ts'
import { Trainings } from '../../src/owner/trainings.ts'
import { homePaths } from '../../src/store/home.ts'
import { onnxEngine } from '../../src/tensor/onnx-engine.ts'
import { cleanUp, folder } from '../support/folders.ts'
import { shortText } from '../support/texts.ts'
import { tinyModel } from '../support/tiny-model.ts'

const LAW: TrainRequest = {
  ...TRAIN_DEFAULTS,
  name: 'law',
  paths: [await shortText('archive')],
  steps: 1,
  seed: 1,
}
const RUNNING = /^training "law" is running already; wait until it ends, or choose another --name$/

const engine = onnxEngine({ threads: 2 })
const signal = new AbortController().signal
let model: PublicModel
beforeAll(async () => {
  model = await loadPublicModel(await tinyModel())
})
afterAll(cleanUp)

/** Trainings of a new home, and its root. */
async function newHome(stop: AbortSignal = signal): Promise<{ home: string; trainings: Trainings }> {
  const home = await folder()
  return { home, trainings: trainingsIn(homePaths(home).training, model, stop) }
}

function trainingsIn(training: string, publicModel: PublicModel, stop: AbortSignal = signal): Trainings {
  const jobs = inlineJobs(OWNER_JOBS, { engine, publicModel, training })
  return new Trainings(jobs, publicModel, training, stop)
}

type Events = AsyncGenerator<TrainEvent | Waiting, void, void>

async function toEnd(events: Events): Promise<TrainResult> {
  for await (const event of events) if (event.stage === 'done') return event.result
  throw new Error('the training ended without a result')
}

describe('a preview of a training', () => {
  it('says what would be read and what it would take, and writes nothing', async () => {
    const { home, trainings } = await newHome()
    const preview = await resultOf(trainings.preview(LAW, signal))
    expect(preview).toMatchObject({ name: 'law', isBegun: false, steps: 1, plan: { rank: 0 } })
    expect(preview.stats.train.tokens).toBeGreaterThan(1024)
    expect(await pathExists(homePaths(home).training)).toBe(false)
    const refused = resultOf(trainings.preview({ ...LAW, paths: [] }, signal))
    await expect(refused).rejects.toThrow('no training named law was begun; give its text with --data')
  })
})

/** A training that has opened its text and waits. */
async function begun(trainings: Trainings): Promise<Events> {
  const events = trainings.train(LAW, signal)
  for (;;) {
    const { value, done } = await events.next()
    if (done === true) throw new Error('the training ended before its first step')
    if (value.stage === 'prepared') return events
  }
}

/** Pack a training for publication, without a file. */
function pack(trainings: Trainings, home: string, change: Partial<PublishRequest>): Promise<PackedTraining> {
  const publish = {
    name: 'law',
    license: 'CC0-1.0',
    domain: 'law',
    dtype: 'BF16',
    statistics: 'exact',
    epsilonMilli: 0,
    ...change,
  } as const
  return trainings.pack({ publish, into: undefined, scratch: join(home, 'scratch') }, signal)
}

describe('the replay text', () => {
  it('is prepared once for callers that ask at the same time', async () => {
    const root = await folder()
    const opened = await Promise.all([1, 2, 3].map(() => openReplay(model, root, signal)))
    const tokens = opened.map(({ train }) => train.tokens)
    await Promise.all(opened.map((corpus) => corpus.close()))
    expect(tokens[0]).toBeGreaterThan(0)
    expect(new Set(tokens).size).toBe(1)
  })

  it('is prepared by the next caller if a preparation failed', async () => {
    const replay = join(await folder(), 'replay.jsonl')
    const trainings = trainingsIn(await folder(), { ...model, replay })
    const failed = await Promise.allSettled([trainings.prepareReplay(signal), trainings.publicStatistics()])
    await copyFile(model.replay, replay)
    expect(failed.map(({ status }) => status)).toEqual(['rejected', 'rejected'])
    await trainings.prepareReplay(signal)
    expect((await trainings.publicStatistics()).tokens).toHaveLength(model.config.vocabSize)
  })

  it('is counted once for router statistics', async () => {
    const { trainings } = await newHome()
    const [first, second] = await Promise.all([trainings.publicStatistics(), trainings.publicStatistics()])
    expect(second).toBe(first)
    expect(await trainings.publicStatistics()).toBe(first)
  })
})

describe('a training', () => {
  it('is finished once it has a result, and then has an expert and held-out text', async () => {
    const { home, trainings } = await newHome()
    const root = homePaths(home).training
    expect(await trainings.finished()).toEqual([])
    const events = await begun(trainings)
    expect(await trainings.finished()).toEqual([])
    const result = await toEnd(events)
    expect(await trainings.finished()).toEqual(['law'])
    expect((await trainings.load('law')).result).toMatchObject({ name: 'law', tokens: result.tokens })
    const heldOut = await ownHeldOut(model, root, 'law', 1e9)
    expect(heldOut.length).toBeGreaterThan(0)
    expect(await allOwnHeldOut(model, root, 1e9)).toEqual(heldOut)
    expect(await ownHeldOut(model, root, 'medicine')).toEqual([])
    const { shape, derivation } = await pack(trainings, home, { rank: 2 })
    expect(shape.rank).toBe(2)
    expect(derivation?.energyKept).toBeGreaterThan(0)
  })

  it('is calibrated and scored again only if it is published without its router statistics', async () => {
    const { home, trainings } = await newHome()
    await toEnd(trainings.train(LAW, signal))
    const exact = await pack(trainings, home, {})
    expect(exact.shape.statisticsTokens).toBe(model.config.vocabSize)
    expect(exact.derivation).toBeUndefined()
    const without = await pack(trainings, home, { statistics: 'none' })
    expect(without.shape.statisticsTokens).toBe(0)
    expect(without.derivation?.public?.after).toBeGreaterThan(0)
    expect(without.result.public).toEqual(without.derivation?.public)
    await expect(pack(trainings, home, { name: 'medicine' })).rejects.toMatchObject({ code: 'not-found' })
  })

  it('refuses a second one of the same name while it runs, and finishes', async () => {
    const { trainings } = await newHome()
    const first = await begun(trainings)
    const second = trainings.train(LAW, signal).next()
    await expect(second).rejects.toMatchObject({ code: 'exists', message: expect.stringMatching(RUNNING) })
    expect((await toEnd(first)).tokens).toBeGreaterThan(0)
  })

  it('refuses an export and an import of the same name while it runs', async () => {
    const { home, trainings } = await newHome()
    const running = await begun(trainings)
    const out = await folder()
    const exporting = trainings.exportPair({ training: LAW, directory: join(out, 'pair') }, signal)
    await expect(exporting.next()).rejects.toThrow(RUNNING)
    await expect(importExpert(homePaths(home), out, 'law')).rejects.toThrow(RUNNING)
    await running.return()
  })

  it('is refused while its pair is exported', async () => {
    const { trainings } = await newHome()
    const out = await folder()
    const exporting = trainings.exportPair({ training: LAW, directory: join(out, 'pair') }, signal)
    expect((await exporting.next()).done).toBe(false)
    const refused = trainings.train(LAW, signal).next()
    await expect(refused).rejects.toMatchObject({
      code: 'exists',
      message: 'the pair of training "law" is being exported; wait until it ends, or choose another --name',
    })
    await exporting.return({
      name: 'law',
      directory: out,
      files: [],
      documents: 0,
      tokens: 0,
      warnings: [],
      reading: new ReadingLog().report(),
    })
  })

  it('waits for one of another name, and says for which', async () => {
    const { trainings } = await newHome()
    const law = await begun(trainings)
    const justice = trainings.train({ ...LAW, name: 'justice' }, signal)
    expect(await justice.next()).toEqual({ done: false, value: { stage: 'waiting', behind: 'law' } })
    const [first, second] = await Promise.all([toEnd(law), toEnd(justice)])
    expect([first.name, second.name]).toEqual(['law', 'justice'])
  })

  it('leaves the queue when it is stopped while it waits', async () => {
    const { trainings } = await newHome()
    const law = await begun(trainings)
    const stop = new AbortController()
    const justice = trainings.train({ ...LAW, name: 'justice' }, stop.signal)
    const music = trainings.train({ ...LAW, name: 'music' }, signal)
    expect((await justice.next()).value).toMatchObject({ behind: 'law' })
    expect((await music.next()).value).toMatchObject({ behind: 'law' })
    stop.abort(new Error('stopped'))
    await expect(justice.next()).rejects.toThrow('stopped')
    const [first, third] = await Promise.all([toEnd(law), toEnd(music)])
    expect([first.name, third.name]).toEqual(['law', 'music'])
  })

  it('can be started again after it was stopped or has failed', async () => {
    const { trainings } = await newHome()
    await (await begun(trainings)).return()
    const failing = trainings.train({ ...LAW, paths: [await shortText('hospital')] }, signal)
    await expect(toEnd(failing)).rejects.toMatchObject({
      code: 'exists',
      message: expect.stringMatching(/was begun on/),
    })
    expect((await toEnd(trainings.train(LAW, signal))).name).toBe('law')
  })

  it('reads its text again after it was stopped while it read', async () => {
    const { trainings } = await newHome()
    const reading = trainings.train(LAW, signal)
    expect((await reading.next()).value).toMatchObject({ stage: 'reading' })
    await reading.return()
    expect((await toEnd(trainings.train(LAW, signal))).name).toBe('law')
  })

  it('says what it reads and what it works on before the first step, and keeps it with the result', async () => {
    const { trainings } = await newHome()
    const phases: string[] = []
    let result: TrainResult | undefined
    const shares: number[] = []
    for await (const event of trainings.train(LAW, signal)) {
      if (event.stage === 'phase' && event.phase !== phases.at(-1)) phases.push(event.phase)
      if (event.stage === 'phase' && event.share !== undefined) shares.push(event.share)
      if (event.stage === 'done') result = event.result
    }
    expect(shares.length).toBeGreaterThan(0)
    expect(shares.every((share) => share > 0 && share <= 1)).toBe(true)
    expect(phases).toEqual(['public-text', 'router-rows', 'compile', 'first-step', 'score'])
    expect(result?.reading?.read).toMatchObject([{ what: '.md', count: 1 }])
    expect((await trainings.load('law')).result.reading).toEqual(result?.reading)
  })

  it('says what it will take before its first step, measures a step, and keeps both with the result', async () => {
    const { trainings } = await newHome()
    const stages: string[] = []
    let result: TrainResult | undefined
    for await (const event of trainings.train({ ...LAW, steps: 3, memory: 2e9 }, signal)) {
      if (['plan', 'forecast', 'step'].includes(event.stage)) stages.push(event.stage)
      if (event.stage === 'plan')
        expect(event).toMatchObject({ rank: 0, rows: TRAIN_DEFAULTS.B, budget: 2e9 })
      if (event.stage === 'done') result = event.result
    }
    expect(stages).toEqual(['plan', 'step', 'forecast', 'step', 'step'])
    expect(result).toMatchObject({ rank: 0, cost: { plannedBytes: expect.any(Number) } })
    expect(result?.cost?.secondsPerStep).toBeGreaterThan(0)
  })

  it('that does not fit the memory is refused before its text is read', async () => {
    const { trainings } = await newHome()
    await expect(trainings.train({ ...LAW, memory: 100e6 }, signal).next()).rejects.toMatchObject({
      code: 'out-of-memory',
      message: expect.stringMatching(/and 100 MB may be used: --memory allows more/),
    })
  })

  it('that is continued does not compute its router rows again, and ends with the same expert', async () => {
    const whole = await newHome()
    await toEnd(whole.trainings.train({ ...LAW, steps: 2 }, signal))
    const { trainings } = await newHome()
    await toEnd(trainings.train({ ...LAW, steps: 1 }, signal))
    const phases: string[] = []
    for await (const event of trainings.train({ ...LAW, steps: 2 }, signal)) {
      if (event.stage === 'phase') phases.push(event.phase)
    }
    expect(phases).not.toContain('router-rows')
    expect((await trainings.load('law')).expert.routerRows).toEqual(
      (await whole.trainings.load('law')).expert.routerRows,
    )
  })

  it('keeps the rank with which it was begun, unless another one is asked for', async () => {
    const { trainings } = await newHome()
    await toEnd(trainings.train({ ...LAW, rank: 2 }, signal))
    expect(await toEnd(trainings.train({ ...LAW, steps: 2 }, signal))).toMatchObject({ rank: 2 })
    await expect(toEnd(trainings.train({ ...LAW, steps: 3, rank: 0 }, signal))).rejects.toMatchObject({
      code: 'mismatch',
    })
  })

  it('stops when its home is closed', async () => {
    const stop = new AbortController()
    const { trainings } = await newHome(stop.signal)
    const running = await begun(trainings)
    stop.abort(new Error('closed'))
    await expect(toEnd(running)).rejects.toThrow('closed')
  })
})
