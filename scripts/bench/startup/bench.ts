/**
 * Measures the time until `flexmesh --help` has printed, and until a node with ten accepted experts answers its first
 * request. Both run the built program, so `npm run build` comes first.
 */
import { execFileSync } from 'node:child_process'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout } from 'node:timers/promises'
import { DEFAULT_POLICY } from '../../../src/acceptance/policy.ts'
import type { Bench } from '../benchmark.ts'
import { median } from '../machine.ts'
import {
  callNode,
  checkBuilt,
  foundHome,
  joinHome,
  PROGRAM,
  ROOT,
  startNode,
  stopNode,
} from '../node-process.ts'

const EXPERTS = 10
const STEPS = 2
const HELP_ROUNDS = 11
const START_ROUNDS = 3
/** Time between two looks at what the founder uses, ms. */
const POLL_MS = 100

export async function benchStartup(say: (line: string) => void): Promise<Bench> {
  checkBuilt()
  const help = Array.from({ length: HELP_ROUNDS }, () => {
    const started = performance.now()
    execFileSync(process.execPath, [PROGRAM, '--help'], { stdio: 'ignore' })
    return performance.now() - started
  })
  const helpMs = Math.round(median(help))
  say(`help after ${helpMs} ms`)
  const work = await mkdtemp(join(tmpdir(), 'flexmesh-bench-'))
  try {
    const home = join(work, 'founder')
    await foundWithExperts(home, join(work, 'member'), say)
    const times: number[] = []
    for (let round = 0; round < START_ROUNDS; round++) {
      const started = performance.now()
      const node = await startNode([PROGRAM], home)
      await callNode(home, 'generate', { prompt: 'Article', maxTokens: 1 })
      times.push(performance.now() - started)
      await stopNode(node)
      say(
        `round ${round + 1} of ${START_ROUNDS}: first answer after ${Math.round(times.at(-1) as number)} ms`,
      )
    }
    const servingMs = Math.round(median(times))
    return {
      json: { helpMs, servingMs, experts: EXPERTS, peers: {} },
      lines: [`help after ${helpMs} ms`, `a node with ${EXPERTS} experts answers after ${servingMs} ms`],
    }
  } finally {
    await rm(work, { recursive: true, force: true })
  }
}

/** Makes the home of a founder that uses ten experts: as many of its own as it may have, and those of a member. */
async function foundWithExperts(
  home: string,
  memberHome: string,
  say: (line: string) => void,
): Promise<void> {
  await foundHome(home)
  const founder = await startNode([PROGRAM], home)
  await joinHome(home, memberHome)
  const member = await startNode([PROGRAM], memberHome)
  const data = [join(ROOT, 'examples', 'hospital', 'text')]
  for (let i = 1; i <= EXPERTS; i++) {
    const publisher = i <= DEFAULT_POLICY.maxPackagesPerPublisher ? home : memberHome
    await callNode(publisher, 'train', { name: `expert-${i}`, data, steps: STEPS })
    await callNode(publisher, 'publish', { name: `expert-${i}`, noAudit: true })
    while ((await composed(home)) < i) await setTimeout(POLL_MS)
    say(`published ${i} of ${EXPERTS}`)
  }
  await stopNode(member)
  await stopNode(founder)
}

/** Number of experts that a node uses. */
async function composed(home: string): Promise<number> {
  return ((await callNode(home, 'experts', {})) as { composed: unknown[] }).composed.length
}
