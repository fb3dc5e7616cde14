/**
 * Members sign two different statements for one place of their logs and show each to one node only: how many of them
 * does one node find out, and how many do all.
 */
import { seal } from '../../../src/identity/envelope.ts'
import { createIdentity, type Identity } from '../../../src/identity/keys.ts'
import { MEDIA_TYPES } from '../../../src/identity/media-types.ts'
import { NO_STATEMENT } from '../../../src/identity/statement.ts'
import { digestOf } from '../../../src/lib/bytes.ts'
import { limit } from '../../../src/lib/limits.ts'
import type { FlexMeshNode } from '../../../src/node/node.ts'
import { encodeWithdrawal } from '../../../src/statements/withdrawal.ts'
import { admit, PREPARING_SECONDS, startNodes, unixNow, until } from './nodes.ts'

const NODES = 10
const SECONDS_FOR_ONE = 60
const SECONDS_FOR_ALL = 120

export interface ForkResult {
  readonly injected: number
  /** Found out by at least one node within 60 s. */
  readonly detected: number
  /** Found out by every node within 120 s. */
  readonly detectedByAll: number
  /** Seconds until the last one was found out by every node; the maximum over the consortia. */
  readonly seconds: number
}

/** Inject forks, as many in one consortium as its roster has room for. */
export async function measureForks(count: number, say: (line: string) => void): Promise<ForkResult> {
  let result: ForkResult = { injected: 0, detected: 0, detectedByAll: 0, seconds: 0 }
  while (result.injected < count) {
    const nodes = await startNodes(NODES, say)
    try {
      const one = await injectInto(nodes, Math.min(count - result.injected, limit('members') - NODES))
      result = {
        injected: result.injected + one.injected,
        detected: result.detected + one.detected,
        detectedByAll: result.detectedByAll + one.detectedByAll,
        seconds: Math.max(result.seconds, one.seconds),
      }
      say(`${result.detected} of ${result.injected} forks found out`)
    } finally {
      for (const node of nodes) await node.close()
    }
  }
  return result
}

async function injectInto(nodes: readonly FlexMeshNode[], count: number): Promise<ForkResult> {
  const [founder] = nodes as [FlexMeshNode]
  const members: Identity[] = []
  for (let i = 0; i < count; i++) {
    const seed = new Uint8Array(32).fill(0x80)
    seed[0] = i
    const identity = createIdentity(seed)
    await admit(nodes, `Forking ${i}`, identity)
    members.push(identity)
  }
  await until(
    () => nodes.every((node) => members.every(({ peerId }) => node.membership.isMember(peerId))),
    PREPARING_SECONDS,
  )
  const began = performance.now()
  const seconds = (): number => (performance.now() - began) / 1000
  for (const [i, identity] of members.entries()) {
    const shown = [nodes[i % nodes.length], nodes[(i + 1 + (i % (nodes.length - 1))) % nodes.length]]
    for (const [branch, node] of shown.entries()) {
      await node?.ingest(statementOf(identity, founder, branch))
      await node?.announce()
    }
  }
  const found = (by: 'some' | 'every'): number =>
    members.filter(({ peerId }) => nodes[by]((node) => isFrozen(node, peerId))).length
  await until(() => found('some') === count, SECONDS_FOR_ONE).catch(() => undefined)
  const detected = found('some')
  await until(() => found('every') === count, SECONDS_FOR_ALL - seconds()).catch(() => undefined)
  return { injected: count, detected, detectedByAll: found('every'), seconds: seconds() }
}

function statementOf(identity: Identity, founder: FlexMeshNode, branch: number): Uint8Array {
  const payload = encodeWithdrawal({
    consortium: founder.consortium,
    publisher: identity.peerId,
    seq: 1,
    prev: NO_STATEMENT,
    manifests: [digestOf(Uint8Array.of(branch))],
    reason: 'error',
    issuedAt: unixNow(),
  })
  return seal(MEDIA_TYPES.withdrawal, payload, [identity])
}

function isFrozen(node: FlexMeshNode, peerId: string): boolean {
  return node.isForked(peerId)
}
