/** Real nodes on loopback in this process, members of one consortium around the tiny public model of the tests. */
import { join } from 'node:path'
import { setTimeout as pause } from 'node:timers/promises'
import { DEFAULT_POLICY } from '../../../src/acceptance/policy.ts'
import { nodeCommands } from '../../../src/commands/table.ts'
import { decodeInvite } from '../../../src/consortium/invite.ts'
import { sealMembershipRequest } from '../../../src/consortium/membership-request.ts'
import { parseRules } from '../../../src/consortium/rules.ts'
import { loadIdentity } from '../../../src/identity/key-file.ts'
import type { Identity } from '../../../src/identity/keys.ts'
import type { Digest } from '../../../src/lib/bytes.ts'
import { ExchangeError } from '../../../src/lib/errors.ts'
import type { Encrypter } from '../../../src/network/transport.ts'
import { createConsortium } from '../../../src/node/found.ts'
import { joinConsortium } from '../../../src/node/join.ts'
import { FlexMeshNode } from '../../../src/node/node.ts'
import { homePaths } from '../../../src/store/home.ts'
import { Log } from '../../../src/telemetry/log.ts'
import { onnxEngine } from '../../../src/tensor/onnx-engine.ts'
import { folder } from '../../../test/support/folders.ts'
import { newHome } from '../../../test/support/homes.ts'
import { shortText } from '../../../test/support/texts.ts'
import { tinyModel } from '../../../test/support/tiny-model.ts'

const POLL_MS = 20
/** Time that a step of the preparation may take, seconds: all nodes share one process, on a machine that may be busy. */
export const PREPARING_SECONDS = 600
/** Number of attempts of one node to join. */
const MAX_TRIES = 5
export const unixNow = (): number => Math.floor(Date.now() / 1000)
const never = new AbortController().signal

/** Experts of random models harm text; what they do to it is no subject here. */
const POLICY = {
  ...DEFAULT_POLICY,
  maxPublicLoss: 1,
  maxOwnLoss: 1,
  maxPublicLoadShare: 1,
  maxPublicGateShare: 1,
}

/** The encryption of the node with a peer id. */
export type EncrypterOf = (self: string) => Encrypter

/**
 * Found a consortium, let the others join it, start every node and connect all of them.
 * @param encrypterOf default: noise
 */
export async function startNodes(
  count: number,
  say: (line: string) => void,
  encrypterOf?: EncrypterOf,
): Promise<FlexMeshNode[]> {
  const nodes: FlexMeshNode[] = []
  try {
    await joinAll(nodes, count, say, encrypterOf)
  } catch (error) {
    for (const node of nodes) await node.close()
    throw error
  }
  return nodes
}

async function joinAll(
  nodes: FlexMeshNode[],
  count: number,
  say: (line: string) => void,
  encrypterOf: EncrypterOf | undefined,
): Promise<void> {
  const home = await newHome('Institution 0')
  await createConsortium({ home, now: unixNow }, { modelDir: await tinyModel(), name: 'Bench' })
  nodes.push(await start(home, say, encrypterOf))
  for (let i = 1; i < count; i++) {
    const joined = await newHome(`Institution ${i}`)
    const identity = await loadIdentity(homePaths(joined).key)
    const invitation = await admit(nodes, `Institution ${i}`, identity)
    await joinPatiently(joined, invitation)
    const node = await start(joined, say, encrypterOf)
    nodes.push(node)
    say(`${nodes.length} of ${count} nodes have joined`)
    if (i === 1) await admitByTwo(nodes[0] as FlexMeshNode, node)
  }
  await until(() => nodes.every((node) => node.connectedMembers().length === count - 1), PREPARING_SECONDS)
  say('all of them are connected')
}

/** Join, and try again after trouble of the network: all nodes share one process, which may be slow to answer a guest. */
async function joinPatiently(home: string, invitation: string): Promise<void> {
  for (let tries = 1; ; tries++) {
    try {
      await joinConsortium({ home, now: unixNow }, invitation, never, () => undefined)
      return
    } catch (error) {
      if (!(error instanceof ExchangeError) || tries === MAX_TRIES) throw error
    }
  }
}

/** Let two members admit others: admissions would otherwise wait for more than half of the members. */
async function admitByTwo(first: FlexMeshNode, second: FlexMeshNode): Promise<void> {
  const proposed = await first.propose({
    kind: 'rules',
    rules: parseRules('admit=2 members', first.membership.roster().rules),
  })
  await endorse(second, proposed.id)
  await until(() => first.membership.book.proposal(proposed.id).state === 'applied', PREPARING_SECONDS)
}

/** Put a key on the roster, by two members. @returns an invitation with which its home can join. */
export async function admit(
  nodes: readonly FlexMeshNode[],
  institution: string,
  identity: Identity,
): Promise<string> {
  const [founder, second] = nodes as [FlexMeshNode, FlexMeshNode?]
  const invitation = await founder.invite()
  const { consortium, token } = decodeInvite(invitation)
  const { peerId } = identity
  const request = { consortium, institution, peerId, token, issuedAt: unixNow() }
  await founder.membership.onRequest(sealMembershipRequest(request, identity))
  for (const { proposal } of (await founder.approve(peerId)).proposed) {
    if (second !== undefined) await endorse(second, proposal.id)
  }
  await until(() => founder.membership.isMember(peerId), PREPARING_SECONDS)
  return invitation
}

/** Endorse a proposal once it has arrived with the roster that it follows, unless it has its quorum already. */
export async function endorse(node: FlexMeshNode, id: Digest): Promise<void> {
  const find = () => node.membership.book.proposals().find((one) => one.id === id)
  const isReady = (): boolean => ['open', 'applied'].includes(find()?.state ?? '')
  await until(isReady, PREPARING_SECONDS).catch(() => {
    throw new Error(`the proposal cannot be endorsed: it is ${find()?.state ?? 'unknown'}`)
  })
  if (find()?.state === 'open') await node.answer(id, 'endorse')
}

async function start(
  home: string,
  say: (line: string) => void,
  encrypterOf: EncrypterOf | undefined,
): Promise<FlexMeshNode> {
  const { peerId } = await loadIdentity(homePaths(home).key)
  const node = await FlexMeshNode.open({
    home,
    engine: onnxEngine({ threads: 1 }),
    policy: POLICY,
    now: unixNow,
    log: new Log(({ message }) => say(`a node warns: ${message}`), 'warn'),
    ...(encrypterOf === undefined ? {} : { encrypter: encrypterOf(peerId) }),
  })
  await node.start()
  return node
}

/** Run a command of a node to its end. */
export async function run<T>(node: FlexMeshNode, command: string, args: unknown = {}): Promise<T> {
  const steps = nodeCommands(node)[command]?.(args, never)
  for (;;) {
    const step = await steps?.next()
    if (step === undefined || step.done === true) return step?.value as T
  }
}

/** Train an expert for one step on a short text, so that the experts of different texts differ. */
export async function train(
  node: FlexMeshNode,
  name: string,
  domain: Parameters<typeof shortText>[0],
): Promise<void> {
  await run(node, 'train', { name, data: [await shortText(domain)], steps: 1 })
}

/** @returns the seconds until the condition holds. @throws Error after `most` seconds. */
export async function until(
  condition: () => boolean | Promise<boolean>,
  most: number,
  everyMs = POLL_MS,
): Promise<number> {
  const started = performance.now()
  while (!(await condition())) {
    if (performance.now() - started > 1000 * most) throw new Error(`did not happen within ${most} s`)
    await pause(everyMs)
  }
  return (performance.now() - started) / 1000
}

export async function newFile(name: string): Promise<string> {
  return join(await folder(), name)
}
