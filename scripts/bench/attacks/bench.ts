/**
 * Attacks a running node and measures what honest users notice: how much memory it takes more than in calm times, how
 * long its control socket takes to answer, and how soon the package of an honest member is in use. The attackers are the
 * hostile peers of test/support/hostile. Linux only, since it reads /proc.
 */
import type { ChildProcess } from 'node:child_process'
import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout } from 'node:timers/promises'
import { joinAsMember } from '../../../test/support/hostile/member.ts'
import { stopHostilePeers } from '../../../test/support/hostile/peer.ts'
import type { Bench } from '../benchmark.ts'
import { callNode, foundHome, joinHome, ROOT, startNode, stopNode } from '../node-process.ts'
import { ATTACKS, type Attack, type Target } from './attacks.ts'

/** Runs the source, not the build. */
const PROGRAM = ['--import', 'tsx', join(ROOT, 'src', 'main.ts')]
/** Minimum length of an attack, ms. */
const ATTACK_MS = 10_000
/** Time that an honest package may take before this run gives up on it, ms. */
const PUBLISH_MS = 60_000
const SAMPLE_MS = 100
const WARM_UPS = 4
const BOUNDS = { growthMiB: 128, controlP99Ms: 1000 }

export interface Round {
  readonly attack: string
  /** Peak resident memory of the node, MiB. */
  readonly peakMiB: number
  /** More than the peak of the same process without an attack, MiB. */
  readonly growthMiB: number
  /** Times of the control socket's answers, ms. */
  readonly controlP99Ms: number
  readonly controlMaxMs: number
  /** Time until the package of an honest member was in use; null if it was not within a minute. */
  readonly acceptedSeconds: number | null
  /** What the attack itself counted. */
  readonly counted: Readonly<Record<string, number>>
}

export async function benchAttacks(say: (line: string) => void): Promise<Bench> {
  const work = await mkdtemp(join(tmpdir(), 'flexmesh-bench-'))
  const [home, memberHome] = [join(work, 'founder'), join(work, 'member')]
  const nodes: ChildProcess[] = []
  try {
    await foundHome(home)
    let founder = await startNode(PROGRAM, home)
    await joinHome(home, memberHome)
    nodes.push(founder, await startNode(PROGRAM, memberHome))
    const data = [join(ROOT, 'examples', 'archive', 'text')]
    await callNode(memberHome, 'train', { name: 'law', data, steps: 1 })
    const { peerId } = (await callNode(memberHome, 'ping', {})) as { peerId: string }
    const target = targetOf(home, peerId)
    const rounds: Round[] = []
    for (const attack of [CALM, ...ATTACKS]) {
      await stopNode(founder)
      founder = await startNode(PROGRAM, home)
      nodes[0] = founder
      // The first packages that a process judges take memory that it keeps; that is no growth by an attack.
      for (let i = 0; i < WARM_UPS; i++) await publishHonest(home, memberHome)
      const calm = await measured(founder, home, memberHome, CALM, target)
      const attacked = await measured(founder, home, memberHome, attack, target)
      await stopHostilePeers()
      const round = { ...attacked, growthMiB: Math.max(0, attacked.peakMiB - calm.peakMiB) }
      rounds.push(round)
      say(lineOf(round))
    }
    const broken = rounds.filter((round) => !isWithinBounds(round))
    if (broken.length > 0) process.exitCode = 1
    return {
      json: { rounds, bounds: BOUNDS },
      lines: [
        ...rounds.map(lineOf),
        broken.length === 0
          ? `every attack: at most ${BOUNDS.growthMiB} MiB more, p99 of the control socket at most ${BOUNDS.controlP99Ms} ms, honest package in use`
          : `a bound is broken by: ${broken.map(({ attack }) => attack).join(', ')}`,
      ],
    }
  } finally {
    await stopHostilePeers()
    await Promise.all(nodes.map(stopNode))
    await rm(work, { recursive: true, force: true })
  }
}

const CALM: Attack = { name: 'no attack', start: async () => ({ stop: async () => ({}) }) }

function isWithinBounds({ growthMiB, controlP99Ms, acceptedSeconds }: Round): boolean {
  return growthMiB <= BOUNDS.growthMiB && controlP99Ms <= BOUNDS.controlP99Ms && acceptedSeconds !== null
}

function lineOf(round: Round): string {
  const { attack, growthMiB, controlP99Ms, controlMaxMs, acceptedSeconds, counted } = round
  const counts = Object.entries(counted).map(([name, count]) => `, ${name} ${count}`)
  return `${attack}: +${growthMiB} MiB, control p99 ${controlP99Ms} ms (max ${controlMaxMs}), honest package in use after ${acceptedSeconds ?? 'more than 60'} s${counts.join('')}`
}

/** Run an attack, and meanwhile what honest users do. */
async function measured(
  founder: ChildProcess,
  home: string,
  memberHome: string,
  attack: Attack,
  target: Target,
): Promise<Omit<Round, 'growthMiB'>> {
  const stopping = new AbortController()
  const answers: number[] = []
  let peakMiB = 0
  const sampling = (async () => {
    while (!stopping.signal.aborted) {
      const began = performance.now()
      await callNode(home, 'ping', {})
      answers.push(performance.now() - began)
      const status = await readFile(`/proc/${founder.pid}/status`, 'utf8')
      peakMiB = Math.max(peakMiB, Number(/VmRSS:\s+(\d+) kB/.exec(status)?.[1]) / 1024)
      await setTimeout(SAMPLE_MS)
    }
  })()
  sampling.catch(() => undefined) // Not lost: it is awaited below.
  const end = setTimeout(ATTACK_MS)
  let acceptedSeconds: number | null
  let counted: Readonly<Record<string, number>>
  try {
    const running = await attack.start(target, (name, seed) => joinAsMember(target, name, seed))
    acceptedSeconds = await publishHonest(home, memberHome)
    await end
    counted = await running.stop()
  } finally {
    stopping.abort()
  }
  await sampling
  answers.sort((a, b) => a - b)
  const quantile = (q: number): number => Math.round(answers[Math.ceil(q * answers.length) - 1] ?? 0)
  return {
    attack: attack.name,
    peakMiB: Math.round(peakMiB),
    controlP99Ms: quantile(0.99),
    controlMaxMs: quantile(1),
    acceptedSeconds,
    counted,
  }
}

/** The honest member publishes its expert again. @returns seconds until the founder uses it. */
async function publishHonest(home: string, memberHome: string): Promise<number | null> {
  const began = performance.now()
  const { id } = (await callNode(memberHome, 'publish', { name: 'law' })) as { id: string }
  while (performance.now() - began < PUBLISH_MS) {
    const { composed } = (await callNode(home, 'experts', {})) as { composed: { id: string }[] }
    if (composed.some((expert) => expert.id === id)) return Math.round((performance.now() - began) / 100) / 10
    await setTimeout(SAMPLE_MS)
  }
  return null
}

/** The founder's node as an attacker sees it: what it tells everybody, and the help of its operator to join. */
function targetOf(home: string, member: string): Target {
  let addresses: string[] = []
  return {
    member,
    addresses: () => addresses,
    invite: async () => {
      const { invite } = (await callNode(home, 'invite', {})) as { invite: string }
      const json = Buffer.from(invite.split(':')[1]?.slice(0, -8) ?? '', 'base64url').toString()
      addresses = (JSON.parse(json) as { addresses: string[] }).addresses
      return invite
    },
    approve: (who) => callNode(home, 'approve', { who }),
  }
}
