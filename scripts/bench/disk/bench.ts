/**
 * `npm run bench -- disk [RUNS] [SEED] [FAULT]`: lets the disk of a node fail while it receives and while it publishes
 * packages, each time at another call and for one call or many, or kills the node with SIGKILL at such a call. Then it looks at
 * what is left when the disk works again: a node that was not killed must run or have ended with a sentence; every package
 * that was reported as published and every one of the other member must be in use; the node must have signed one history.
 * The calls come from a seed. Runs the built program, so `npm run build` comes first. Linux with a C compiler only. Does
 * not imitate a loss of power.
 */
import type { ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout } from 'node:timers/promises'
import { InputError } from '../../../src/lib/errors.ts'
import { mulberry32 } from '../../../src/lib/random.ts'
import type { Bench } from '../benchmark.ts'
import {
  callNode,
  checkBuilt,
  foundHome,
  hasEnded,
  joinHome,
  logOf,
  PROGRAM,
  ROOT,
  startNode,
  stopNode,
} from '../node-process.ts'
import { FAULTS, FailingDisk, type Fault } from './failing-disk.ts'

const DEFAULT_RUNS = 200
const DEFAULT_SEED = 1
/** Maximum number of calls that fail one after the other; every second run has one only. */
const MAX_FAILING = 60
/** Time that the disk may fail after the package was published, ms. */
const FAULT_MS = 4000
/** Share of the calls of an operation among which the first failing one is; the last calls may come later or not at all. */
const SHARE = 0.8
/** Time after the failure until a package must be in use, ms. */
const RECOVERY_MS = 90_000
const POLL_MS = 50

type Operation = 'receive' | 'publish'

interface Run {
  readonly operation: Operation
  readonly fault: Fault
  /** Index of the first call that failed among those since the operation began. */
  readonly after: number
  /** Number of calls that have failed. */
  readonly failed: number
  /** Why the operation was refused; it was repeated then. */
  readonly refused?: string
  /** Whether the process ended; it was started again then. */
  readonly ended: boolean
  /** Time after the failure until the package was in use at both, s. */
  readonly seconds: number
  /** What is wrong afterwards. */
  readonly wrong: readonly string[]
}

interface Nodes {
  readonly disk: FailingDisk
  readonly home: string
  /** The home folder whose disk fails. */
  readonly failingHome: string
  failing: ChildProcess
}

/** @throws InputError `usage`. */
export async function benchDisk(say: (line: string) => void, options: readonly string[]): Promise<Bench> {
  const [runs, seed] = [Number(options[0] ?? DEFAULT_RUNS), Number(options[1] ?? DEFAULT_SEED)]
  const faults = (Object.keys(FAULTS) as Fault[]).filter((fault) => fault === (options[2] ?? fault))
  const isUsable = Number.isInteger(runs) && runs >= 1 && Number.isInteger(seed) && faults.length > 0
  if (!isUsable || options.length > 3) {
    const names = Object.keys(FAULTS).map((name) => `"${name}"`)
    throw new InputError(
      'usage',
      `disk: expected the number of runs, a seed and one of ${names.join(', ')}; got "${options.join(' ')}"`,
    )
  }
  checkBuilt()
  const work = await mkdtemp(join(tmpdir(), 'flexmesh-bench-'))
  const [home, failingHome] = [join(work, 'founder'), join(work, 'member')]
  const disk = await FailingDisk.create(work)
  const children: ChildProcess[] = []
  try {
    await foundHome(home)
    children.push(await startNode([PROGRAM], home))
    await joinHome(home, failingHome)
    const nodes: Nodes = { disk, home, failingHome, failing: await startFailing(disk, failingHome) }
    try {
      const done = await failAgainAndAgain(nodes, { runs, seed, faults }, say)
      return report(done)
    } finally {
      children.push(nodes.failing)
    }
  } finally {
    await Promise.all(children.map(stopNode))
    disk.close()
    await rm(work, { recursive: true, force: true })
  }
}

function startFailing(disk: FailingDisk, home: string): Promise<ChildProcess> {
  return startNode([PROGRAM], home, disk.environment(home))
}

async function failAgainAndAgain(
  nodes: Nodes,
  { runs, seed, faults }: { readonly runs: number; readonly seed: number; readonly faults: readonly Fault[] },
  say: (line: string) => void,
): Promise<Run[]> {
  const { disk, home, failingHome } = nodes
  const random = mulberry32(seed)
  const below = (max: number): number => Math.floor(random() * max)
  for (const one of [home, failingHome]) {
    const data = [join(ROOT, 'examples', one === home ? 'hospital' : 'archive', 'text')]
    await callNode(one, 'train', { name: 'expert', data, steps: 1 })
  }
  const calls: Record<Operation, number> = { receive: 0, publish: 0 }
  for (const operation of ['receive', 'publish'] as const) {
    await inUse(nodes, (await publish(nodes, operation)).id) // The first takes more calls than later ones.
    const before = disk.calls()
    await inUse(nodes, (await publish(nodes, operation)).id)
    calls[operation] = disk.calls() - before
  }
  say(`calls without a fault: ${calls.receive} to receive a package, ${calls.publish} to publish one`)
  const done: Run[] = []
  for (let i = 0; i < runs; i++) {
    const operation = i % 2 === 0 ? 'receive' : 'publish'
    const fault = faults[(i >> 1) % faults.length] as Fault
    const count = below(2) === 0 || fault === 'kill' ? 1 : 1 + below(MAX_FAILING)
    const run = await failOnce(nodes, operation, {
      fault,
      after: below(Math.ceil(SHARE * calls[operation])),
      count,
    })
    done.push(run)
    const { failed, refused, ended, seconds, wrong } = run
    say(
      `${i + 1} ${operation}, ${fault} at call ${run.after}, ${failed} calls: ${refused === undefined ? '' : `refused (${refused.split('\n')[0]}), `}${ended ? 'ended, ' : ''}in use after ${seconds} s${wrong.map((what) => `; WRONG: ${what}`).join('')}`,
    )
  }
  return done
}

/** The member whose disk works, or the one whose disk fails, publishes its expert again. */
async function publish({ home, failingHome }: Nodes, operation: Operation): Promise<{ id: string }> {
  const publisher = operation === 'receive' ? home : failingHome
  return (await callNode(publisher, 'publish', { name: 'expert', noAudit: true })) as { id: string }
}

async function failOnce(
  nodes: Nodes,
  operation: Operation,
  { fault, after, count }: { readonly fault: Fault; readonly after: number; readonly count: number },
): Promise<Run> {
  const { disk } = nodes
  const failedBefore = disk.failed()
  const wrong: string[] = []
  disk.failAfter(after, count, fault)
  const published = await publish(nodes, operation).catch(textOf)
  const until = performance.now() + FAULT_MS
  while (disk.failed() < failedBefore + count && performance.now() < until) await setTimeout(POLL_MS)
  disk.heal()
  const failed = disk.failed() - failedBefore
  if (fault === 'kill' && failed > 0 && !hasEnded(nodes.failing)) await once(nodes.failing, 'exit')
  const ended = hasEnded(nodes.failing)
  if (ended) {
    const lines = (await readFile(logOf(nodes.failingHome), 'utf8')).split('\n')
    if (lines.some((line) => /^\s+at /.test(line))) wrong.push('ended with a stack trace')
    nodes.failing = await startFailing(disk, nodes.failingHome)
  }
  const refused = typeof published === 'string' ? published : undefined
  if (refused !== undefined && fault !== 'kill' && /unexpected/.test(refused)) wrong.push(refused)
  const began = performance.now()
  const again = refused === undefined ? published : await publish(nodes, operation).catch(textOf)
  if (typeof again === 'string') wrong.push(`refused when the disk works: ${again}`)
  else if (!(await inUse(nodes, again.id))) wrong.push('not in use')
  wrong.push(...(await differences(nodes)))
  const seconds = Math.round((performance.now() - began) / 100) / 10
  return {
    operation,
    fault,
    after,
    failed,
    ...(refused === undefined ? {} : { refused }),
    ended,
    seconds,
    wrong,
  }
}

const textOf = (error: unknown): string => (error instanceof Error ? error.message : String(error))

/** Waits until a package is in use at both members. @returns false if it is not in time. */
async function inUse({ home, failingHome }: Nodes, id: string): Promise<boolean> {
  const until = performance.now() + RECOVERY_MS
  while (performance.now() < until) {
    const composed = await Promise.all(
      [home, failingHome].map(async (one) => (await callNode(one, 'experts', {})) as Composed),
    )
    if (composed.every((one) => one.composed.some((expert) => expert.id === id))) return true
    await setTimeout(POLL_MS)
  }
  return false
}

interface Composed {
  readonly composed: readonly { readonly id: string }[]
}

interface Members {
  readonly members: readonly { readonly peerId: string; readonly forked: boolean }[]
}

interface Logs {
  readonly logs: readonly { readonly peerId: string; readonly statements: number }[]
}

/** What the two nodes still see differently when they had time to sync, and members that have forked. */
async function differences({ home, failingHome }: Nodes): Promise<string[]> {
  const until = performance.now() + RECOVERY_MS
  for (;;) {
    const [one, other] = await Promise.all([seenBy(home), seenBy(failingHome)])
    if (one.forked || other.forked) return ['a member has forked']
    if (one.logs.join() === other.logs.join()) return []
    if (performance.now() > until) return [`logs differ: ${one.logs.join()} and ${other.logs.join()}`]
    await setTimeout(POLL_MS)
  }
}

/** Number of statements that a node holds of each member, and whether it knows a fork. */
async function seenBy(home: string): Promise<{ readonly logs: readonly string[]; readonly forked: boolean }> {
  const { logs } = (await callNode(home, 'log', {})) as Logs
  const { members } = (await callNode(home, 'members', {})) as Members
  return {
    logs: logs.map(({ peerId, statements }) => `${peerId} ${statements}`).sort(),
    forked: members.some(({ forked }) => forked),
  }
}

function report(runs: readonly Run[]): Bench {
  const hit = runs.filter(({ failed }) => failed > 0)
  const wrong = runs.filter((run) => run.wrong.length > 0)
  if (wrong.length > 0) process.exitCode = 1
  const of = (operation: Operation): string => {
    const those = hit.filter((run) => run.operation === operation)
    return `${those.length} at ${new Set(those.map(({ after }) => after)).size} calls of ${operation}`
  }
  return {
    json: { runs },
    lines: [
      `${hit.length} of ${runs.length} runs met a failing call (${of('receive')}, ${of('publish')}; ${hit.reduce((sum, { failed }) => sum + failed, 0)} calls): ${hit.filter(({ refused }) => refused !== undefined).length} operations refused, ${hit.filter(({ ended }) => ended).length} processes ended`,
      wrong.length === 0
        ? 'everything as it must be once the disk works again'
        : `${wrong.length} runs left something wrong`,
    ],
  }
}
