/**
 * Checks that our engine and transformers compute the same from the same model, in both directions: from checkpoints
 * that transformers saved, and from folders that we wrote. Prints one line; exits 1 if logits differ by more than 1e-4
 * of the largest or a greedy continuation differs. `--write` stores the results of transformers for our folders, and
 * small checkpoints that it saved, in test/fixtures/parity.
 * Usage: FLEXMESH_TORCH_PYTHON=PYTHON tsx scripts/parity/check.ts [--write]
 */
import { spawn } from 'node:child_process'
import { cp, mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import { writeHuggingFaceDirectory } from '../../src/checkpoint/huggingface-directory.ts'
import { configToHuggingFace, mixtureToHuggingFace } from '../../src/model/config.ts'
import { CASES, dtypeOf, NEW_TOKENS, type ParityCase, promptOf, weightsOf } from './cases.ts'
import { type Answer, answerOf, readFolder, relativeError } from './our-model.ts'

const TOLERANCE = 1e-4
/** Small enough that most checkpoints have several files. */
const SHARD_BYTES = 30_000
/** Significant digits of a stored logit. */
const DIGITS = 7
/** Cases whose saved checkpoint is stored: a dense one with grouped queries in bf16, and a mixture. */
const KEPT = ['dense-grouped-bf16', 'pair-bf16-top1']

const python = process.env['FLEXMESH_TORCH_PYTHON']
if (python === undefined) {
  console.error('parity: set FLEXMESH_TORCH_PYTHON to a Python with torch and transformers')
  process.exit(2)
}
const stored = fileURLToPath(new URL('../../test/fixtures/parity', import.meta.url))
const write = process.argv.includes('--write')

const child = spawn(python, [fileURLToPath(new URL('transformers_reference.py', import.meta.url))], {
  stdio: ['pipe', 'pipe', 'inherit'],
})
const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]()
async function answer<T>(): Promise<T> {
  const { value } = await lines.next()
  if (value === undefined) throw new Error('the reference exited; its error is above')
  return JSON.parse(value) as T
}
async function ask<T>(request: Record<string, unknown>): Promise<T> {
  child.stdin.write(`${JSON.stringify(request)}\n`)
  return answer<T>()
}

function configOf({ config, experts, topK, dtype }: ParityCase): Record<string, unknown> {
  const name = dtype === 'F32' ? ('float32' as const) : ('bfloat16' as const)
  const json =
    experts === 0
      ? { ...configToHuggingFace(config), torch_dtype: name }
      : mixtureToHuggingFace(config, { experts, topK, endsOfText: [0], dtype: name })
  return { ...json, eos_token_id: null, pad_token_id: null }
}

async function writeOurs(task: ParityCase, dir: string): Promise<void> {
  const tensors = [...weightsOf(task)].map(([name, { shape, data }]) => {
    return { name, weight: { shape, data }, dtype: dtypeOf(task, name) }
  })
  const files = new Map([['config.json', JSON.stringify(configOf(task))]])
  await writeHuggingFaceDirectory(dir, { tensors, files }, { shardBytes: SHARD_BYTES })
}

async function makeTheirs(task: ParityCase, dir: string): Promise<void> {
  const { torch_dtype, architectures, model_type, ...config } = configOf(task)
  const shard = `${SHARD_BYTES / 1000}KB`
  const { seed, experts } = task
  await ask({ do: 'make', dir, config, dense: experts === 0, dtype: torch_dtype, seed, shard })
}

async function theirsOf(dir: string, task: ParityCase): Promise<Answer> {
  const prompt = [...promptOf(task)]
  return ask<Answer>({ do: 'run', dir, prompt, newTokens: NEW_TOKENS })
}

const versions = await answer<Record<string, unknown>>()
const work = await mkdtemp(join(tmpdir(), 'flexmesh-parity-'))
const faults: string[] = []
let worst = 0
const vectors: Record<string, unknown>[] = []
try {
  for (const task of CASES) {
    for (const [side, prepare] of [
      ['theirs', makeTheirs],
      ['ours', writeOurs],
    ] as const) {
      const dir = join(work, `${task.name}-${side}`)
      await prepare(task, dir)
      const expected = await theirsOf(dir, task)
      const actual = await answerOf(await readFolder(dir), promptOf(task), NEW_TOKENS)
      const error = relativeError(actual.logits, expected.logits)
      worst = Math.max(worst, error)
      if (!(error <= TOLERANCE))
        faults.push(`${task.name} (${side}): logits differ by ${error.toExponential(1)}`)
      if ([actual.ids, actual.idsByEngine].some((ids) => ids.join() !== expected.ids.join()))
        faults.push(`${task.name} (${side}): greedy text differs`)
      const keep = side === 'ours' || KEPT.includes(task.name)
      if (!keep) continue
      const last = Array.from(expected.logits).slice(-task.config.vocabSize)
      const logits = last.map((x) => Number(x.toPrecision(DIGITS)))
      vectors.push({ name: task.name, side, logits, ids: expected.ids })
      if (write && side === 'theirs') await cp(dir, join(stored, task.name), { recursive: true })
    }
  }
  if (write) {
    await mkdir(stored, { recursive: true })
    const content = vectors.map((vector) => JSON.stringify(vector)).join(',\n')
    const head = JSON.stringify({ ...versions, tolerance: TOLERANCE }).slice(0, -1)
    await writeFile(join(stored, 'vectors.json'), `${head},"vectors":[\n${content}\n]}\n`)
  }
} finally {
  child.stdin.end()
  await rm(work, { recursive: true, force: true })
}
const count = `${CASES.length} configurations, both directions`
if (faults.length > 0) {
  console.error(`parity with transformers ${versions['transformers']}: ${faults.join('; ')}`)
  process.exitCode = 1
} else {
  console.log(
    `parity with transformers ${versions['transformers']}: ${count}: logits within ${worst.toExponential(1)}, ${NEW_TOKENS} greedy tokens identical`,
  )
}
