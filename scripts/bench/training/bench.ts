/**
 * Measures tokens per second and peak resident memory of the pair step (forward, backward, clipping, AdamW,
 * z-losses), against PyTorch and stock TensorFlow.js on the same weights and tokens, in alternating rounds. All must
 * report the same loss before anything is timed.
 */
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Bench } from '../benchmark.ts'
import { median, rounded } from '../machine.ts'
import { peakSgemm } from '../peak/sgemm.ts'
import type { Contestant } from './contestant.ts'
import { CONTESTANTS, type ContestantName, ROUND_MATES, SLOW, startContestant } from './contestants.ts'
import { REFERENCES, type ReferenceName, referenceWork, usefulFlops } from './models.ts'
import { THREADS, writeWork } from './work-folder.ts'

const ROUNDS = 5
/** Rounds of a peer whose step takes half a minute. */
const SLOW_ROUNDS = 1
/** Relative; float32 sums in another order differ by less. */
const LOSS_TOLERANCE = 1e-4

interface Measured {
  readonly version: string
  readonly compileMs: number
  /** Median time of a step. */
  readonly ms: number
  readonly peakMB: number | undefined
}

interface Measurement {
  readonly measured: Partial<Record<ContestantName, Measured>>
  /** Reason why a contestant was not measured. */
  readonly missing: Partial<Record<ContestantName, string>>
}

export async function benchTraining(say: (line: string) => void): Promise<Bench> {
  const before = await peakSgemm(THREADS)
  const results: [ReferenceName, Measurement][] = []
  for (const name of Object.keys(REFERENCES) as ReferenceName[]) {
    const groups: Measurement[] = []
    for (const [i, peers] of ROUND_MATES.entries()) groups.push(await measure(name, peers, i === 0, say))
    results.push([name, together(groups)])
  }
  // Measured twice, minutes apart, and the better value counts, since a shared machine is seldom at its peak.
  return report(results, Math.max(before, await peakSgemm(THREADS)))
}

/** Merges groups: our time is that of the first group; peers of other groups keep their ratio to ours there. */
function together([first, ...others]: readonly Measurement[]): Measurement {
  const { measured, missing } = first as Measurement
  const ours = measured.flexmesh as Measured
  for (const other of others) {
    const beside = other.measured.flexmesh ?? ours
    for (const [name, result] of Object.entries(other.measured) as [ContestantName, Measured][]) {
      if (name !== 'flexmesh') measured[name] = { ...result, ms: (result.ms / beside.ms) * ours.ms }
    }
    Object.assign(missing, other.missing)
  }
  return { measured, missing }
}

async function measure(
  reference: ReferenceName,
  peers: readonly ContestantName[],
  evenAlone: boolean,
  say: (line: string) => void,
): Promise<Measurement> {
  const folder = await mkdtemp(join(tmpdir(), 'flexmesh-bench-'))
  const running = new Map<ContestantName, Contestant>()
  const missing: Partial<Record<ContestantName, string>> = {}
  try {
    await writeWork(folder, REFERENCES[reference], await referenceWork(REFERENCES[reference]))
    const losses = new Map<ContestantName, number>()
    for (const name of ['flexmesh', ...peers] as const) {
      try {
        running.set(name, await startContestant(name, reference, folder))
      } catch (error) {
        if (name === 'flexmesh') throw error
        missing[name] = error instanceof Error ? error.message : String(error)
        say(`${reference}: ${name} not measured: ${missing[name]}`)
      }
    }
    if (running.size === 1 && !evenAlone) return { measured: {}, missing }
    for (const [name, contestant] of running) losses.set(name, (await contestant.run(1)).loss)
    assertSameLoss(losses)
    say(`${reference}: all report a loss of ${losses.get('flexmesh')?.toFixed(4)}`)
    const times = new Map([...running.keys()].map((name) => [name, [] as number[]]))
    for (let round = 0; round < ROUNDS; round++) {
      for (const [name, contestant] of running) {
        const slow = SLOW.includes(name)
        if (slow && round >= SLOW_ROUNDS) continue
        times.get(name)?.push(...(await contestant.run(slow ? 1 : REFERENCES[reference].stepsPerRound)).ms)
      }
      say(`${reference}: round ${round + 1} of ${ROUNDS}`)
    }
    const measured: Partial<Record<ContestantName, Measured>> = {}
    for (const [name, contestant] of running) {
      const bytes = await contestant.peakMemory()
      measured[name] = {
        ...contestant.ready,
        ms: median(times.get(name) ?? []),
        peakMB: bytes === undefined ? undefined : Math.round(bytes / 1e6),
      }
    }
    return { measured, missing }
  } finally {
    for (const contestant of running.values()) await contestant.stop()
    await rm(folder, { recursive: true, force: true })
  }
}

function assertSameLoss(losses: ReadonlyMap<ContestantName, number>): void {
  const ours = losses.get('flexmesh') as number
  for (const [name, loss] of losses) {
    if (!(Math.abs(loss - ours) <= LOSS_TOLERANCE * ours)) {
      throw new Error(
        `the contestants did different work: our first loss is ${ours}, that of ${name} is ${loss}`,
      )
    }
  }
}

function report(results: readonly [ReferenceName, Measurement][], peak: number): Bench {
  const ratios: Record<string, Record<string, number>> = {}
  const peakShare: Record<string, number> = {}
  const details: Record<string, Record<string, Record<string, number>>> = {}
  const peers: Record<string, string> = {}
  const notMeasured: string[] = []
  const lines: string[] = [`best large matrix product: ${Math.round(peak / 1e9)} GFLOP/s`]
  for (const [reference, { measured, missing }] of results) {
    const { B, T } = REFERENCES[reference]
    const ours = measured.flexmesh as Measured
    const share = (usefulFlops(REFERENCES[reference]) * 1000) / ours.ms / peak
    peakShare[reference] = rounded(share)
    const against: Record<string, number> = {}
    details[reference] = {}
    for (const name of CONTESTANTS) {
      const result = measured[name]
      if (result === undefined) {
        peers[name] ??= 'not installed'
        notMeasured.push(`${reference}: ${name}: ${missing[name]}`)
        continue
      }
      const tokensPerSecond = Math.round((B * T * 1000) / result.ms)
      details[reference][name] = {
        tokensPerSecond,
        compileMs: Math.round(result.compileMs),
        ...(result.peakMB === undefined ? {} : { peakMB: result.peakMB }),
      }
      lines.push(
        `${reference}: ${name} ${tokensPerSecond} tokens/s, ${result.peakMB ?? 'unknown'} MB, ready after ${Math.round(result.compileMs)} ms`,
      )
      if (name === 'flexmesh') continue
      peers[name] = result.version
      against[name] = rounded(result.ms / ours.ms)
    }
    const theirs = measured.torchEager?.peakMB
    if (theirs !== undefined && ours.peakMB !== undefined) against['rss'] = rounded(theirs / ours.peakMB)
    ratios[reference] = against
    const speeds = Object.entries(against).map(([name, ratio]) => `${ratio} x ${name}`)
    lines.push(
      `${reference}: flexmesh is ${[...speeds, `at ${Math.round(100 * share)} % of the best matrix product`].join(', ')}`,
    )
  }
  lines.push(...notMeasured.map((reason) => `not measured: ${reason}`))
  const sgemmGflops = Math.round(peak / 1e9)
  return { json: { ratios, peakShare, sgemmGflops, details, peers, notMeasured }, lines }
}
