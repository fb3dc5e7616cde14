/** Honest members that decide and publish much within seconds: none of them takes another one for hostile. */
import { afterEach, beforeEach, expect, it } from 'vitest'
import { keyDigest } from '../../src/consortium/key-history.ts'
import { rosterDigest } from '../../src/consortium/roster.ts'
import type { FlexMeshNode } from '../../src/node/node.ts'
import type { WithdrawalReport } from '../../src/node/withdrawals.ts'
import { stateKeys } from '../../src/pipeline/state-keys.ts'
import { Log, type LogEntry } from '../../src/telemetry/log.ts'
import { identityOf } from '../support/consortium.ts'
import { cleanUp } from '../support/folders.ts'
import { network, publish, run, type TestNetwork, train } from '../support/network.ts'
import { tinyModel } from '../support/tiny-model.ts'

const ADMISSIONS = 8
const DOMAINS = ['archive', 'hospital', 'university'] as const

let net: TestNetwork
const entries: LogEntry[] = []

beforeEach(async () => {
  entries.length = 0
  const log = new Log((entry) => {
    entries.push(entry)
    net?.watch.onEvent()
  }, 'debug')
  net = await network(['Hospital', 'Archive', 'University', 'Library'], await tinyModel(), { log })
  await net.connected()
})
afterEach(async () => {
  await net.close()
  await cleanUp()
})

/** Endorse whatever another member proposes, until `count` proposals are applied at this node. */
async function endorseAll(node: FlexMeshNode, count: number): Promise<void> {
  const { membership } = node
  const applied = (): number => membership.book.proposals().filter(({ state }) => state === 'applied').length
  await net.watch.until(`${count} applied proposals`, async () => {
    for (const { id, state, undecided } of membership.book.proposals()) {
      if (state !== 'open' || !undecided.includes(membership.seat)) continue
      // Others may have completed the quorum meanwhile.
      await node.answer(id, 'endorse').catch(() => undefined)
    }
    return applied() >= count
  })
}

/** The members that run no node never answer. */
function hasThreeAnswers({ members }: WithdrawalReport): boolean {
  return members.filter(({ state }) => state !== 'waiting').length === 3
}

it('are not refused by each other while they admit, endorse, name keys, publish and withdraw at once', async () => {
  const { nodes } = net
  const [first] = nodes as [FlexMeshNode]
  const before = first.membership.book.proposals().length
  await run(first, 'propose', { kind: 'rules', subject: 'admit=2 members, renew=2 members' })
  await Promise.all(nodes.map((node) => endorseAll(node, before + 1)))
  const admissions = Array.from({ length: ADMISSIONS }, (_, i) => async () => {
    const { peerId } = identityOf(100 + i)
    await run(nodes[i % nodes.length] as FlexMeshNode, 'propose', {
      ...{ kind: 'admit', subject: `Member ${i}`, peer: peerId },
    })
  })
  const packages = DOMAINS.map((domain, i) => async () => {
    const node = nodes[i] as FlexMeshNode
    await train(node, domain, domain)
    await publish(node, domain)
    await run(node, 'withdraw', { name: domain })
  })
  await Promise.all([
    ...admissions.map((admit) => admit()),
    ...packages.map((share) => share()),
    ...nodes.map((node, i) =>
      stateKeys(node.parts, { institution: node.identity, next: keyDigest(identityOf(200 + i).peerId) }),
    ),
    ...nodes.map((node) => endorseAll(node, before + 1 + ADMISSIONS)),
  ])
  await net.watch.until('one roster and all keys at all nodes', () => {
    const digests = nodes.map(({ membership }) => rosterDigest(membership.roster()))
    const isStated = ({ membership }: FlexMeshNode): boolean =>
      nodes.every(({ membership: { seat } }) => membership.keys.historyOf(seat).changes.length === 1)
    return digests.every((digest) => digest === digests[0]) && nodes.every(isStated)
  })
  await net.watch.until('every receipt', async () => {
    const reports = await Promise.all(nodes.slice(0, DOMAINS.length).map((node) => node.withdrawals()))
    return reports.every((all) => all.length === DOMAINS.length && all.every(hasThreeAnswers))
  })
  expect(first.membership.roster().members).toHaveLength(nodes.length + ADMISSIONS)
  for (const node of nodes) expect(node.connectedMembers()).toHaveLength(nodes.length - 1)
  const refusals = entries.filter(
    ({ message, code }) => code === 'quota' || message.includes('is refused for'),
  )
  expect(refusals).toEqual([])
})
