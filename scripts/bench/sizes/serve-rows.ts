/** Rows of serving: one node for each format of weights, alternating with a peer on a model of the same shape. */
import { open } from 'node:fs/promises'
import { join } from 'node:path'
import type { Tokenizer } from '../../../src/data/tokenizer.ts'
import type { WeightFormat } from '../../../src/inference/weight-format.ts'
import { type Comparison, compare, type Speed } from '../inference/compare.ts'
import { type GgufFormat, writeOlmoeGguf } from '../inference/gguf.ts'
import { startLlamaCpp } from '../inference/llama-cpp-peer.ts'
import type { Run, Server } from '../inference/server.ts'
import { startTransformers } from '../inference/transformers-peer.ts'
import { median, rounded } from '../machine.ts'
import { seconds, type Task } from './command-rows.ts'
import type { Prefill, Serving } from './findings.ts'
import { remove, requireDisk } from './home.ts'
import { activeBytes, TOP_K, weightBytes } from './model-plan.ts'
import { type NodeServer, startNodeServer } from './node-server.ts'

export const THREADS = 2
const READ_BYTES = 2 ** 24
/** WeightFormat of llama.cpp's file that each of ours is compared with. */
const GGUF: Partial<Record<WeightFormat, GgufFormat>> = { int8: 'Q8_0', int4: 'Q4_0' }

/** What the rows of serving share. */
export interface ServeSetup {
  readonly tokenizer: Tokenizer
  readonly nextPrompt: () => Int32Array
  /** Read bandwidth of this machine, bytes/s. */
  readonly bandwidth: number
  readonly hasLlamaCpp: boolean
  readonly python: string | undefined
  /** Export of the composition; undefined if there is none. */
  readonly exported: string | undefined
}

export async function serve(task: Task, setup: ServeSetup, format: WeightFormat): Promise<void> {
  const { rows, home, plan } = task
  const options = ['--weights', format]
  const first = await startNodeServer(home, options, setup.tokenizer)
  await first.stop()
  const node = await startNodeServer(home, options, setup.tokenizer)
  let serving: Serving
  try {
    const speed = await measureSpeed(task, setup, format, node)
    serving = {
      peakMB: Math.max(first.process.peakMB, node.process.peakMB),
      weightsMB: Math.round(weightBytes(plan, format) / 1e6),
      startSeconds: seconds(first.startSeconds),
      secondStartSeconds: seconds(node.startSeconds),
      readSeconds: seconds(await readTime(task, weightBytes(plan, format))),
      ...speed,
    }
  } finally {
    await node.stop()
  }
  task.findings.serve = { ...task.findings.serve, [format]: serving }
  rows.say(
    `serve ${format}: ${serving.peakMB} MB for ${serving.weightsMB} MB of weights; ready after ${serving.startSeconds} and ${serving.secondStartSeconds} s; ${serving.decodeMs} ms a token`,
  )
}

type ServingSpeed = Pick<Serving, 'decodeMs' | 'bandwidthShare' | 'llamacpp' | 'transformers' | 'prefill'>

/** Our speed, beside a peer where one runs. */
async function measureSpeed(
  task: Task,
  setup: ServeSetup,
  format: WeightFormat,
  node: NodeServer,
): Promise<ServingSpeed> {
  const { rows, plan } = task
  const ggufFormat = GGUF[format]
  let found: { peer: 'llamacpp' | 'transformers'; comparison: Comparison } | undefined
  if (ggufFormat !== undefined && setup.hasLlamaCpp) {
    const comparison = await rows.measure(`llama.cpp ${ggufFormat}`, () =>
      againstLlamaCpp(task, setup, ggufFormat, node),
    )
    if (comparison !== undefined) found = { peer: 'llamacpp', comparison }
  }
  if (format === 'bf16' && setup.python !== undefined) {
    const comparison = await rows.measure('transformers bf16', () => againstTransformers(task, setup, node))
    if (comparison !== undefined) found = { peer: 'transformers', comparison }
  }
  const ours = found?.comparison.ours ?? (await alone(task, setup, node))
  const peer = found?.comparison.peer
  const share = activeBytes(plan, format) / (ours.decodeMs / 1000) / setup.bandwidth
  const prefill: Prefill = {
    tokensPerSecond: rounded((setup.nextPrompt().length * 1000) / ours.prefillMs),
    ...(found === undefined || peer === undefined
      ? {}
      : { [found.peer]: rounded(peer.prefillMs / ours.prefillMs) }),
  }
  return {
    decodeMs: rounded(ours.decodeMs),
    bandwidthShare: rounded(share),
    ...(found === undefined || peer === undefined
      ? {}
      : { [found.peer]: rounded(peer.decodeMs / ours.decodeMs) }),
    prefill,
  }
}

async function againstLlamaCpp(
  task: Task,
  setup: ServeSetup,
  format: GgufFormat,
  node: Server,
): Promise<Comparison> {
  const { plan, work } = task
  const file = join(work, 'olmoe.gguf')
  try {
    await requireDisk(work, 1.2 * weightBytes(plan, format === 'Q8_0' ? 'int8' : 'int4'))
    await writeOlmoeGguf(file, plan.config, plan.experts.length + 1, TOP_K, format)
    const peer = await startLlamaCpp(file, THREADS)
    try {
      return await versus(task, setup, node, peer)
    } finally {
      await peer.stop()
    }
  } finally {
    await remove(file)
  }
}

async function againstTransformers(task: Task, setup: ServeSetup, node: Server): Promise<Comparison> {
  if (setup.exported === undefined || setup.python === undefined)
    throw new Error('there is no export to read')
  const peer = await startTransformers(setup.python, setup.exported, THREADS, 'bfloat16')
  try {
    return await versus(task, setup, node, peer)
  } finally {
    await peer.stop()
  }
}

function versus({ plan }: Task, { nextPrompt }: ServeSetup, node: Server, peer: Server): Promise<Comparison> {
  return compare(node, peer, nextPrompt, plan.rounds, plan.newTokens, false)
}

/** Medians without a peer, after one run that is discarded. */
async function alone({ plan }: Task, { nextPrompt }: ServeSetup, node: Server): Promise<Speed> {
  const runs: Run[] = []
  for (let round = 0; round <= plan.rounds; round++) runs.push(await node.run(nextPrompt(), plan.newTokens))
  const counted = runs.slice(1)
  return {
    prefillMs: median(counted.map((run) => run.prefillMs)),
    decodeMs: median(counted.map((run) => run.decodeMs)),
  }
}

/** Seconds in which this machine reads `bytes` that it has just written. */
async function readTime({ work }: Task, bytes: number): Promise<number> {
  await requireDisk(work, bytes)
  const path = join(work, 'read')
  const piece = Buffer.alloc(READ_BYTES, 1)
  try {
    const file = await open(path, 'w+')
    try {
      for (let written = 0; written < bytes; written += READ_BYTES) await file.write(piece)
      const started = performance.now()
      for (let at = 0; at < bytes; at += READ_BYTES) await file.read(piece, 0, READ_BYTES, at)
      return (performance.now() - started) / 1000
    } finally {
      await file.close()
    }
  } finally {
    await remove(path)
  }
}
