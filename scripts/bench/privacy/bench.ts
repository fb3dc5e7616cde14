/**
 * Measures tokens per second and peak resident memory of a step of private training against the ordinary step, and
 * against Opacus, on the same weights and tokens, in alternating rounds; what privacy costs in quality; and how long an
 * audit takes and what it finds. The trainings of the latter two are those of scripts/paper/privacy.ts, in the same
 * folder: what it has trained is not trained again.
 */
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { auditReleased } from '../../../src/owner/audit-training.ts'
import type { OwnerWorkplace } from '../../../src/owner/owner-jobs.ts'
import { type AuditReport, reportLines } from '../../../src/privacy/audit-report.ts'
import type { Bench } from '../benchmark.ts'
import { median, rounded } from '../machine.ts'
import { Contestant } from '../training/contestant.ts'
import { startContestant } from '../training/contestants.ts'
import { REFERENCES, type ReferenceName, referenceWork } from '../training/models.ts'
import { THREADS, writeWork } from '../training/work-folder.ts'
import {
  EPSILONS,
  keptGain,
  measureUtility,
  NONE,
  trainingName,
  utilityWorkplace,
} from './private-experts.ts'

const ROUNDS = 5
/** Folder of the trainings; ignored by git. */
const WORK = '.bench/privacy'
/** The epsilons whose expert of biomedicine is audited. */
const AUDITED = [NONE, '8'] as const
/** Relative. The losses of the ordinary step include those of the z-losses, about a ten-thousandth. */
const LOSS_TOLERANCE = 1e-3

type Name = 'dp' | 'plain' | 'opacus'

/** Opacus keeps the gradient of every unit and takes several times as long, so it is measured on the small model alone. */
const CONTESTANTS: Readonly<Record<ReferenceName, readonly Name[]>> = {
  S: ['dp', 'plain', 'opacus'],
  M: ['dp', 'plain'],
}

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
  const speed = await benchSteps(say)
  const signal = new AbortController().signal
  const workplace = await utilityWorkplace(WORK)
  const utility = await measureUtility(workplace, EPSILONS, { say }, signal)
  const compositions = Array.from(utility.compositions, ([epsilon, { bits, experts }]) => {
    const kept = rounded(keptGain(utility, epsilon))
    return [epsilon, { ...bits, experts, keptGain: kept }] as const
  })
  const audit = await audits(workplace, signal)
  return {
    json: {
      ...speed.json,
      utility: Object.fromEntries(compositions),
      publicModel: utility.publicModel,
      audit: audit.json,
    },
    lines: [
      ...speed.lines,
      `public model: ${utility.publicModel.macro.toFixed(3)} bits per byte`,
      ...compositions.map(
        ([epsilon, { macro, keptGain: kept }]) =>
          `epsilon ${epsilon}: ${macro.toFixed(3)} bits per byte, ${kept} of the gain without a guarantee`,
      ),
      ...audit.lines,
    ],
  }
}

/** Audits the experts of biomedicine. `seconds` is how long the audit of the one without a guarantee took. */
async function audits(workplace: OwnerWorkplace, signal: AbortSignal): Promise<Bench> {
  const reports = new Map<string, AuditReport>()
  for (const epsilon of AUDITED) {
    const name = trainingName('biomedicine', epsilon)
    const { report } = await auditReleased(workplace, { name }, signal, () => undefined)
    reports.set(epsilon, report)
  }
  const figures = Array.from(reports, ([epsilon, { figures: found, outcome }]) => {
    const { extraction, membership } = found
    return [epsilon, { outcome, extraction, membership }] as const
  })
  return {
    json: { seconds: reports.get(NONE)?.seconds, ...Object.fromEntries(figures) },
    lines: Array.from(reports, ([epsilon, report]) => [
      `audit with epsilon ${epsilon}:`,
      ...reportLines(report),
    ]).flat(),
  }
}

async function benchSteps(say: (line: string) => void): Promise<Bench> {
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
    for (const name of CONTESTANTS[reference]) {
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
