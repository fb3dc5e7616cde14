/**
 * Measures the peak memory of two commands on a sharded checkpoint of 1.5 GB, each in a process of its own: founding
 * a consortium around it, and importing a pair made from it. Linux only, since it reads /proc.
 */

import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { writeHuggingFaceDirectory } from '../../../src/checkpoint/huggingface-directory.ts'
import type { NamedTensor } from '../../../src/checkpoint/tensor-file.ts'
import { expandBf16 } from '../../../src/lib/float-formats.ts'
import { mulberry32 } from '../../../src/lib/random.ts'
import { denseName } from '../../../src/lib/tensor-names.ts'
import { configToHuggingFace, type ModelConfig, mixtureToHuggingFace } from '../../../src/model/config.ts'
import { mixtureShapes, publicShapes } from '../../../src/model/params.ts'
import { initHome } from '../../../src/node/found.ts'
import { ROOT, SETTINGS } from '../node-process.ts'

/** 0.75 billion parameters in BF16. */
const CONFIG: ModelConfig = {
  vocabSize: 8192,
  hiddenSize: 1536,
  intermediateSize: 6144,
  numHiddenLayers: 20,
  numAttentionHeads: 12,
  numKeyValueHeads: 4,
  maxPositionEmbeddings: 2048,
  ropeTheta: 500_000,
  rmsNormEps: 1e-6,
}
const SHARD_BYTES = 400e6
const PIECE_BYTES = 2 ** 20
const SAMPLE_MS = 20
const SMALL = join(ROOT, 'models', 'small')
const MAIN = join(ROOT, 'src', 'main.ts')

export interface ImportFindings {
  readonly modelMB: number
  readonly largestShardMB: number
  /** Peak resident memory of each command, MB. */
  readonly createMB: number
  readonly importMB: number
}

export async function measureImports(work: string): Promise<ImportFindings> {
  const model = join(work, 'published')
  const pair = join(work, 'pair')
  const home = join(work, 'import-home')
  const tokenizer = await readFile(join(SMALL, 'tokenizer.json'))
  const dense = { ...configToHuggingFace(CONFIG), eos_token_id: 0 }
  const mixture = mixtureToHuggingFace(CONFIG, { experts: 2, topK: 2, endsOfText: [0], dtype: 'bfloat16' })
  const write = async (dir: string, json: unknown, tensors: NamedTensor[]): Promise<void> => {
    const files = new Map([
      ['config.json', JSON.stringify(json)],
      ['tokenizer.json', new Uint8Array(tokenizer)],
    ] as [string, string | Uint8Array][])
    await writeHuggingFaceDirectory(dir, { tensors, files }, { shardBytes: SHARD_BYTES })
  }
  const shapes = publicShapes(CONFIG)
  await write(model, dense, [...shapes].map(source))
  await write(pair, mixture, [...mixtureShapes(CONFIG, 2)].map(source))
  await initHome(home, SETTINGS, { inTheClear: true })
  const replay = join(SMALL, 'replay.jsonl')
  const create = ['consortium', 'create', '--public-model', model, '--name', 'Bench', '--replay', replay]
  const createMB = await peakOf([...create, '--home', home])
  const importMB = await peakOf(['import-expert', pair, '--name', 'large', '--home', home])
  const bytes = [...shapes.values()].reduce((sum, shape) => sum + 2 * shape.reduce((a, b) => a * b, 1), 0)
  return {
    modelMB: Math.round(bytes / 1e6),
    largestShardMB: Math.round(SHARD_BYTES / 1e6),
    createMB,
    importMB,
  }
}

/** Random BF16 values below 1, equal for a tensor of the public model and its copy in the pair; public rows are zero. */
function source([name, shape]: [string, readonly number[]]): NamedTensor {
  const dense = denseName(name).replace('.experts.1.', '.')
  const length = 2 * shape.reduce((a, b) => a * b, 1)
  const zeros = /mlp\.gate\.weight$/.test(name) ? length / 2 : 0
  let piece: Uint8Array | undefined
  const readBytes = async (into: Uint8Array, from: number): Promise<void> => {
    piece ??= randomPiece(dense)
    for (let at = 0; at < into.length; ) {
      const part = piece.subarray((from + at) % PIECE_BYTES).subarray(0, into.length - at)
      into.set(part, at)
      at += part.length
    }
    if (from < zeros) into.fill(0, 0, zeros - from)
    if (from + into.length === length) piece = undefined
  }
  const read = async (into: Float32Array, from: number): Promise<void> => {
    const halves = new Uint16Array(into.length)
    await readBytes(new Uint8Array(halves.buffer), 2 * from)
    expandBf16(halves, into)
  }
  return { name, weight: { shape, dtype: 'BF16', read, readBytes } }
}

function randomPiece(name: string): Uint8Array {
  const random = mulberry32([...name].reduce((hash, c) => Math.imul(hash, 31) + c.charCodeAt(0), 7))
  const halves = new Uint16Array(PIECE_BYTES / 2).map(() => 0x3c00 + Math.floor(random() * 0x380))
  return new Uint8Array(halves.buffer)
}

/** Peak resident memory of a command, MB. @throws Error if the command fails. */
async function peakOf(args: readonly string[]): Promise<number> {
  const child = spawn(process.execPath, ['--import', 'tsx', MAIN, ...args], {
    stdio: ['ignore', 'ignore', 'pipe'],
  })
  let stderr = ''
  child.stderr.on('data', (part: Buffer) => {
    stderr += part.toString()
  })
  let peak = 0
  const sample = async (): Promise<void> => {
    const status = await readFile(`/proc/${child.pid}/status`, 'utf8')
    peak = Math.max(peak, Number(/VmHWM:\s+(\d+) kB/.exec(status)?.[1] ?? 0) * 1024)
  }
  const timer = setInterval(() => void sample().catch(() => undefined), SAMPLE_MS)
  const [code] = (await once(child, 'exit')) as [number | null]
  clearInterval(timer)
  if (code !== 0) throw new Error(`flexmesh ${args[0]}: ${stderr}`)
  return Math.round(peak / 1e6)
}
