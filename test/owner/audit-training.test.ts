import { cp, readFile, rm, stat, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest'
import { expertOfTensors } from '../../src/checkpoint/expert-tensors.ts'
import { loadPublicModel, type PublicModel } from '../../src/checkpoint/public-model.ts'
import { openCorpus } from '../../src/data/corpus.ts'
import { digestOf } from '../../src/lib/bytes.ts'
import { inlineJobs, resultOf } from '../../src/lib/jobs.ts'
import type { Expert } from '../../src/model/params.ts'
import { wholeValues } from '../../src/model/weights.ts'
import { auditText } from '../../src/owner/audit-text.ts'
import { included, loadCanaries } from '../../src/owner/canary-file.ts'
import { OWNER_JOBS } from '../../src/owner/owner-jobs.ts'
import type { PackedTraining } from '../../src/owner/pack-training.ts'
import { auditStatement, type PublishRequest } from '../../src/owner/release.ts'
import { TRAIN_DEFAULTS } from '../../src/owner/train-defaults.ts'
import type { TrainRequest } from '../../src/owner/train-expert.ts'
import { trainingDirs } from '../../src/owner/training-folder.ts'
import { Trainings } from '../../src/owner/trainings.ts'
import { openExpertFile } from '../../src/packaging/package.ts'
import { auditExpert } from '../../src/privacy/audit-expert.ts'
import type { AuditReport, KeptReport } from '../../src/privacy/audit-report.ts'
import { CANARY_TOKENS } from '../../src/privacy/canary-number.ts'
import { homePaths } from '../../src/store/home.ts'
import { onnxEngine } from '../../src/tensor/onnx-engine.ts'
import { cleanUp, folder } from '../support/folders.ts'
import { shortText } from '../support/texts.ts'
import { tinyModel } from '../support/tiny-model.ts'

vi.mock('../../src/privacy/audit-expert.ts', { spy: true })

const engine = onnxEngine({ threads: 2 })
const signal = new AbortController().signal
const LAW: TrainRequest = {
  ...TRAIN_DEFAULTS,
  name: 'law',
  paths: [await shortText('archive')],
  steps: 1,
  canaries: 40,
  seed: 1,
}
let model: PublicModel
/** Folder of the trainings of a home with a finished training that has canaries; tests copy it. */
let finished: string
beforeAll(async () => {
  model = await loadPublicModel(await tinyModel())
  const { root, trainings } = await newHome()
  await resultOf(trainings.train(LAW, signal))
  finished = root
})
afterAll(cleanUp)

async function newHome() {
  const root = homePaths(await folder()).training
  const trainings = new Trainings(
    inlineJobs(OWNER_JOBS, { engine, publicModel: model, training: root }),
    model,
    root,
    signal,
  )
  return { root, trainings, dirs: trainingDirs(root, 'law') }
}

async function trained(): Promise<Home> {
  const home = await newHome()
  await cp(finished, home.root, { recursive: true })
  return home
}

type Home = Awaited<ReturnType<typeof newHome>>

const audit = ({ trainings }: Home): Promise<KeptReport> => resultOf(trainings.audit({ name: 'law' }, signal))

function pack(
  { trainings, root }: Home,
  audit: PublishRequest['audit'],
  { into, dtype = 'BF16' }: { into?: string; dtype?: PublishRequest['dtype'] } = {},
): Promise<PackedTraining> {
  const publish = {
    name: 'law',
    license: 'CC0-1.0',
    domain: 'law',
    dtype,
    statistics: 'exact',
    epsilonMilli: 0,
    audit,
  } as const
  return trainings.pack({ publish, into, scratch: join(root, 'scratch') }, signal)
}

/** Replaces the outcome of the kept report, which then holds for the next publication. */
async function withOutcome({ dirs }: Home, outcome: AuditReport['outcome']): Promise<void> {
  const report = JSON.parse(await readFile(dirs.audit, 'utf8')) as AuditReport
  const severity = outcome === 'bug' ? 'bug' : 'stop'
  const findings = [{ severity, measure: 'extraction', words: 'all of it can be extracted' }]
  await writeFile(dirs.audit, JSON.stringify({ ...report, outcome, findings }))
}

/** FFN values of the expert that the latest audit attacked. */
async function attackedValues(): Promise<Map<string, Float32Array>> {
  const call = vi.mocked(auditExpert).mock.lastCall
  if (call === undefined) throw new Error('no expert was audited')
  return valuesOf(call[0].expert)
}

async function valuesOf({ ffn }: Expert): Promise<Map<string, Float32Array>> {
  const values = new Map<string, Float32Array>()
  for (const [key, weight] of ffn) values.set(key, await wholeValues(weight))
  return values
}

describe('the canaries of a training', () => {
  it('are in its text where the coin says so, and only the owner can read which', async () => {
    const { dirs } = await trained()
    expect((await stat(dirs.canaries)).mode & 0o777).toBe(0o600)
    const hidden = await loadCanaries(dirs)
    const inside = included(hidden?.canaries ?? [])
    expect(hidden?.canaries).toHaveLength(40)
    expect(inside.length).toBeGreaterThan(5)
    expect(inside.length).toBeLessThan(35)
    const corpus = await openCorpus(dirs.corpus, model.tokenizer)
    const { train, stats } = corpus
    const added = inside.length * (CANARY_TOKENS + 1)
    expect(train.tokens).toBe(stats.train.tokens + stats.train.documents + added)
    const tail = await train.read(train.tokens - added, added)
    expect([...tail]).toEqual(inside.flatMap((ids) => [model.tokenizer.endOfText, ...ids]))
    await corpus.close()
  })

  it('are not part of the text that is attacked', async () => {
    const { dirs } = await trained()
    const { train, hidden } = await auditText(model, dirs, 'law', 500)
    const pieces = new Set(train.map((ids) => ids.join()))
    for (const ids of included(hidden?.canaries ?? [])) {
      for (const piece of pieces) expect(piece).not.toContain(ids.subarray(0, 8).join())
    }
  })

  it('are written again from their seed', async () => {
    const { dirs } = await trained()
    const hidden = await loadCanaries(dirs)
    const { writeCanaries } = await import('../../src/privacy/canaries.ts')
    const writer = {
      engine,
      config: model.config,
      weights: model.weights,
      endOfText: model.tokenizer.endOfText,
    }
    const again = await writeCanaries(writer, 40, hidden?.seed ?? 0, signal)
    expect(again.map((ids) => ids.join())).toEqual(hidden?.canaries.map(({ tokens }) => tokens.join()))
  })

  it('are none for a small text unless the owner asks, and a training keeps its number', async () => {
    const home = await newHome()
    await resultOf(home.trainings.train({ ...LAW, canaries: undefined }, signal))
    expect(await loadCanaries(home.dirs)).toBeUndefined()
    await expect(resultOf(home.trainings.train({ ...LAW, canaries: 40 }, signal))).rejects.toMatchObject({
      code: 'exists',
      message: expect.stringContaining('begun with 0 canaries'),
    })
  })
})

describe('the audit of a training', () => {
  it('keeps its report, as JSON and in words, and uses it again for the same expert', async () => {
    const home = await trained()
    const first = await audit(home)
    const bytes = await readFile(home.dirs.audit)
    expect(digestOf(bytes)).toBe(first.digest)
    expect((await stat(home.dirs.audit)).mode & 0o777).toBe(0o600)
    expect(await readFile(home.dirs.auditWords, 'utf8')).toContain('guesses about 40 were right')
    expect((await audit(home)).digest).toBe(first.digest)
    const { figures, outcome } = first.report
    expect(outcome).toBe('pass')
    expect(figures.canaries).toMatchObject({ canaries: 40, guesses: 20 })
    expect(figures.extraction.train.texts).toBeGreaterThan(10)
    expect(figures.membership.members).toBeGreaterThan(figures.membership.others)
  })

  it('is repeated for another expert', async () => {
    const home = await trained()
    const first = await audit(home)
    const report = JSON.parse(await readFile(home.dirs.audit, 'utf8')) as AuditReport
    const other = { ...report, subject: { ...report.subject, lowered: -3 } }
    await writeFile(home.dirs.audit, JSON.stringify(other))
    expect((await audit(home)).digest).not.toBe(first.digest)
  })

  it('is refused without a finished training, and without the text', async () => {
    const home = await trained()
    await expect(resultOf(home.trainings.audit({ name: 'none' }, signal))).rejects.toMatchObject({
      code: 'not-found',
    })
    await rm(home.dirs.corpus, { recursive: true })
    await expect(audit(home)).rejects.toMatchObject({
      code: 'not-found',
      message: 'this node has no text of the training law, so it cannot audit it',
    })
  })
})

describe('a publication', () => {
  it('audits the expert and states the main figures, but not which canaries were in the text', async () => {
    const home = await trained()
    const { audit: kept } = await pack(home, {})
    const statement = auditStatement(kept as KeptReport)
    const hidden = await loadCanaries(home.dirs)
    expect(statement).toMatchObject({
      report: kept?.digest,
      canaries: { count: 40, seed: hidden?.seed, guesses: 20 },
      extraction: { extracted: 0, extractedPublic: 0, heldOutExtracted: 0 },
    })
    expect(Object.keys(statement.canaries ?? {})).toEqual([
      'count',
      'seed',
      'guesses',
      'right',
      'epsilonLowMicro',
    ])
    expect(kept?.digest).toBe((await audit(home)).digest)
  })

  it('of an expert of lower rank audits that expert', async () => {
    const home = await trained()
    const whole = await audit(home)
    const publish = { name: 'law', license: 'CC0-1.0', domain: 'law', dtype: 'BF16', rank: 2 } as const
    const request = { ...publish, statistics: 'exact', epsilonMilli: 0, audit: {} } as const
    const scratch = join(home.root, 'scratch')
    const packed = await home.trainings.pack({ publish: request, into: undefined, scratch }, signal)
    expect(packed.audit?.report.subject).toMatchObject({ ...whole.report.subject, rank: 2 })
    expect(packed.audit?.digest).not.toBe(whole.digest)
  })

  it('audits the values that its file holds', async () => {
    const home = await trained()
    const into = join(home.root, 'expert.safetensors')
    const { audit: kept } = await pack(home, {}, { into })
    const audited = await attackedValues()
    const {
      hiddenSize: hidden_size,
      intermediateSize: intermediate_size,
      numHiddenLayers: layers,
    } = model.config
    const file = await openExpertFile(into, { hidden_size, intermediate_size, layers })
    expect(audited).toEqual(await valuesOf(await expertOfTensors(model.config, file)))
    const { audit: whole } = await pack(home, {}, { dtype: 'F32' })
    expect(whole?.report.subject).toEqual({ ...kept?.report.subject, dtype: 'F32' })
    expect(await attackedValues()).not.toEqual(audited)
  })

  it('stops if the audit stops it, unless the owner accepts the risk, which the report and the package state', async () => {
    const home = await trained()
    await audit(home)
    await withOutcome(home, 'stop')
    await expect(pack(home, {})).rejects.toMatchObject({
      code: 'audit-failed',
      message: expect.stringMatching(
        /^the audit of law stops .* all of it can be extracted; .* --accept-risk/,
      ),
    })
    const reason = 'all authors have consented'
    const { audit: kept } = await pack(home, { acceptedRisk: reason })
    expect(auditStatement(kept as KeptReport)).toMatchObject({ acceptedRisk: reason, report: kept?.digest })
    expect(digestOf(await readFile(home.dirs.audit))).toBe(kept?.digest)
    expect(await readFile(home.dirs.auditWords, 'utf8')).toContain(`the risk was accepted: ${reason}`)
    await expect(pack(home, {})).rejects.toMatchObject({ code: 'audit-failed' })
  })

  it('stops if the training broke its guarantee, whatever the owner accepts', async () => {
    const home = await trained()
    await audit(home)
    await withOutcome(home, 'bug')
    await expect(pack(home, { acceptedRisk: 'no matter' })).rejects.toMatchObject({ code: 'audit-failed' })
  })

  it('is not audited if the owner declines, and of an expert without text here', async () => {
    const home = await trained()
    expect((await pack(home, undefined)).audit).toBeUndefined()
    await rm(home.dirs.corpus, { recursive: true })
    await expect(pack(home, {})).resolves.toMatchObject({ audit: undefined })
  })
})
