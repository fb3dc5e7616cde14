/** Receipts of a member whose process ends at any moment, and of one whose peer withdraws again and again. */
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { readEnvelope } from '../../src/identity/envelope.ts'
import type { Digest } from '../../src/lib/bytes.ts'
import { limit } from '../../src/lib/limits.ts'
import { signWithdrawals } from '../../src/pipeline/own-log.ts'
import { answerWithdrawals } from '../../src/pipeline/receipts.ts'
import { ingest, withdraw } from '../../src/pipeline.ts'
import { decodeReceipt, type Receipt } from '../../src/statements/receipt.ts'
import { loadTinyModel } from '../support/compositions.ts'
import { identityOf } from '../support/consortium.ts'
import { cleanUp } from '../support/folders.ts'
import {
  publishExpert,
  pull,
  type SimulatedNode,
  simulatedConsortium,
  simulatedNode,
} from '../support/simulation.ts'

let owner: SimulatedNode
let member: SimulatedNode
/** Makes the weights of each expert other ones. */
let seeds = 0

beforeEach(async () => {
  const publicModel = await loadTinyModel()
  const identities = [identityOf(1), identityOf(2)] as const
  const c = simulatedConsortium(identities[0], publicModel)
  const roster = c.admit('Member', identities[1])
  const nodes: SimulatedNode[] = []
  const holders = (of: SimulatedNode) => nodes.filter((node) => node !== of)
  for (const identity of identities) {
    const node = await simulatedNode({ consortium: c, publicModel, holders }, identity)
    await ingest(node.parts, roster)
    nodes.push(node)
  }
  ;[owner, member] = nodes as [SimulatedNode, SimulatedNode]
})
afterEach(async () => {
  await owner.close()
  await member.close()
  await cleanUp()
})

/** The owner publishes an expert, which the member uses, and withdraws it. The member has not answered yet. */
async function withdrawn(name: string): Promise<Digest> {
  const id = await publishExpert(owner, name, ++seeds)
  await pull(member, owner)
  await member.parts.queue.settled()
  expect(member.parts.accepted.has(id)).toBe(true)
  await withdraw(owner.parts, name)
  await pull(member, owner)
  return id
}

async function receipts(): Promise<Receipt[]> {
  const log = await member.parts.catalogue.log(member.identity.peerId, 1, 1000)
  return log.map(({ envelope }) => decodeReceipt(readEnvelope(envelope).payload))
}

describe('a member that carried a withdrawal out', () => {
  it('signs the same receipt after its process ended before it signed', async () => {
    const id = await publishExpert(owner, 'law', ++seeds)
    await pull(member, owner)
    await member.parts.queue.settled()
    const before = member.parts.composer.served.composition.digest
    const [file] = await member
      .files()
      .then((files) => files.filter((name) => member.parts.accepted.files.needs(`sha256:${name}`)))
    await withdraw(owner.parts, 'law')
    await pull(member, owner)
    const after = member.parts.composer.served.composition.digest
    await member.restart()
    expect(await receipts()).toEqual([])
    await answerWithdrawals(member.parts)
    const [receipt] = await receipts()
    expect(receipt?.answers).toMatchObject([
      {
        packages: [{ manifest: id, held: 'used', dropped: [`sha256:${file}`], kept: [] }],
        compositions: [{ before, after }],
      },
    ])
    await member.restart()
    await answerWithdrawals(member.parts)
    expect(await receipts()).toHaveLength(1)
  })

  it('says that it still has a file which another package needs, and answers again once it is deleted', async () => {
    const first = await publishExpert(owner, 'law', ++seeds)
    const second = await publishExpert(owner, 'same', seeds)
    await pull(member, owner)
    await member.parts.queue.settled()
    await withdraw(owner.parts, 'law')
    await pull(member, owner)
    await answerWithdrawals(member.parts)
    const [{ answers: [kept] = [] } = {}] = await receipts()
    expect(kept?.packages).toMatchObject([
      { manifest: first, dropped: [], kept: [{ reason: 'other-package' }] },
    ])
    await withdraw(owner.parts, 'same')
    await pull(member, owner)
    await answerWithdrawals(member.parts)
    const [, last] = await receipts()
    const packages = last?.answers.flatMap((answer) => answer.packages) ?? []
    expect(new Set(packages.map(({ manifest }) => manifest))).toEqual(new Set([first, second]))
    expect(packages.every((one) => one.kept.length === 0 && one.dropped.length === 1)).toBe(true)
  })

  it('signs full receipts only, after the number of receipts of a day', async () => {
    const most = limit('receiptsPerDay')
    const full = limit('digestsPerStatement')
    for (let i = 0; i < most + full; i++) {
      await withdrawn('law')
      await answerWithdrawals(member.parts)
      expect(await receipts()).toHaveLength(i < most + full - 1 ? Math.min(i + 1, most) : most + 1)
    }
    expect((await receipts()).at(-1)?.answers).toHaveLength(full)
    expect(member.parts.ledger.unansweredBy(member.identity.peerId)).toEqual([])
  })

  it('does not answer a withdrawal of packages that do not exist', async () => {
    await signWithdrawals(owner.parts, [`sha256:${'a'.repeat(64)}`], 'owner-request')
    await pull(member, owner)
    await answerWithdrawals(member.parts)
    expect(await receipts()).toEqual([])
  })
})
