/**
 * `npm run bench -- governance [PART...]`: what a consortium without an owner guarantees, measured with real nodes in one
 * process: withdrawals with receipts, revocation, healing of a split network, forks, edits of audit bundles, and attempts to
 * roll back histories.
 * Without a PART it measures all of them.
 */
import { InputError } from '../../../src/lib/errors.ts'
import { cleanUp } from '../../../test/support/folders.ts'
import { attackBundles, refusesHere } from '../../parity/bundle-attacks.ts'
import type { Bench } from '../benchmark.ts'
import { measureForks } from './forks.ts'
import { measureHealing } from './healing.ts'
import { startNodes } from './nodes.ts'
import { measureRevocation } from './revocation.ts'
import { measureRollback } from './rollback.ts'
import { measureWithdrawals } from './withdrawal.ts'

const NODES = 20
const FORKS = 100
const BUNDLES = { edits: 10_000, truncations: 1_000, forks: 100 }
const PARTS = ['withdrawal', 'revocation', 'healing', 'forks', 'log', 'rollback'] as const
type Part = (typeof PARTS)[number]

/** What a part measured, for programs and for people. */
interface Measured {
  readonly json: object
  readonly line: string
}
type Say = (line: string) => void

export async function benchGovernance(say: Say, options: readonly string[]): Promise<Bench> {
  const unknown = options.find((option) => !PARTS.some((part) => part === option))
  if (unknown !== undefined) {
    throw new InputError('usage', `governance: expected parts among ${PARTS.join(', ')}, got ${unknown}`)
  }
  const wanted = (part: Part): boolean => options.length === 0 || options.includes(part)
  const measured = new Map<Part, Measured>()
  try {
    if (wanted('rollback')) measured.set('rollback', await rollback())
    if (wanted('withdrawal') || wanted('revocation')) {
      const nodes = await startNodes(NODES, say)
      try {
        if (wanted('withdrawal')) measured.set('withdrawal', await withdrawal(nodes, say))
        if (wanted('revocation')) measured.set('revocation', await revocation(nodes, say))
      } finally {
        for (const node of nodes) await node.close()
      }
    }
    if (wanted('healing')) measured.set('healing', await healing(say))
    if (wanted('forks')) measured.set('forks', await forks(say))
    if (wanted('log')) measured.set('log', await log(say))
  } finally {
    await cleanUp()
  }
  const parts = PARTS.filter((part) => measured.has(part))
  return {
    json: Object.fromEntries(parts.map((part) => [part, measured.get(part)?.json])),
    lines: parts.map((part) => `${part}: ${measured.get(part)?.line}`),
  }
}

async function withdrawal(nodes: Parameters<typeof measureWithdrawals>[0], say: Say): Promise<Measured> {
  const json = await measureWithdrawals(nodes, say)
  const { rounds, p95Seconds, receipts, compositionSeconds, upstreamSeconds } = json
  return {
    json,
    line: `${json.nodes} nodes, ${rounds} times: last receipt after ${p95Seconds.toFixed(2)} s (p95), ${receipts} receipts; compositions changed within ${compositionSeconds.toFixed(2)} s, upstream refused within ${upstreamSeconds.toFixed(2)} s`,
  }
}

async function revocation(nodes: Parameters<typeof measureRevocation>[0], say: Say): Promise<Measured> {
  const json = await measureRevocation(nodes)
  const share = (100 * json.refusedShare).toFixed(1)
  const line = `${share} % of ${json.packages} packages of the revoked key refused at ${json.nodes} nodes after ${json.seconds.toFixed(2)} s`
  say(`revocation: ${line}`)
  return { json, line }
}

async function healing(say: Say): Promise<Measured> {
  const json = await measureHealing(NODES, say)
  const { nodes, splitSeconds, statements, compositionSeconds, seconds } = json
  const line = `${nodes} nodes, split for ${splitSeconds.toFixed(0)} s with ${statements.join(' and ')} statements: one composition after ${compositionSeconds.toFixed(2)} s, one state of all logs after ${seconds.toFixed(2)} s`
  say(`healing: ${line}`)
  return { json, line }
}

async function forks(say: Say): Promise<Measured> {
  const json = await measureForks(FORKS, say)
  return {
    json,
    line: `${json.detected} of ${json.injected} found out by one node, ${json.detectedByAll} by all, after ${json.seconds.toFixed(2)} s`,
  }
}

async function log(say: Say): Promise<Measured> {
  const json = await attackBundles(BUNDLES, refusesHere, (kind, seed) =>
    say(`log: one of the ${kind} was not found, seed ${seed}`),
  )
  return {
    json,
    line: `${json.found} of ${json.edits} edits, ${json.foundTruncations} of ${json.truncations} truncations and ${json.foundForks} of ${json.forks} forks of audit bundles found`,
  }
}

async function rollback(): Promise<Measured> {
  const json = await measureRollback()
  return { json, line: `${json.cases} cases, ${json.wrongAccepts} accepted although they are wrong` }
}
