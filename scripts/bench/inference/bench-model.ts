/** Measures one reference model: our server against one peer after the other, so that only two are in memory. */
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Params } from '../../../src/model/weights.ts'
import { median, rounded } from '../machine.ts'
import { CONFIGS, type Size } from '../reference-configs.ts'
import { type Comparison, compare, type Speed } from './compare.ts'
import { writeFlexOlmoDirectory } from './flex-olmo-directory.ts'
import { type GgufFormat, writeOlmoeGguf } from './gguf.ts'
import { startLlamaCpp } from './llama-cpp-peer.ts'
import { type OurServer, startOurs, THREADS } from './our-server.ts'
import { activeBytes, EXPERTS, promptSource, referenceMixture, TOP_K } from './reference-models.ts'
import type { Server } from './server.ts'
import { startTransformers } from './transformers-peer.ts'

const PROMPT_TOKENS = 128
const NEW_TOKENS = 128
const SEED = 1
const ROUNDS: Readonly<Record<Size, number>> = { S: 7, M: 5, L: 3 }
const STREAMS = 16
const STREAM_ROUNDS = 3

export interface Peers {
  readonly python: string | undefined
  readonly llamaCpp: boolean
}

/** Members of the JSON line, which groups each by model. */
export interface ModelFindings {
  readonly ratios: {
    readonly decode: Record<string, number>
    readonly prefill: Record<string, number>
    int8Decode?: number
    concurrent16?: number
    concurrent16Decode?: number
  }
  /** Bytes of the weights that one token reads, divided by our decode time; GB/s. */
  readGBPerSecond: number
  readonly milliseconds: Record<string, Speed>
  transformers?: string
  readonly lines: string[]
}

interface Task {
  readonly size: Size
  readonly params: Params
  readonly nextPrompt: () => Int32Array
  readonly findings: ModelFindings
  readonly tell: (line: string) => void
}

export async function benchModel(
  size: Size,
  peers: Peers,
  say: (line: string) => void,
): Promise<ModelFindings> {
  const config = CONFIGS[size]
  const findings: ModelFindings = {
    ratios: { decode: {}, prefill: {} },
    readGBPerSecond: 0,
    milliseconds: {},
    lines: [],
  }
  const tell = (line: string): void => {
    findings.lines.push(`${size}: ${line}`)
    say(`${size}: ${line}`)
  }
  const task: Task = {
    size,
    params: referenceMixture(config, EXPERTS, SEED),
    nextPrompt: promptSource(config, PROMPT_TOKENS, SEED),
    findings,
    tell,
  }
  const ours = await startOurs(config, task.params, { E: EXPERTS, topK: TOP_K })
  try {
    await alone(task, ours)
    if (peers.python !== undefined) await againstTransformers(task, ours, peers.python)
    if (peers.llamaCpp) note(task, 'llamacpp', await againstLlamaCpp(task, ours, 'F32'))
    if (size === 'M') await concurrently(task, ours)
    if (size === 'L') await with8Bits(task, ours, peers.llamaCpp)
  } finally {
    await ours.stop()
  }
  return findings
}

async function alone(task: Task, ours: OurServer): Promise<void> {
  const { size, nextPrompt, findings, tell } = task
  const runs = []
  // The first run warms up and is discarded.
  for (let round = 0; round <= ROUNDS[size]; round++) runs.push(await ours.run(nextPrompt(), NEW_TOKENS))
  runs.shift()
  const speed = {
    prefillMs: median(runs.map((run) => run.prefillMs)),
    decodeMs: median(runs.map((run) => run.decodeMs)),
  }
  findings.milliseconds['flexmesh'] = shown(speed)
  const gigabytes = activeBytes(CONFIGS[size], EXPERTS, TOP_K) / 1e9
  findings.readGBPerSecond = gigabytes / (speed.decodeMs / 1000)
  tell(`alone: prefill ${speed.prefillMs.toFixed(1)} ms, decode ${speed.decodeMs.toFixed(2)} ms a token`)
  tell(`each token reads ${gigabytes.toFixed(3)} GB of weights: ${findings.readGBPerSecond.toFixed(1)} GB/s`)
}

async function againstTransformers(task: Task, ours: Server, python: string): Promise<void> {
  await inFolder(async (dir) => {
    await writeFlexOlmoDirectory(dir, CONFIGS[task.size], task.params, EXPERTS, TOP_K)
    const peer = await startTransformers(python, dir, THREADS)
    try {
      note(task, 'transformers', await versus(task, ours, peer, true))
      task.findings.transformers = peer.name
      task.tell(`transformers: all tokens agree; its fastest experts were ${peer.experts()}`)
    } finally {
      await peer.stop()
    }
  })
}

async function againstLlamaCpp(task: Task, ours: Server, format: GgufFormat): Promise<Comparison> {
  return inFolder(async (dir) => {
    const file = join(dir, 'olmoe.gguf')
    await writeOlmoeGguf(file, CONFIGS[task.size], EXPERTS, TOP_K, format)
    const peer = await startLlamaCpp(file, THREADS)
    try {
      return await versus(task, ours, peer, false)
    } finally {
      await peer.stop()
    }
  })
}

/** Tokens per second with many requests at once relative to one: of whole requests, and of decoding alone. */
async function concurrently({ nextPrompt, findings, tell }: Task, ours: OurServer): Promise<void> {
  const whole: number[] = []
  const decoding: number[] = []
  for (let round = 0; round <= STREAM_ROUNDS; round++) {
    const single = await ours.run(nextPrompt(), NEW_TOKENS)
    const together = await ours.together(Array.from({ length: STREAMS }, nextPrompt), NEW_TOKENS)
    if (round === 0) continue
    const singleMs = single.prefillMs + single.decodeMs * (NEW_TOKENS - 1)
    whole.push((STREAMS * singleMs) / together.ms)
    decoding.push((STREAMS * single.decodeMs) / together.decodeMs)
  }
  findings.ratios.concurrent16 = rounded(median(whole))
  findings.ratios.concurrent16Decode = rounded(median(decoding))
  tell(`${STREAMS} streams: ${findings.ratios.concurrent16} times the tokens/s of one over whole requests`)
  tell(`${STREAMS} streams: ${findings.ratios.concurrent16Decode} times the tokens/s of one while decoding`)
}

async function with8Bits(task: Task, fp32: OurServer, llamaCpp: boolean): Promise<void> {
  const init = { E: EXPERTS, topK: TOP_K, weights: 'int8' } as const
  const int8 = await startOurs(CONFIGS[task.size], task.params, init)
  try {
    const { ours, peer } = await versus(task, int8, fp32, false)
    task.findings.ratios.int8Decode = rounded(peer.decodeMs / ours.decodeMs)
    task.findings.milliseconds['flexmeshInt8'] = shown(ours)
    task.tell(`8-bit weights decode at ${task.findings.ratios.int8Decode} times our float32 speed`)
    if (llamaCpp) note(task, 'llamacppQ8', await againstLlamaCpp(task, int8, 'Q8_0'))
  } finally {
    await int8.stop()
  }
}

function versus(task: Task, ours: Server, peer: Server, outputsMustAgree: boolean): Promise<Comparison> {
  return compare(ours, peer, task.nextPrompt, ROUNDS[task.size], NEW_TOKENS, outputsMustAgree)
}

function note({ findings, tell }: Task, name: string, { ours, peer }: Comparison): void {
  findings.ratios.decode[name] = rounded(peer.decodeMs / ours.decodeMs)
  findings.ratios.prefill[name] = rounded(peer.prefillMs / ours.prefillMs)
  findings.milliseconds[name] = shown(peer)
  const line = (ratio: number | undefined, our: number, their: number): string =>
    `${ratio} times the speed of ${name}: ${our.toFixed(2)} to ${their.toFixed(2)} ms`
  tell(`decode at ${line(findings.ratios.decode[name], ours.decodeMs, peer.decodeMs)} a token`)
  tell(`prefill at ${line(findings.ratios.prefill[name], ours.prefillMs, peer.prefillMs)}`)
}

async function inFolder<T>(action: (dir: string) => Promise<T>): Promise<T> {
  const dir = await mkdtemp(join(tmpdir(), 'flexmesh-bench-'))
  try {
    return await action(dir)
  } finally {
    await rm(dir, { recursive: true, force: true })
  }
}

function shown({ prefillMs, decodeMs }: Speed): Speed {
  return { prefillMs: rounded(prefillMs), decodeMs: rounded(decodeMs) }
}
