/**
 * Attacks a running node and measures what honest users notice: how much memory it takes more than before the attack, how
 * long its control socket takes to answer, and how soon the package of an honest member is in use. Rounds without and with
 * the attack alternate in one process of the node. The attackers are the hostile peers of test/support/hostile. Linux only,
 * since it reads /proc.
 */
import type { ChildProcess } from 'node:child_process'
import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout } from 'node:timers/promises'
import { callControl } from '../../../src/serving/control-client.ts'
import { homePaths } from '../../../src/store/home.ts'
import { joinAsMember } from '../../../test/support/hostile/member.ts'
import { stopHostilePeers } from '../../../test/support/hostile/peer.ts'
import type { Bench } from '../benchmark.ts'
import { callNode, foundHome, joinHome, ROOT, startNode, stopNode } from '../node-process.ts'
import type { Attack, RunningAttack, Target } from './attack.ts'
import { MEMBERS } from './members.ts'
import { readOptions } from './options.ts'
import { OUTSIDERS } from './outsiders.ts'

/** Runs the source, not the build. */
const PROGRAM = ['--import', 'tsx', join(ROOT, 'src', 'main.ts')]
/** Time that an honest package may take before this run gives up on it, ms. */
const PUBLISH_MS = 60_000
/** Time that the endorsement of a proposal may take, ms. */
const QUORUM_MS = 30_000
const SAMPLE_MS = 100
/** Samples of the control socket for each look at the heap, which costs the node more. */
const SAMPLES_PER_HEAP = 10
const WARM_UPS = 4
const MIB = 2 ** 20
const BOUNDS = { growthMiB: 128, controlP99Ms: 1000 }

/** What was measured while an honest member published once. */
interface Sampled {
  /** Peak resident memory of the node, MiB. */
  readonly peakMiB: number
  /** Peak of the memory that its JavaScript used, with array buffers, MiB. */
  readonly heapMiB: number
  /** Times of the control socket's answers, ms. */
  readonly answersMs: readonly number[]
  /** Time until the package of an honest member was in use; null if it was not within a minute. */
  readonly acceptedSeconds: number | null
  /** What the attack itself counted. */
  readonly counted: Readonly<Record<string, number>>
}

export interface Round {
  readonly attack: string
  /** Peak resident memory, MiB, in the calm rounds and in those under attack, in their order. */
  readonly calmMiB: readonly number[]
  readonly attackedMiB: readonly number[]
  /** The highest peak under attack above the peak of the first calm round, before any attack, MiB. */
  readonly growthMiB: number
  /** The same for the memory that JavaScript used. */
  readonly heapGrowthMiB: number
  /** 99th percentile of the control socket's answers without the attack and under it, and the maximum under it, ms. */
  readonly calmP99Ms: number
  readonly controlP99Ms: number
  readonly controlMaxMs: number
  /** Maximum under attack; null if a package was not in use within a minute. */
  readonly acceptedSeconds: number | null
  readonly counted: Readonly<Record<string, number>>
}

/** @param options see options.ts. @throws InputError `usage`. */
export async function benchAttacks(say: (line: string) => void, options: readonly string[]): Promise<Bench> {
  const { attacks, pairs, roundMs } = readOptions(options, [CALM, ...OUTSIDERS, ...MEMBERS])
  const work = await mkdtemp(join(tmpdir(), 'flexmesh-bench-'))
  const [home, memberHome] = [join(work, 'founder'), join(work, 'member')]
  const nodes: ChildProcess[] = []
  try {
    await foundHome(home)
    let founder = await startNode(PROGRAM, home)
    await joinHome(home, memberHome)
    nodes.push(founder, await startNode(PROGRAM, memberHome))
    await admitByTwo(home, memberHome)
    const data = [join(ROOT, 'examples', 'archive', 'text')]
    await callNode(memberHome, 'train', { name: 'law', data, steps: 1 })
    const { peerId } = (await callNode(memberHome, 'ping', {})) as { peerId: string }
    const rounds: Round[] = []
    const failed: string[] = []
    for (const attack of attacks) {
      try {
        await stopNode(founder)
        founder = await startNode(PROGRAM, home)
        nodes[0] = founder
        const target = await targetOf(home, memberHome, peerId)
        const round = await alternated(attack, { founder, home, memberHome, target, roundMs }, pairs)
        rounds.push(round)
        say(lineOf(round))
      } catch (error) {
        // A node that did not withstand an attack must not hide what the others do.
        failed.push(`${attack.name}: ${error instanceof Error ? error.message : String(error)}`)
        say(`FAILED: ${failed.at(-1)}`)
        await stopHostilePeers()
      }
    }
    const broken = rounds.filter((round) => !isWithinBounds(round))
    if (broken.length + failed.length > 0) process.exitCode = 1
    return {
      json: { rounds, failed, bounds: BOUNDS },
      lines: [
        ...rounds.map(lineOf),
        ...failed.map((what) => `FAILED: ${what}`),
        broken.length === 0
          ? `every row above that has not failed: at most ${BOUNDS.growthMiB} MiB more, p99 of the control socket at most ${BOUNDS.controlP99Ms} ms, honest package in use`
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
  const { attack, calmMiB, attackedMiB, growthMiB, heapGrowthMiB } = round
  const { calmP99Ms, controlP99Ms, controlMaxMs, acceptedSeconds, counted } = round
  const counts = Object.entries(counted).map(([name, count]) => `, ${name} ${count}`)
  return `${attack}: +${growthMiB} MiB (calm ${calmMiB.join(', ')}, attacked ${attackedMiB.join(', ')}; heap +${heapGrowthMiB}), control p99 ${controlP99Ms} ms (calm ${calmP99Ms}, max ${controlMaxMs}), honest package in use after ${acceptedSeconds ?? 'more than 60'} s${counts.join('')}`
}

function compared(attack: string, calm: readonly Sampled[], attacked: readonly Sampled[]): Round {
  const peaks = (sampled: readonly Sampled[]): number[] => sampled.map(({ peakMiB }) => Math.round(peakMiB))
  // Later calm rounds hold what an attack has left behind.
  const [before] = calm as [Sampled]
  const growth = (of: 'peakMiB' | 'heapMiB'): number =>
    Math.max(0, Math.round(Math.max(...attacked.map((one) => one[of])) - before[of]))
  const quantile = (all: readonly Sampled[], q: number): number => {
    const answers = all.flatMap(({ answersMs }) => answersMs).sort((a, b) => a - b)
    return Math.round(answers[Math.ceil(q * answers.length) - 1] ?? 0)
  }
  const accepted = attacked.map(({ acceptedSeconds }) => acceptedSeconds ?? Number.POSITIVE_INFINITY)
  const slowest = Math.max(...accepted)
  return {
    attack,
    calmMiB: peaks(calm),
    attackedMiB: peaks(attacked),
    growthMiB: growth('peakMiB'),
    heapGrowthMiB: growth('heapMiB'),
    calmP99Ms: quantile(calm, 0.99),
    controlP99Ms: quantile(attacked, 0.99),
    controlMaxMs: quantile(attacked, 1),
    acceptedSeconds: Number.isFinite(slowest) ? slowest : null,
    counted: attacked.at(-1)?.counted ?? {},
  }
}

interface Nodes {
  readonly founder: ChildProcess
  readonly home: string
  readonly memberHome: string
  readonly target: Target
  /** Minimum length of a round, ms. */
  readonly roundMs: number
}

/** Alternate rounds without and with an attack on a node that has just started. */
async function alternated(attack: Attack, nodes: Nodes, pairs: number): Promise<Round> {
  // The first packages that a process judges take memory that it keeps; that is no growth by an attack.
  for (let i = 0; i < WARM_UPS; i++) await publishHonest(nodes.home, nodes.memberHome)
  const [calm, attacked]: [Sampled[], Sampled[]] = [[], []]
  for (let pair = 0; pair < pairs; pair++) {
    calm.push(await measured(CALM, nodes, pair))
    attacked.push(await measured(attack, nodes, pair))
    await stopHostilePeers()
  }
  return compared(attack.name, calm, attacked)
}

/** Run an attack, and meanwhile what honest users do. @param pair index of the pair of rounds. */
async function measured(
  attack: Attack,
  { founder, home, memberHome, target, roundMs }: Nodes,
  pair: number,
): Promise<Sampled> {
  const stopping = new AbortController()
  const answersMs: number[] = []
  let [peakMiB, heapMiB] = [0, 0]
  const heapOf = await heapReader(home)
  const sampling = (async () => {
    for (let i = 0; !stopping.signal.aborted; i++) {
      const began = performance.now()
      await callNode(home, 'ping', {})
      answersMs.push(performance.now() - began)
      const status = await readFile(`/proc/${founder.pid}/status`, 'utf8')
      peakMiB = Math.max(peakMiB, Number(/VmRSS:\s+(\d+) kB/.exec(status)?.[1]) / 1024)
      if (i % SAMPLES_PER_HEAP === 0) heapMiB = Math.max(heapMiB, await heapOf())
      await setTimeout(SAMPLE_MS)
    }
  })()
  sampling.catch(() => undefined) // Not lost: it is awaited below.
  const end = setTimeout(roundMs)
  let acceptedSeconds: number | null
  let counted: Readonly<Record<string, number>>
  let running: RunningAttack | undefined
  try {
    running = await attack.start(target, (name, seed) => joinAsMember(target, name, seed), pair)
    acceptedSeconds = await publishHonest(home, memberHome)
    await end
    counted = await running.stop()
  } catch (error) {
    await running?.stop()
    throw error
  } finally {
    stopping.abort()
  }
  await sampling
  return { peakMiB, heapMiB, answersMs, acceptedSeconds, counted }
}

/** @returns reads the memory that the JavaScript of a node uses, with array buffers, from its metrics, MiB. */
async function heapReader(home: string): Promise<() => Promise<number>> {
  const { control, apiKey } = homePaths(home)
  const signal = AbortSignal.timeout(PUBLISH_MS)
  const { link } = (await callControl(control, 'dashboard-link', { role: 'reader' }, { signal })) as {
    link: string
  }
  const authorization = `Bearer ${(await readFile(apiKey, 'utf8')).trim()}`
  return async () => {
    const response = await fetch(new URL('/metrics', link), { headers: { authorization } })
    if (!response.ok) throw new Error(`/metrics: expected an answer, got ${response.status}`)
    const text = await response.text()
    const gauge = (name: string): number => Number(new RegExp(`^${name} (\\S+)$`, 'm').exec(text)?.[1])
    return (gauge('nodejs_heap_size_used_bytes') + gauge('nodejs_external_memory_bytes')) / MIB
  }
}

/** The honest member publishes its expert again. @returns seconds until the founder uses it. */
async function publishHonest(home: string, memberHome: string): Promise<number | null> {
  const began = performance.now()
  const { id } = (await callNode(memberHome, 'publish', { name: 'law', noAudit: true })) as { id: string }
  while (performance.now() - began < PUBLISH_MS) {
    const { composed } = (await callNode(home, 'experts', {})) as { composed: { id: string }[] }
    if (composed.some((expert) => expert.id === id)) return Math.round((performance.now() - began) / 100) / 10
    await setTimeout(SAMPLE_MS)
  }
  return null
}

/** Let two members admit others, as many as there are honest ones; otherwise hostile members would have to agree. */
async function admitByTwo(home: string, memberHome: string): Promise<void> {
  const rules = { kind: 'rules', subject: 'admit=2 members' }
  await endorse(memberHome, (await callNode(home, 'propose', rules)) as Proposed)
}

interface Proposed {
  readonly id: string
  readonly state: string
}

/** Endorse a proposal once it has arrived, and wait until it is applied. */
async function endorse(memberHome: string, { id }: Proposed): Promise<void> {
  const until = performance.now() + QUORUM_MS
  while (performance.now() < until) {
    const { proposals } = (await callNode(memberHome, 'proposals', {})) as { proposals: Proposed[] }
    const found = proposals.find((proposal) => proposal.id === id)
    if (found?.state === 'applied') return
    if (found?.state === 'open') await callNode(memberHome, 'endorse', { id })
    await setTimeout(SAMPLE_MS)
  }
  throw new Error(`proposal ${id} was not applied in time`)
}

/** The founder's node as an attacker sees it: what it tells everybody, and the help of the honest members to join. */
async function targetOf(home: string, memberHome: string, member: string): Promise<Target> {
  const { addresses } = (await callNode(home, 'members', {})) as { addresses: string[] }
  return {
    member,
    addresses: () => addresses,
    invite: async () => ((await callNode(home, 'invite', {})) as { invite: string }).invite,
    approve: async (who) => {
      const { proposed } = (await callNode(home, 'approve', { who })) as { proposed: Proposed[] }
      for (const proposal of proposed) await endorse(memberHome, proposal)
      const until = performance.now() + QUORUM_MS
      while (performance.now() < until) {
        const { members } = (await callNode(home, 'members', {})) as { members: { peerId: string }[] }
        if (members.some(({ peerId }) => peerId === who)) return
        await setTimeout(SAMPLE_MS)
      }
      throw new Error(`${who} was not admitted in time`)
    },
  }
}
