/**
 * `npm run bench -- sizes [--models 1B,7B,7x7B]`: what the commands of a node take on models of real sizes, with random
 * weights, and how fast it serves them beside llama.cpp and transformers. Every row runs the built program in a process
 * of its own. `--models tiny` runs through all rows in minutes. FLEXMESH_BENCH_ROWS=create,serve runs only the rows
 * named. Linux only.
 */
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { openPublicModel } from '../../../src/checkpoint/public-model.ts'
import { InputError } from '../../../src/lib/errors.ts'
import type { Bench } from '../benchmark.ts'
import { llamaCppVersion } from '../inference/llama-cpp-peer.ts'
import { rounded } from '../machine.ts'
import { checkBuilt, ROOT } from '../node-process.ts'
import { readGBPerSecond } from '../peak/peak.ts'
import {
  create,
  expertName,
  exportComposition,
  exportPair,
  importExpert,
  publish,
  type Task,
} from './command-rows.ts'
import { type ModelFindings, Rows } from './findings.ts'
import { publishAndJudge } from './judge-row.ts'
import { DEFAULT_MODELS, MODEL_NAMES, type ModelName, PLANS } from './model-plan.ts'
import { promptSource } from './prompts.ts'
import { measureQuality } from './quality.ts'
import { reportLines } from './report.ts'
import { type ServeSetup, serve, THREADS } from './serve-rows.ts'
import { trainLowRank } from './train-row.ts'

const ROW_NAMES = ['train', 'publish', 'judge', 'serve', 'export', 'import', 'quality'] as const
type RowName = (typeof ROW_NAMES)[number]
/** Rows before which experts are published. */
const NEED_EXPERTS: readonly RowName[] = ['publish', 'judge', 'serve', 'export']

/** What all models share. */
interface Setting extends Pick<ServeSetup, 'tokenizer' | 'bandwidth' | 'hasLlamaCpp' | 'python'> {
  readonly wanted: ReadonlySet<RowName>
  readonly say: (line: string) => void
}

export async function benchSizes(say: (line: string) => void, options: readonly string[]): Promise<Bench> {
  const names = modelsOf(options)
  checkBuilt()
  const wanted = wantedRows()
  const llamaCpp = await llamaCppVersion()
  const { tokenizer } = await openPublicModel(join(ROOT, 'models', 'small'))
  const gigabytes = await readGBPerSecond(THREADS)
  say(`this machine reads ${gigabytes.toFixed(1)} GB/s`)
  const python = process.env['FLEXMESH_TORCH_PYTHON']
  const setting: Setting = {
    tokenizer,
    bandwidth: gigabytes * 1e9,
    hasLlamaCpp: llamaCpp !== undefined,
    python,
    wanted,
    say,
  }
  const notMeasured: string[] = []
  if (llamaCpp === undefined) notMeasured.push('llama.cpp: run npm ci --prefix scripts/bench/peers')
  if (python === undefined)
    notMeasured.push('PyTorch and transformers: set FLEXMESH_TORCH_PYTHON to a Python with them')
  const models: Partial<Record<ModelName, ModelFindings>> = {}
  for (const name of names) {
    const rows = new Rows(name, say)
    models[name] = await inFolder((work) => measureModel(name, work, rows, setting))
    notMeasured.push(...rows.notMeasured)
  }
  const quality = new Rows('models/small', say)
  const loss = wanted.has('quality')
    ? await inFolder((work) => quality.measure('quality', () => measureQuality(work, quality)))
    : undefined
  notMeasured.push(...quality.notMeasured)
  const json = {
    models,
    ...(loss?.int4 === undefined ? {} : { int4BitsPerByteLoss: loss.int4 }),
    ...(loss?.int8 === undefined ? {} : { int8BitsPerByteLoss: loss.int8 }),
    readGBPerSecond: rounded(gigabytes),
    peers: { llamacpp: llamaCpp ?? 'not installed', torch: python ?? 'not installed' },
    notMeasured,
  }
  return { json, lines: reportLines(json) }
}

async function measureModel(
  name: ModelName,
  work: string,
  rows: Rows,
  setting: Setting,
): Promise<ModelFindings> {
  const plan = PLANS[name]
  const findings: ModelFindings = {}
  const task: Task = { plan, rows, findings, work, home: join(work, 'home') }
  const { wanted, python } = setting
  const created = await rows.measure('create', async () => {
    await create(task)
    return true
  })
  if (created === undefined) return findings
  if (wanted.has('import')) {
    await rows.measure('import-expert', () => importExpert(task))
    await rows.measure('train --export-pair', () => exportPair(task))
  }
  if (NEED_EXPERTS.some((row) => wanted.has(row))) await measureComposition(task, setting)
  if (wanted.has('train')) {
    if (plan.steps > 0) await trainLowRank(task, python)
    else rows.skip('train --rank 64', 'models of this size are trained on a cluster')
  }
  return findings
}

/** Rows that need published experts. */
async function measureComposition(task: Task, setting: Setting): Promise<void> {
  const { plan, rows } = task
  const { wanted } = setting
  if (wanted.has('judge')) await publishAndJudge(task)
  else await rows.measure('publish', () => publish(task, 1))
  // Judging needs one expert, the composition all of them.
  const published = wanted.has('serve') || wanted.has('export') ? plan.experts.length : 1
  for (let index = 2; index <= published; index++) {
    await rows.measure(`publish ${expertName(index)}`, () => publish(task, index))
  }
  const exported = wanted.has('export')
    ? await rows.measure('export', () => exportComposition(task))
    : undefined
  if (!wanted.has('serve')) return
  const setup: ServeSetup = { ...setting, exported, nextPrompt: promptSource(setting.tokenizer) }
  for (const format of plan.formats) await rows.measure(`serve ${format}`, () => serve(task, setup, format))
}

/** @throws InputError `usage`. */
function modelsOf(options: readonly string[]): readonly ModelName[] {
  const [option, list, ...more] = options
  if (option === undefined) return DEFAULT_MODELS
  const names = list?.split(',').map((given) => MODEL_NAMES.find((name) => name === given))
  if (option !== '--models' || names === undefined || names.includes(undefined) || more.length > 0) {
    throw new InputError('usage', `sizes takes --models with some of ${MODEL_NAMES.join(',')}`)
  }
  return names as ModelName[]
}

/** @throws InputError `usage`. */
function wantedRows(): ReadonlySet<RowName> {
  const given = process.env['FLEXMESH_BENCH_ROWS']?.split(',')
  const unknown = given?.find((row) => !ROW_NAMES.some((name) => name === row))
  if (unknown !== undefined) {
    throw new InputError(
      'usage',
      `FLEXMESH_BENCH_ROWS: expected some of ${ROW_NAMES.join(',')}, got "${unknown}"`,
    )
  }
  return new Set(ROW_NAMES.filter((name) => given?.includes(name) ?? true))
}

async function inFolder<T>(action: (work: string) => Promise<T>): Promise<T> {
  const work = await mkdtemp(join(tmpdir(), 'flexmesh-bench-'))
  try {
    return await action(work)
  } finally {
    await rm(work, { recursive: true, force: true })
  }
}
