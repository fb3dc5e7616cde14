/**
 * Measures tokens per second and peak resident memory of a step of private training against the ordinary step, and
 * against Opacus, on the same weights and tokens, in alternating rounds. What privacy costs in quality is measured by
 * scripts/paper/privacy.ts.
 */
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import type { Bench } from '../benchmark.ts'
import { median, rounded } from '../machine.ts'
import { Contestant } from '../training/contestant.ts'
import { startContestant } from '../training/contestants.ts'
import { REFERENCES, type ReferenceName, referenceWork } from '../training/models.ts'
import { THREADS, writeWork } from '../training/work-folder.ts'

const ROUNDS = 5
/** Relative. The losses of the ordinary step include those of the z-losses, about a ten-thousandth. */
const LOSS_TOLERANCE = 1e-3

type Name = 'dp' | 'plain' | 'opacus'

interface Measured {
  readonly version: string
  /** Median time of a step. */
  readonly ms: number
  readonly peakMB: number | undefined
}

const script = (name: string): string => fileURLToPath(new URL(`./${name}`, import.meta.url))

/** @throws Error with the reason why it cannot take part. */
function start(name: Name, reference: ReferenceName, folder: string): Promise<Contestant> {
  if (name === 'plain') return startContestant('flexmesh', reference, folder)
  if (name === 'dp') {
    return Contestant.start(process.execPath, ['--import', 'tsx', script('private.child.ts'), folder], {})
  }
  const python = process.env['FLEXMESH_TORCH_PYTHON']
  if (python === undefined) {
    throw new Error('not installed; set FLEXMESH_TORCH_PYTHON to a Python with torch and opacus')
  }
  return Contestant.start(python, [script('opacus_peer.py'), folder], { OMP_NUM_THREADS: String(THREADS) })
}

export async function benchPrivacy(say: (line: string) => void): Promise<Bench> {
  const ratios: Record<'dpOverPlain' | 'opacus' | 'rss', Record<string, number>> = {
    dpOverPlain: {},
    opacus: {},
    rss: {},
  }
  const details: Record<string, Record<string, object>> = {}
  const notMeasured: string[] = []
  const lines: string[] = []
  for (const reference of Object.keys(REFERENCES) as ReferenceName[]) {
    const { measured, missing } = await measure(reference, say)
    const { dp, plain, opacus } = measured
    if (dp === undefined || plain === undefined) throw new Error('our own steps were not measured')
    const { B, T } = REFERENCES[reference]
    details[reference] = {}
    for (const [name, { version, ms, peakMB }] of Object.entries(measured)) {
      const tokensPerSecond = Math.round((B * T * 1000) / ms)
      details[reference][name] = { version, tokensPerSecond, peakMB }
      lines.push(`${reference}: ${name} ${tokensPerSecond} tokens/s, ${peakMB ?? 'unknown'} MB (${version})`)
    }
    ratios.dpOverPlain[reference] = rounded(plain.ms / dp.ms)
    if (dp.peakMB !== undefined && plain.peakMB !== undefined) {
      ratios.rss[reference] = rounded(dp.peakMB / plain.peakMB)
    }
    if (opacus !== undefined) ratios.opacus[reference] = rounded(opacus.ms / dp.ms)
    lines.push(
      `${reference}: a private step has ${ratios.dpOverPlain[reference]} of the speed and ${ratios.rss[reference] ?? 'unknown'} of the memory of a plain one${opacus === undefined ? '' : `, and ${ratios.opacus[reference]} x the speed of Opacus`}`,
    )
    notMeasured.push(...missing.map((reason) => `${reference}: ${reason}`))
  }
  lines.push(...notMeasured.map((reason) => `not measured: ${reason}`))
  return { json: { ratios, details, notMeasured }, lines }
}

async function measure(
  reference: ReferenceName,
  say: (line: string) => void,
): Promise<{ measured: Partial<Record<Name, Measured>>; missing: string[] }> {
  const folder = await mkdtemp(join(tmpdir(), 'flexmesh-bench-'))
  const running = new Map<Name, Contestant>()
  const missing: string[] = []
  try {
    await writeWork(folder, REFERENCES[reference], await referenceWork(REFERENCES[reference]))
    for (const name of ['dp', 'plain', 'opacus'] as const) {
      try {
        running.set(name, await start(name, reference, folder))
      } catch (error) {
        if (name !== 'opacus') throw error
        missing.push(`opacus: ${error instanceof Error ? error.message : String(error)}`)
      }
    }
    const losses = new Map<Name, number>()
    for (const [name, contestant] of running) losses.set(name, (await contestant.run(1)).loss)
    const ours = losses.get('dp') as number
    for (const [name, loss] of losses) {
      if (!(Math.abs(loss - ours) <= LOSS_TOLERANCE * ours)) {
        throw new Error(
          `the contestants did different work: our first loss is ${ours}, that of ${name} is ${loss}`,
        )
      }
    }
    say(`${reference}: all report a loss of ${ours.toFixed(3)}`)
    const times = new Map([...running.keys()].map((name) => [name, [] as number[]]))
    for (let round = 0; round < ROUNDS; round++) {
      for (const [name, contestant] of running) {
        times.get(name)?.push(...(await contestant.run(REFERENCES[reference].stepsPerRound)).ms)
      }
      say(`${reference}: round ${round + 1} of ${ROUNDS}`)
    }
    const measured: Partial<Record<Name, Measured>> = {}
    for (const [name, contestant] of running) {
      const bytes = await contestant.peakMemory()
      const peakMB = bytes === undefined ? undefined : Math.round(bytes / 1e6)
      measured[name] = { version: contestant.ready.version, ms: median(times.get(name) ?? []), peakMB }
    }
    return { measured, missing }
  } finally {
    for (const contestant of running.values()) await contestant.stop()
    await rm(folder, { recursive: true, force: true })
  }
}
