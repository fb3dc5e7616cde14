/**
 * One of 20 nodes withdraws an expert that all of them use, several times: when does every composition change, when does
 * the owner hold every receipt, and does a node in front of another server refuse to answer through it.
 */
import { writeFile } from 'node:fs/promises'
import { encodeCompositionFile } from '../../../src/composition/composition-file.ts'
import { describeComposition } from '../../../src/composition/describe.ts'
import type { FlexMeshNode } from '../../../src/node/node.ts'
import { openGateway } from '../../../src/serving/gateway.ts'
import { localBackend } from '../../../src/serving/local-engine.ts'
import { newFile, run, train, unixNow, until } from './nodes.ts'

/** Time that one effect of a withdrawal may take, seconds. */
const MOST_SECONDS = 60
/** Time between two reports of receipts, ms: each reads what is known about every member and every withdrawal. */
const REPORT_MS = 200
const DOMAINS = ['archive', 'hospital', 'university'] as const

export interface WithdrawalResult {
  readonly nodes: number
  readonly rounds: number
  /** Seconds from the withdrawal to the last receipt at the owner, 95th percentile over the rounds. */
  readonly p95Seconds: number
  /** Minimum number of receipts that the owner held at the end of a round. */
  readonly receipts: number
  /** Maximum time to the last change of a composition. */
  readonly compositionSeconds: number
  /** Maximum time until a node in front of another server refused to answer through it. */
  readonly upstreamSeconds: number
}

export async function measureWithdrawals(
  nodes: readonly FlexMeshNode[],
  say: (line: string) => void,
): Promise<WithdrawalResult> {
  const last: number[] = []
  const compositions: number[] = []
  const upstream: number[] = []
  let receipts = Number.POSITIVE_INFINITY
  for (const [i, domain] of DOMAINS.entries()) {
    const owner = nodes[i + 1] as FlexMeshNode
    await train(owner, domain, domain)
    await run(owner, 'publish', { name: domain })
    await until(() => nodes.every((node) => node.accepted.list().length === 1), 300)
    const refused = await upstreamOf(nodes.at(-1) as FlexMeshNode)
    const isGone = (node: FlexMeshNode): boolean => node.composer.served.composition.experts.length === 0
    const dropped = async (): Promise<readonly string[]> => {
      const [report] = await owner.withdrawals()
      return report?.members.flatMap(({ peerId, state }) => (state === 'dropped' ? [peerId] : [])) ?? []
    }
    const began = performance.now()
    const seconds = (): number => (performance.now() - began) / 1000
    await run(owner, 'withdraw', { name: domain })
    const step = async (
      isDone: () => boolean | Promise<boolean>,
      missing: () => string | Promise<string>,
      everyMs?: number,
    ): Promise<number> => {
      await until(isDone, MOST_SECONDS, everyMs).catch(async () => {
        throw new Error(`withdrawal ${i + 1}: after ${MOST_SECONDS} s, ${await missing()}`)
      })
      return seconds()
    }
    const stillUsing = (): string =>
      nodes
        .filter((node) => !isGone(node))
        .map(nameOf)
        .join(', ')
    const silent = async (): Promise<string> => {
      const answered = await dropped()
      return nodes
        .filter((node) => node !== owner && !answered.includes(node.membership.seat))
        .map(nameOf)
        .join(', ')
    }
    await Promise.all([
      step(
        () => nodes.every(isGone),
        () => `the expert is still used by ${stillUsing()}`,
      ).then((time) => compositions.push(time)),
      step(refused, () => 'the gateway still answers').then((time) => upstream.push(time)),
      step(
        async () => (await dropped()).length === nodes.length - 1,
        async () => `no receipt of ${await silent()}`,
        REPORT_MS,
      ).then((time) => last.push(time)),
    ])
    receipts = Math.min(receipts, (await dropped()).length)
    say(
      `withdrawal ${i + 1}: compositions ${compositions.at(-1)?.toFixed(2)} s, receipts ${last.at(-1)?.toFixed(2)} s`,
    )
  }
  return {
    nodes: nodes.length,
    rounds: DOMAINS.length,
    p95Seconds: percentile(last, 0.95),
    receipts,
    compositionSeconds: Math.max(...compositions),
    upstreamSeconds: Math.max(...upstream),
  }
}

function nameOf(node: FlexMeshNode): string {
  return `${node.membership.seat} (connected to ${node.connectedMembers().length})`
}

/** Put a node in front of a server of its present composition. @returns whether it refuses to answer through it. */
async function upstreamOf(node: FlexMeshNode): Promise<() => Promise<boolean>> {
  const { consortium, charter, publicModel, composer, prompts, accepted } = node
  const exporter = {
    ...node,
    consortium,
    charter,
    manifestOf: (id: `sha256:${string}`) => accepted.manifestOf(id),
  }
  const { topK } = composer.served.composition
  const composition = await describeComposition(exporter, accepted.list(), topK)
  const compositionFile = await newFile('composition.json')
  await writeFile(compositionFile, encodeCompositionFile(composition))
  const backendFor = await openGateway({
    upstream: { url: new URL('http://127.0.0.1:9/v1'), compositionFile },
    local: localBackend(composer, prompts, publicModel.tokenizer, publicModel.endsOfText),
    consortium,
    publicModel: charter.publicModel.digest,
    prompts,
    vocabulary: publicModel.tokenizer,
    contextLength: publicModel.config.maxPositionEmbeddings,
    whyNotInUse: async (id) => (accepted.has(id) ? undefined : 'withdrawn'),
    onComposition: (file) => node.parts.upstream.set(file),
    now: unixNow,
  })
  return async () => {
    try {
      const engine = await backendFor({}).acquire()
      engine.release()
      return false
    } catch {
      return true
    }
  }
}

export function percentile(values: readonly number[], share: number): number {
  const sorted = [...values].sort((a, b) => a - b)
  return sorted[Math.min(sorted.length - 1, Math.ceil(share * sorted.length) - 1)] as number
}
