/**
 * Measures how long a restarting node needs to load and compose sixteen accepted experts of model M, compared with
 * only reading the same files, and how soon another choice of experts takes effect. `read` is the time for reading
 * divided by ours, and `rss` the bytes of the weights divided by the growth of our resident memory. Neither can
 * exceed 1, since every weight has to be read and kept in memory. For `read`, each file is read into memory of its
 * own, which weights in use need; for `readReused`, all files are read into one buffer.
 */
import { fork } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import type { Bench } from '../benchmark.ts'
import { median, rounded } from '../machine.ts'
import type { LoadFindings } from './load.child.ts'
import type { ReadFindings } from './read.child.ts'
import { type StoredExpert, storeExperts } from './stored-experts.ts'
import type { SwitchFindings } from './switch.child.ts'

const EXPERTS = 16
const ROUNDS = 5

export async function benchCompose(say: (line: string) => void): Promise<Bench> {
  const work = await mkdtemp(join(tmpdir(), 'flexmesh-bench-'))
  try {
    const full = await storeExperts(join(work, 'f32'), EXPERTS, 'F32')
    say(`stored ${EXPERTS} experts in F32`)
    const f32 = summary(await rounds(join(work, 'f32'), full))
    say(`F32: ${describe(f32)}`)
    const half = await storeExperts(join(work, 'bf16'), EXPERTS, 'BF16')
    const bf16 = summary(await rounds(join(work, 'bf16'), half))
    say(`BF16: ${describe(bf16)}`)
    const { switchMs, firstTokenMs } = await inChild<SwitchFindings>('switch.child', join(work, 'f32'), full)
    say(`another choice of experts: ${switchMs.toFixed(2)} ms`)
    return {
      json: {
        ratios: { read: f32.read, readReused: f32.readReused, rss: f32.rss },
        switchMs: rounded(switchMs),
        firstTokenMs: rounded(firstTokenMs),
        milliseconds: { load: f32.loadMs, read: f32.readMs, readReused: f32.reusedMs },
        bf16: { ratios: { read: bf16.read, rss: bf16.rss }, milliseconds: { load: bf16.loadMs } },
        megabytes: f32.megabytes,
        peers: {},
      },
      lines: [
        `${EXPERTS} experts of model M in F32: ${describe(f32)}`,
        `the same in BF16: ${describe(bf16)}`,
        `a request with another choice of experts has its first token ${switchMs.toFixed(2)} ms later`,
      ],
    }
  } finally {
    await rm(work, { recursive: true, force: true })
  }
}

interface Summary {
  readonly read: number
  readonly readReused: number
  readonly rss: number
  readonly loadMs: number
  readonly readMs: number
  readonly reusedMs: number
  readonly megabytes: number
}

type Round = LoadFindings & ReadFindings

/** Runs every measurement in a new process, because memory that a process has used before costs less. */
async function rounds(dir: string, experts: readonly StoredExpert[]): Promise<Round[]> {
  const found: Round[] = []
  for (let round = 0; round < ROUNDS; round++) {
    const load = await inChild<LoadFindings>('load.child', dir, experts)
    found.push({ ...load, ...(await inChild<ReadFindings>('read.child', dir, experts)) })
  }
  return found
}

function summary(found: readonly Round[]): Summary {
  const [{ weightBytes }] = found as [Round]
  const of = (member: 'loadMs' | 'readMs' | 'reusedMs' | 'grownBytes'): number =>
    median(found.map((findings) => findings[member]))
  return {
    read: rounded(of('readMs') / of('loadMs')),
    readReused: rounded(of('reusedMs') / of('loadMs')),
    rss: rounded(weightBytes / of('grownBytes')),
    loadMs: rounded(of('loadMs')),
    readMs: rounded(of('readMs')),
    reusedMs: rounded(of('reusedMs')),
    megabytes: Math.round(weightBytes / 1e6),
  }
}

function describe(found: Summary): string {
  const [read, reused, load] = [found.readMs, found.reusedMs, found.loadMs].map(Math.round)
  return (
    `${load} ms for ${found.megabytes} MB of weights; reading the files takes ${read} ms, ` +
    `into one reused buffer ${reused} ms; weights / growth of memory: ${found.rss}`
  )
}

async function inChild<T>(name: string, dir: string, experts: readonly StoredExpert[]): Promise<T> {
  const script = fileURLToPath(new URL(`./${name}.ts`, import.meta.url))
  const child = fork(script, [dir], { execArgv: ['--import', 'tsx'] })
  child.send(experts)
  const ended = once(child, 'exit').then(([code]) => {
    throw new Error(`${name} ended with code ${String(code)}`)
  })
  const [findings] = (await Promise.race([once(child, 'message'), ended])) as [T]
  await ended.catch(() => undefined)
  return findings
}
