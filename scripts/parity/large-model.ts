/**
 * Compares greedy tokens of a random public model of 200 million parameters, published in bf16, with transformers. Ours
 * are decoded as a node serves a large model, in fp32 and in bf16. Exits 1 unless both formats choose the same tokens,
 * which transformers chooses too, in float32 and in bfloat16. Takes 3 GB of memory.
 * Usage: FLEXMESH_TORCH_PYTHON=PYTHON tsx scripts/parity/large-model.ts [DIR], where DIR holds a model already.
 */
import { spawn } from 'node:child_process'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import { openPublicModel } from '../../src/checkpoint/public-model.ts'
import { createGenerator } from '../../src/inference/generate.ts'
import { mulberry32 } from '../../src/lib/random.ts'
import { mixtureWeights, zeroRows } from '../../src/model/params.ts'
import { onnxEngine } from '../../src/tensor/onnx-engine.ts'
import { writePublicModel } from '../bench/sizes/random-model.ts'
import { SHAPES } from '../bench/sizes/shapes.ts'

const PROMPTS = 4
const PROMPT_TOKENS = 48
const NEW_TOKENS = 48
const CONFIG = SHAPES['200M']
const python = process.env['FLEXMESH_TORCH_PYTHON']
if (python === undefined) {
  console.error('parity: set FLEXMESH_TORCH_PYTHON to a Python with torch and transformers')
  process.exit(2)
}

const child = spawn(python, [fileURLToPath(new URL('transformers_reference.py', import.meta.url))], {
  stdio: ['pipe', 'pipe', 'inherit'],
})
const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]()
async function answer<T>(): Promise<T> {
  const { value } = await lines.next()
  if (value === undefined) throw new Error('the reference exited; its error is above')
  return JSON.parse(value) as T
}

async function greedy(
  dir: string,
  format: 'fp32' | 'bf16',
  prompts: readonly Int32Array[],
): Promise<number[][]> {
  const { config, tensors } = await openPublicModel(dir)
  const weights = new Map([...tensors].map(([name, { weight }]) => [name, weight]))
  const mixture = mixtureWeights(config, weights, zeroRows(config), [])
  const init = {
    E: 1,
    topK: 1,
    contextLength: config.maxPositionEmbeddings,
    weights: format,
    way: 'held' as const,
  }
  const generator = await createGenerator(onnxEngine(), config, mixture, init)
  const continuations: number[][] = []
  for (const prompt of prompts) {
    const ids: number[] = []
    const sampling = { temperature: 0, topP: 1, seed: 1 }
    const request = { prompt, maxTokens: NEW_TOKENS, sampling, endsOfText: [], mask: new Float32Array(1) }
    for await (const { id } of generator.generate(request)) ids.push(id)
    continuations.push(ids)
  }
  await generator.dispose()
  return continuations
}

const versions = await answer<Record<string, unknown>>()
const work = await mkdtemp(join(tmpdir(), 'flexmesh-parity-'))
const faults: string[] = []
try {
  const dir = process.argv[2] ?? join(work, 'model')
  if (process.argv[2] === undefined) await writePublicModel(dir, CONFIG)
  const random = mulberry32(1)
  const prompts = Array.from({ length: PROMPTS }, () =>
    Int32Array.from({ length: PROMPT_TOKENS }, () => Math.floor(CONFIG.vocabSize * random())),
  )
  const ours = await greedy(dir, 'fp32', prompts)
  const inBf16 = await greedy(dir, 'bf16', prompts)
  if (ours.join() !== inBf16.join()) faults.push('bf16 chooses other tokens than fp32')
  const all = PROMPTS * NEW_TOKENS
  for (const dtype of ['float32', 'bfloat16']) {
    let others = 0
    for (const [i, prompt] of prompts.entries()) {
      const request = { do: 'follow', dir, prompt: [...prompt], ids: ours[i], dtype }
      child.stdin.write(`${JSON.stringify(request)}\n`)
      const { gaps } = await answer<{ readonly gaps: readonly number[] }>()
      others += gaps.filter((gap) => gap > 0).length
    }
    if (others > 0) faults.push(`transformers in ${dtype} chooses ${others} of ${all} tokens otherwise`)
  }
  const distinct = new Set(ours.flat()).size
  if (faults.length === 0) {
    console.log(
      `${all} greedy tokens (${distinct} different) in fp32 and bf16 equal those of transformers ${versions['transformers']} in float32 and bfloat16`,
    )
  }
} finally {
  child.stdin.end()
  await rm(work, { recursive: true, force: true })
}
if (faults.length > 0) {
  console.error(faults.join('; '))
  process.exitCode = 1
}
