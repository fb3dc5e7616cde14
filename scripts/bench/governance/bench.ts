/**
 * `npm run bench -- governance`: what a consortium without an owner guarantees, measured with real nodes in one process:
 * withdrawals with receipts, revocation, forks, edits of audit bundles, and attempts to roll back histories.
 */
import { cleanUp } from '../../../test/support/folders.ts'
import { attackBundles, refusesHere } from '../../parity/bundle-attacks.ts'
import type { Bench } from '../benchmark.ts'
import { measureForks } from './forks.ts'
import { startNodes } from './nodes.ts'
import { measureRevocation } from './revocation.ts'
import { measureRollback } from './rollback.ts'
import { measureWithdrawals } from './withdrawal.ts'

const NODES = 20
const FORKS = 100
const BUNDLES = { edits: 10_000, truncations: 1_000, forks: 100 }

export async function benchGovernance(say: (line: string) => void): Promise<Bench> {
  try {
    const rollback = await measureRollback()
    say(`rollback: ${rollback.wrongAccepts} of ${rollback.cases} cases taken in`)
    const log = await attackBundles(BUNDLES, refusesHere, (kind, seed) =>
      say(`log: one of the ${kind} was not found, seed ${seed}`),
    )
    const nodes = await startNodes(NODES, say)
    let withdrawal: Awaited<ReturnType<typeof measureWithdrawals>>
    let revocation: Awaited<ReturnType<typeof measureRevocation>>
    try {
      withdrawal = await measureWithdrawals(nodes, say)
      revocation = await measureRevocation(nodes)
    } finally {
      for (const node of nodes) await node.close()
    }
    const forks = await measureForks(FORKS, say)
    return {
      json: { withdrawal, revocation, forks, log, rollback },
      lines: [
        `withdrawal at ${withdrawal.nodes} nodes, ${withdrawal.rounds} times: last receipt after ${withdrawal.p95Seconds.toFixed(2)} s (p95), ${withdrawal.receipts} receipts; compositions changed within ${withdrawal.compositionSeconds.toFixed(2)} s, upstream refused within ${withdrawal.upstreamSeconds.toFixed(2)} s`,
        `revocation: ${(100 * revocation.refusedShare).toFixed(1)} % of later packages refused at all nodes after ${revocation.seconds.toFixed(2)} s`,
        `forks: ${forks.detected} of ${forks.injected} found out by one node, ${forks.detectedByAll} by all, after ${forks.seconds.toFixed(2)} s`,
        `log: ${log.found} of ${log.edits} edits, ${log.foundTruncations} of ${log.truncations} truncations and ${log.foundForks} of ${log.forks} forks of audit bundles found`,
        `rollback: ${rollback.cases} cases, ${rollback.wrongAccepts} taken in`,
      ],
    }
  } finally {
    await cleanUp()
  }
}
