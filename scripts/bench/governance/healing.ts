/**
 * Nodes are split into two halves that cannot connect to each other; members of both sign statements; then the halves are
 * joined again. How long does it take until all nodes hold the same logs, one roster and one composition?
 */
import { setTimeout as pause } from 'node:timers/promises'
import type { Digest } from '../../../src/lib/bytes.ts'
import type { FlexMeshNode } from '../../../src/node/node.ts'
import { run, startNodes, train, until } from './nodes.ts'
import { Partition } from './partition.ts'

const SPLIT_SECONDS = 60
/** Time that the preparation and each side may take, seconds. */
const MOST_SECONDS = 300
const POLL_MS = 100

export interface HealingResult {
  readonly nodes: number
  /** How long the halves could not reach each other. */
  readonly splitSeconds: number
  /** Statements that were signed meanwhile, on each side. */
  readonly statements: readonly [number, number]
  /** Seconds from the end of the split until all compositions are the same, without the expert that was withdrawn. */
  readonly compositionSeconds: number
  /** Seconds until all nodes hold the same logs and rosters, receipts included. */
  readonly seconds: number
}

export async function measureHealing(count: number, say: (line: string) => void): Promise<HealingResult> {
  const partition = new Partition()
  const nodes = await startNodes(count, say, (self) => partition.encrypter(self))
  try {
    const middle = Math.floor(count / 2)
    const halves = [nodes.slice(0, middle), nodes.slice(middle)] as const
    const [left, right] = halves
    const withdrawing = left[1] as FlexMeshNode
    await train(withdrawing, 'hospital', 'hospital')
    const { id } = await run<{ id: Digest }>(withdrawing, 'publish', { name: 'hospital' })
    await until(() => nodes.every((node) => node.accepted.list().length === 1), MOST_SECONDS)
    const before = await logsOf(nodes[0] as FlexMeshNode, nodes)

    partition.split(halves.map((half) => half.map(({ identity }) => identity.peerId)))
    await until(
      () => halves.every((half) => half.every((node) => isApart(node, half))),
      MOST_SECONDS,
      POLL_MS,
    )
    say('the halves are apart')
    const began = performance.now()
    await run(withdrawing, 'withdraw', { name: 'hospital' })
    await publishIn(left[2] as FlexMeshNode, 'archive')
    await publishIn(right[1] as FlexMeshNode, 'university')
    for (const [node] of halves) await node?.propose({ kind: 'renew' })
    await until(() => left.every((node) => isComposed(node, 1)), MOST_SECONDS, POLL_MS)
    await until(() => right.every((node) => isComposed(node, 2)), MOST_SECONDS, POLL_MS)
    await pause(Math.max(0, 1000 * SPLIT_SECONDS - (performance.now() - began)))
    const statements = await Promise.all(
      halves.map(async ([node]) => countOf(await logsOf(node as FlexMeshNode, nodes)) - countOf(before)),
    )
    const splitSeconds = (performance.now() - began) / 1000

    partition.heal()
    const healed = performance.now()
    const seconds = (): number => (performance.now() - healed) / 1000
    await until(
      () =>
        nodes.every((node) => isComposed(node, 2) && !node.accepted.has(id)) &&
        areEqual(nodes.map(compositionOf)),
      MOST_SECONDS,
      POLL_MS,
    )
    const compositionSeconds = seconds()
    const hasReceipts = async (): Promise<boolean> => {
      const [report] = await withdrawing.withdrawals()
      const dropped = report?.members.filter(({ state }) => state === 'dropped') ?? []
      return dropped.length === nodes.length - 1
    }
    await until(async () => (await hasReceipts()) && (await holdSameLogs(nodes)), MOST_SECONDS, POLL_MS)
    return {
      nodes: count,
      splitSeconds,
      statements: [statements[0] ?? 0, statements[1] ?? 0],
      compositionSeconds,
      seconds: seconds(),
    }
  } finally {
    for (const node of nodes) await node.close()
  }
}

async function publishIn(node: FlexMeshNode, domain: Parameters<typeof train>[2]): Promise<void> {
  await train(node, domain, domain)
  await run(node, 'publish', { name: domain })
}

function isApart(node: FlexMeshNode, half: readonly FlexMeshNode[]): boolean {
  const own = half.map(({ membership }) => membership.seat)
  return node.connectedMembers().every((peer) => own.includes(peer))
}

function isComposed(node: FlexMeshNode, experts: number): boolean {
  return node.composer.served.composition.experts.length === experts
}

function compositionOf(node: FlexMeshNode): string {
  return JSON.stringify(node.composer.served.composition.experts.map(({ id }) => id).sort())
}

/** The latest statement of every member, as a node holds them. */
async function logsOf(
  node: FlexMeshNode,
  nodes: readonly FlexMeshNode[],
): Promise<readonly (readonly [number, string])[]> {
  return Promise.all(
    nodes.map(async ({ membership }) => {
      const tip = await node.catalogue.tip(membership.seat)
      return [tip?.seq ?? 0, tip?.digest ?? ''] as const
    }),
  )
}

function countOf(logs: Awaited<ReturnType<typeof logsOf>>): number {
  return logs.reduce((sum, [seq]) => sum + seq, 0)
}

async function holdSameLogs(nodes: readonly FlexMeshNode[]): Promise<boolean> {
  const states = await Promise.all(
    nodes.map(async (node) => JSON.stringify([await logsOf(node, nodes), node.membership.roster()])),
  )
  return areEqual(states)
}

function areEqual(all: readonly string[]): boolean {
  return new Set(all).size === 1
}
