/**
 * Whether audits find what they should: an expert that was trained a hundred times on fifty documents, honest ones, and
 * ones with differential privacy, whose declared epsilon no lower bound may exceed. Trains with the sample's public model
 * on the text in examples/, as `flexmesh train` does, and prints a line for each audit.
 * Usage: tsx scripts/audits/run.ts [control] [honest] [private] [seeds=20]    (all of them without arguments)
 */
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { loadPublicModel } from '../../src/checkpoint/public-model.ts'
import { openCorpus } from '../../src/data/corpus.ts'
import { DEFAULT_HELD_OUT_SHARE, digestOf, isHeldOut } from '../../src/data/corpus-split.ts'
import { readDocuments } from '../../src/data/readers.ts'
import { inlineJobs, resultOf } from '../../src/lib/jobs.ts'
import { OWNER_JOBS } from '../../src/owner/owner-jobs.ts'
import { TRAIN_DEFAULTS } from '../../src/owner/train-defaults.ts'
import type { TrainRequest } from '../../src/owner/train-expert.ts'
import { trainingDirs } from '../../src/owner/training-folder.ts'
import { ownTokensRead } from '../../src/owner/training-text.ts'
import { Trainings } from '../../src/owner/trainings.ts'
import { type AuditReport, reportLines } from '../../src/privacy/audit-report.ts'
import { onnxEngine } from '../../src/tensor/onnx-engine.ts'

const ROOT = fileURLToPath(new URL('../../', import.meta.url))
const TEXT = join(ROOT, 'examples/hospital/text')
const CANARIES = 100
const CONTROL = { documents: 50, characters: 400, epochs: 100 }
const PRIVATE = { epsilon: 8, batch: 64, steps: 20 }
const SEEDS = { epsilon: 2, batch: 64, steps: 6, rank: 1, canaries: 200, documents: 300, characters: 200 }
const signal = new AbortController().signal

const publicModel = await loadPublicModel(join(ROOT, 'models/small'))
const engine = onnxEngine({ threads: 2 })
const work = await mkdtemp(join(tmpdir(), 'flexmesh-audits-'))
const training = join(work, 'training')
const trainings = new Trainings(
  inlineJobs(OWNER_JOBS, { engine, publicModel, training }),
  publicModel,
  training,
  signal,
)

/**
 * A file with the beginnings of documents: at most `most` of those that training keeps, and all that are held out.
 * @returns its path
 */
async function beginnings(
  name: string,
  characters: number,
  most = Number.POSITIVE_INFINITY,
): Promise<string> {
  const lines: string[] = []
  let kept = 0
  for await (const { text } of readDocuments([TEXT])) {
    for (let at = 0; at + characters <= text.length; at += characters) {
      const piece = text.slice(at, at + characters)
      const heldOut = isHeldOut(digestOf(piece), DEFAULT_HELD_OUT_SHARE)
      if (!heldOut && ++kept > most) continue
      lines.push(JSON.stringify({ text: piece }))
    }
  }
  const path = join(work, `${name}.jsonl`)
  await writeFile(path, `${lines.join('\n')}\n`)
  return path
}

async function audited(name: string, change: Partial<TrainRequest>): Promise<AuditReport> {
  const request = {
    ...TRAIN_DEFAULTS,
    steps: undefined,
    name,
    paths: [TEXT],
    canaries: CANARIES,
    seed: 1,
    ...change,
  }
  await resultOf(trainings.train(request as TrainRequest, signal))
  const { report } = await resultOf(trainings.audit({ name }, signal))
  return report
}

function print(title: string, report: AuditReport): void {
  console.log(`\n## ${title}\n\n${reportLines(report).join('\n')}`)
}

const stages: Readonly<Record<string, (argument: number | undefined) => Promise<void>>> = {
  /** All three attacks must catch it. */
  async control() {
    const path = await beginnings('control', CONTROL.characters, CONTROL.documents)
    const request = { paths: [path], canaries: CANARIES }
    await resultOf(
      trainings.train({ ...TRAIN_DEFAULTS, ...request, name: 'size', steps: 1, seed: 1 }, signal),
    )
    const corpus = await openCorpus(trainingDirs(training, 'size').corpus, publicModel.tokenizer)
    const epoch = corpus.train.tokens
    await corpus.close()
    const steps = Math.ceil(
      (CONTROL.epochs * epoch) / ownTokensRead({ ...TRAIN_DEFAULTS, steps: 1 } as never),
    )
    const report = await audited('control', { ...request, steps })
    print(`${CONTROL.documents} documents, ${CONTROL.epochs} epochs, ${steps} steps`, report)
  },
  async honest() {
    print(
      'An honest expert, 200 steps on the whole text',
      await audited('honest', { steps: TRAIN_DEFAULTS.steps }),
    )
  },
  async private() {
    const { epsilon, batch, steps } = PRIVATE
    const privacy = { unit: 'document', epsilon, batch } as const
    print(
      `Differential privacy with epsilon ${PRIVATE.epsilon}`,
      await audited('private', { privacy, steps }),
    )
  },
  async seeds(count = 20) {
    const path = await beginnings('seeds', SEEDS.characters, SEEDS.documents)
    const { epsilon, batch, steps, rank, canaries } = SEEDS
    const bounds: number[] = []
    for (let seed = 1; seed <= count; seed++) {
      const privacy = { unit: 'document', epsilon, batch } as const
      const report = await audited(`seed-${seed}`, { paths: [path], privacy, steps, rank, canaries, seed })
      bounds.push(report.figures.canaries?.epsilonLow ?? Number.NaN)
      console.log(`seed ${seed}: ${reportLines(report)[0]}`)
    }
    const above = bounds.filter((bound) => !(bound <= epsilon)).length
    console.log(
      `\n${above} of ${count} lower bounds are above epsilon ${epsilon}; the largest is ${Math.max(...bounds).toFixed(2)}`,
    )
  },
}

const asked = process.argv.slice(2)
try {
  for (const argument of asked.length === 0 ? Object.keys(stages) : asked) {
    const [stage = '', count] = argument.split('=')
    const run = stages[stage]
    if (run === undefined) throw new Error(`expected ${Object.keys(stages).join(', ')}, got "${argument}"`)
    const started = performance.now()
    await run(count === undefined ? undefined : Number(count))
    console.log(`(${stage} took ${((performance.now() - started) / 1000).toFixed(0)} s)`)
  }
} finally {
  await rm(work, { recursive: true, force: true })
}
