/** Real nodes on loopback in this process, and what tests do with them. */
import { TestRunner } from 'vitest'
import { type AcceptancePolicy, DEFAULT_POLICY } from '../../src/acceptance/policy.ts'
import { nodeCommands } from '../../src/commands/table.ts'
import { decodeInvite } from '../../src/consortium/invite.ts'
import type { RevocationReason } from '../../src/consortium/member.ts'
import { sealMembershipRequest } from '../../src/consortium/membership-request.ts'
import { loadIdentity } from '../../src/identity/key-file.ts'
import type { Digest } from '../../src/lib/bytes.ts'
import { rememberedAddresses } from '../../src/node/address-book.ts'
import { createConsortium } from '../../src/node/found.ts'
import type { NodeInit } from '../../src/node/init.ts'
import { joinConsortium } from '../../src/node/join.ts'
import { FlexMeshNode } from '../../src/node/node.ts'
import { openManifest } from '../../src/packaging/manifest.ts'
import { logManifest } from '../../src/pipeline/own-log.ts'
import { homePaths } from '../../src/store/home.ts'
import { Log } from '../../src/telemetry/log.ts'
import { onnxEngine } from '../../src/tensor/onnx-engine.ts'
import { readFiles, writeFiles } from './folders.ts'
import { newHome } from './homes.ts'
import { type Domain, shortText } from './texts.ts'

/** Unix seconds. */
export const now = (): number => Math.floor(Date.now() / 1000)

/** Accepts whatever a model of random weights does to text. Router statistics are checked as always. */
export const LENIENT: AcceptancePolicy = {
  ...DEFAULT_POLICY,
  maxPublicLoss: 1,
  maxOwnLoss: 1,
  maxPublicLoadShare: 1,
  maxPackagesPerPublisher: 1000,
}

/** Resolves waits when something happens in any node of a test: each node reports its events and log lines here. */
export class Watch {
  readonly #waiting = new Set<() => void>()

  readonly onEvent = (): void => {
    const waiting = [...this.#waiting]
    this.#waiting.clear()
    for (const wake of waiting) wake()
  }

  readonly log = new Log(this.onEvent, 'debug')

  /** Resolves once `condition` holds. Fails with the test's own deadline, and then prints `what` it waited for. */
  async until(what: string, condition: () => boolean | Promise<boolean>): Promise<void> {
    const deadline = TestRunner.getCurrentTest()?.context.signal
    const giveUp = (): void => {
      console.error(`the test ended while it waited for ${what}`)
      this.onEvent()
    }
    deadline?.addEventListener('abort', giveUp)
    try {
      for (;;) {
        // Subscribed before the condition is asked, so that nothing that happens meanwhile is missed.
        const woken = new Promise<void>((resolve) => this.#waiting.add(resolve))
        if (await condition()) return
        await woken
        deadline?.throwIfAborted()
      }
    } finally {
      deadline?.removeEventListener('abort', giveUp)
    }
  }
}

export interface TestNetwork {
  readonly nodes: FlexMeshNode[]
  readonly homes: string[]
  readonly watch: Watch
  /** Open and start a node that is closed. */
  open(index: number): Promise<FlexMeshNode>
  /** Let one more institution join, and start its node. */
  join(institution: string): Promise<FlexMeshNode>
  /** The first node, whose decisions the other running nodes endorse until they have their quorum. */
  readonly quorum: Quorum
  /** Close a node, and open and start it again after `whileAway`. */
  restart(index: number, whileAway?: () => Promise<void>): Promise<FlexMeshNode>
  /** Resolves once every node is connected to every other one. */
  connected(): Promise<void>
  /** The same, and every node has stored where it finds the others after a restart. */
  introduced(): Promise<void>
  /** Resolves once every node has accepted exactly this number of experts. */
  accepted(count: number): Promise<void>
  close(): Promise<void>
}

/** What a quorum of nodes decides, with the first one as its speaker. */
export interface Quorum extends Pick<FlexMeshNode, 'addresses' | 'invite'> {
  /** Give a membership request to the first node. */
  apply(request: Uint8Array): Promise<unknown>
  approve(who: string): Promise<void>
  revoke(who: string, reason: RevocationReason, validThroughSeq?: number): Promise<void>
  /** Confirm the membership of everyone. */
  renew(): Promise<void>
}

/** Whether every node has stored addresses of this many others. */
async function knowAddresses(nodes: readonly FlexMeshNode[], count: number): Promise<boolean> {
  const known = await Promise.all(nodes.map(({ catalogue }) => rememberedAddresses(catalogue)))
  return known.every((members) => members.length >= count)
}

/** Found a consortium, let the others join it, and start every node. */
export async function network(
  institutions: readonly string[],
  modelDir: string,
  init: Partial<NodeInit> = {},
): Promise<TestNetwork> {
  const watch = new Watch()
  const homes: string[] = []
  const nodes: FlexMeshNode[] = []
  const running = new Set<FlexMeshNode>()
  const open = async (index: number): Promise<FlexMeshNode> => {
    const node = await FlexMeshNode.open({
      engine: onnxEngine({ threads: 2 }),
      policy: LENIENT,
      now,
      onEvent: watch.onEvent,
      log: watch.log,
      ...init,
      home: homes[index] as string,
    })
    const before = nodes[index]
    if (before !== undefined) running.delete(before)
    nodes[index] = node
    running.add(node)
    await node.start()
    return node
  }
  const close = async (node: FlexMeshNode): Promise<void> => {
    if (running.delete(node)) await node.close()
  }
  const join = async (institution: string): Promise<FlexMeshNode> => {
    homes.push(await joinedHome(quorum, institution))
    return open(homes.length - 1)
  }
  const speaker = (): FlexMeshNode => nodes[0] as FlexMeshNode
  const endorse = async (id: Digest): Promise<void> => {
    const find = (node: FlexMeshNode) => node.membership.book.proposals().find((one) => one.id === id)
    for (const node of nodes.slice(1).filter((one) => running.has(one))) {
      if (!node.membership.isMember(node.identity.peerId)) continue
      await watch.until('a proposal', () => find(node) !== undefined)
      const found = find(node)
      if (found?.state !== 'open' || !found.undecided.includes(node.identity.peerId)) continue
      await node.answer(id, 'endorse').catch((error: unknown) => {
        // The others may have completed the quorum meanwhile.
        if (find(node)?.state !== 'applied') throw error
      })
    }
    await watch.until('a quorum', () => find(speaker())?.state === 'applied')
  }
  const quorum: Quorum = {
    addresses: () => speaker().addresses(),
    invite: () => speaker().invite(),
    apply: (request) => speaker().membership.onRequest(request),
    approve: async (who) => {
      for (const { proposal } of (await speaker().approve(who)).proposed) await endorse(proposal.id)
    },
    revoke: async (who, reason, validThroughSeq) => {
      const { proposal } = await speaker().revoke(who, reason, validThroughSeq)
      if (proposal.state !== 'applied') await endorse(proposal.id)
    },
    renew: async () => {
      const proposal = await speaker().propose({ kind: 'renew' })
      if (proposal.state !== 'applied') await endorse(proposal.id)
    },
  }
  const [founder = '', ...others] = institutions
  homes.push(await newHome(founder))
  await createConsortium({ home: homes[0] as string, now }, { modelDir, name: 'Test consortium' })
  await open(0)
  for (const institution of others) await join(institution)
  return {
    nodes,
    homes,
    watch,
    open,
    join,
    quorum,
    restart: async (index, whileAway = async () => undefined) => {
      await close(nodes[index] as FlexMeshNode)
      await whileAway()
      return open(index)
    },
    connected: () =>
      watch.until('connections between all nodes', async () => {
        if (!nodes.every((node) => node.connectedMembers().length === nodes.length - 1)) return false
        // After its first sync, a node finds the others again when it is restarted.
        return knowAddresses(nodes, Math.min(1, nodes.length - 1))
      }),
    introduced: () =>
      watch.until('stored addresses of all other nodes', () => knowAddresses(nodes, nodes.length - 1)),
    accepted: (count) =>
      watch.until(`${count} experts at every node`, () =>
        nodes.every((node) => node.accepted.list().length === count),
      ),
    close: async () => void (await Promise.all([...running].map(close))),
  }
}

/**
 * A home folder that belongs to the consortium of running nodes. A quorum has approved before the institution asks, so that
 * joining does not wait for its next question.
 */
async function joinedHome(quorum: Quorum, institution: string): Promise<string> {
  const home = await newHome(institution)
  const identity = await loadIdentity(homePaths(home).key)
  const { peerId } = identity
  const invitation = await quorum.invite()
  const { consortium, token } = decodeInvite(invitation)
  const request = { consortium, institution, peerId, token, issuedAt: now() }
  await quorum.apply(sealMembershipRequest(request, identity))
  await quorum.approve(peerId)
  await joinConsortium({ home, now }, invitation, new AbortController().signal, () => undefined)
  return home
}

/** Put a manifest into a node's own log without judging its package, and announce it, as a dishonest member can. */
export async function offerUnchecked(node: FlexMeshNode, envelope: Uint8Array): Promise<void> {
  const { manifest, id } = openManifest(envelope)
  await logManifest(node.parts, { kind: 'manifest', manifest, id, envelope }, true)
  await node.announce()
}

/** Begin a command of a node. */
export function start(
  node: FlexMeshNode,
  command: string,
  args: unknown = {},
): AsyncGenerator<unknown, unknown, void> {
  const handler = nodeCommands(node)[command]
  if (handler === undefined) throw new Error(`no command ${command}`)
  return handler(args, new AbortController().signal)
}

/** The result of a command that has begun. */
export async function finish<T>(steps: AsyncGenerator<unknown, unknown, void>): Promise<T> {
  for (;;) {
    const { done, value } = await steps.next()
    if (done === true) return value as T
  }
}

/** Run a command of a node to its end. */
export function run<T>(node: FlexMeshNode, command: string, args: unknown = {}): Promise<T> {
  return finish(start(node, command, args))
}

/** Files of the folders of finished trainings, by public model, name and domain. */
const finished = new Map<string, Map<string, Uint8Array>>()

/**
 * Train an expert for one step, on a short text. All nodes with one public model train the same expert, so a later
 * node gets a copy of the training.
 */
export async function train(node: FlexMeshNode, name: string, domain: Domain): Promise<void> {
  const { training } = node.paths
  const key = [node.charter.publicModel.digest, name, domain].join()
  const files = finished.get(key)
  if (files !== undefined) return writeFiles(training, files)
  await run(node, 'train', { name, data: [await shortText(domain)], steps: 1 })
  finished.set(key, await readFiles(training, [name, '.replay']))
}

/** Publish without an audit, unless the options say otherwise. @returns the package id. */
export async function publish(node: FlexMeshNode, name: string, options: object = {}): Promise<Digest> {
  return (await run<{ id: Digest }>(node, 'publish', { name, noAudit: true, ...options })).id
}

/** The outcome of every verdict of a node: `accepted`, or the code of the refusal. */
export async function outcomes(node: FlexMeshNode): Promise<string[]> {
  return (await node.parts.verdicts.list()).map((v) => (v.outcome === 'refused' ? v.code : v.outcome))
}

/** Package ids of the experts that a node uses. */
export function inUse(node: FlexMeshNode): Digest[] {
  return node.accepted.list().map(({ id }) => id)
}
