/** Withdrawals and the receipts with which members answer them. */
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import type { ComposeResult } from '../../src/commands/compose.ts'
import { WITHDRAWALS } from '../../src/commands/withdrawals.ts'
import { readEnvelope } from '../../src/identity/envelope.ts'
import { MEDIA_TYPES } from '../../src/identity/media-types.ts'
import type { Digest } from '../../src/lib/bytes.ts'
import type { NodeEvent } from '../../src/node/events.ts'
import type { FlexMeshNode } from '../../src/node/node.ts'
import type { WithdrawalReport } from '../../src/node/withdrawals.ts'
import { openManifest } from '../../src/packaging/manifest.ts'
import { cleanUp, folder } from '../support/folders.ts'
import { inUse, network, outcomes, publish, run, type TestNetwork, train } from '../support/network.ts'
import { tinyModel } from '../support/tiny-model.ts'

let net: TestNetwork
let hospital: FlexMeshNode
let archive: FlexMeshNode
/** Events of all nodes. */
let events: NodeEvent[]

beforeEach(async () => {
  events = []
  const onEvent = (event: NodeEvent): void => {
    events.push(event)
    net?.watch.onEvent()
  }
  net = await network(['Hospital', 'Archive'], await tinyModel(), { onEvent })
  ;[hospital, archive] = net.nodes as [FlexMeshNode, FlexMeshNode]
  await net.connected()
  await train(archive, 'law', 'archive')
})
afterEach(async () => {
  await net.close()
  await cleanUp()
})

/** The archive publishes an expert that everybody uses. */
async function publishLaw(): Promise<{ id: Digest; file: Digest }> {
  const id = await publish(archive, 'law')
  await net.accepted(1)
  const { manifest } = openManifest((await archive.catalogue.statement(id)) as Uint8Array)
  return { id, file: manifest.files[0].sha256 }
}

/** Number of receipts that a node has signed. */
async function receiptsOf({ catalogue, identity }: FlexMeshNode): Promise<number> {
  const log = await catalogue.log(identity.peerId, 1, 100)
  return log.filter(({ envelope }) => readEnvelope(envelope).payloadType === MEDIA_TYPES.receipt).length
}

async function reportOf(node: FlexMeshNode): Promise<WithdrawalReport> {
  const { withdrawals } = await run<{ withdrawals: WithdrawalReport[] }>(node, 'withdrawals')
  return withdrawals[0] as WithdrawalReport
}

async function statesOf(node: FlexMeshNode): Promise<Record<string, string>> {
  const report = await reportOf(node)
  return Object.fromEntries(report?.members.map(({ institution, state }) => [institution, state]) ?? [])
}

function answered(node: () => FlexMeshNode, expected: Record<string, string>): Promise<void> {
  return net.watch.until(`the answers ${JSON.stringify(expected)}`, async () => {
    const states = await statesOf(node())
    return Object.entries(expected).every(([institution, state]) => states[institution] === state)
  })
}

describe('a withdrawal', () => {
  it('is answered with what was deleted and which composition changed', async () => {
    const { id, file } = await publishLaw()
    const before = hospital.composer.served.composition.digest
    await run(archive, 'withdraw', { name: 'law' })
    await answered(() => archive, { Hospital: 'dropped' })
    const { digest: after } = hospital.composer.served.composition
    const report = await reportOf(archive)
    expect(report).toMatchObject({ institution: 'Archive', isOwn: true, reason: 'owner-request' })
    expect(report.members.map(({ institution }) => institution)).toEqual(['Hospital'])
    expect(report.members[0]?.answer).toMatchObject({
      withdrawal: report.id,
      packages: [{ manifest: id, held: 'used', dropped: [file], kept: [] }],
      compositions: [{ before, after }],
      exports: [],
    })
    expect(await hospital.parts.blobs.has(file)).toBe(false)
  })

  it('reaches a member that was away while its owner is away, and is answered once', async () => {
    await net.join('University')
    await net.connected()
    await publishLaw()
    await net.restart(2, async () => {
      await run(archive, 'withdraw', { name: 'law' })
      await answered(() => archive, { Hospital: 'dropped', University: 'waiting' })
      const { now, withdrawals } = await run<{ now: number; withdrawals: WithdrawalReport[] }>(
        archive,
        'withdrawals',
      )
      expect(WITHDRAWALS.words({ now, withdrawals }, { color: false })[0]).toMatch(
        /^law of Archive, withdrawn on .*: 1 of 2 dropped it; University last seen a moment ago$/,
      )
      await archive.close()
    })
    const university = net.nodes[2] as FlexMeshNode
    await answered(() => university, { Hospital: 'dropped', University: 'dropped' })
    const again = await net.open(1)
    expect(events.filter(({ event }) => event === 'withdrawal-open')).toMatchObject([
      {
        experts: ['law'],
        members: [
          { institution: 'Hospital', state: 'dropped' },
          { institution: 'University', state: 'waiting' },
        ],
      },
    ])
    await answered(() => again, { Hospital: 'dropped', University: 'dropped' })
    const reopened = await net.restart(2)
    await answered(() => reopened, { Hospital: 'dropped', University: 'dropped' })
    expect(await receiptsOf(reopened)).toBe(1)
  })

  it('is answered by a member that never had the package, too', async () => {
    await publishLaw()
    await run(archive, 'withdraw', { name: 'law' })
    await net.accepted(0)
    await net.join('University')
    await answered(() => archive, { Hospital: 'dropped', University: 'never' })
  })

  it('marks the exports that contain the expert, and names them', async () => {
    await publishLaw()
    const directory = join(await folder(), 'export')
    const exported = await run<ComposeResult>(hospital, 'compose', { export: directory, dropBias: true })
    await run(archive, 'withdraw', { name: 'law' })
    await answered(() => archive, { Hospital: 'dropped' })
    const composition = (exported.exported ?? exported).composition
    expect((await reportOf(archive)).members[0]?.answer?.exports).toEqual([{ composition, marked: true }])
    expect(await readFile(join(directory, 'WITHDRAWN.txt'), 'utf8')).toContain('Archive/law')
    for (const command of ['compose', 'experts']) {
      expect(await run(hospital, command)).toMatchObject({
        withdrawnExports: [{ directory, composition, withdrawn: [{ name: 'law' }] }],
      })
    }
  })

  it('may be decided by a quorum for the owner, who answers it, too', async () => {
    const university = await net.join('University')
    await net.connected()
    const { id, file } = await publishLaw()
    await run(hospital, 'propose', { kind: 'withdraw', subject: 'law' })
    const find = () =>
      university.membership.book.proposals().find((one) => one.proposal.change.kind === 'withdraw')
    await net.watch.until('the proposal', () => find() !== undefined)
    expect(net.nodes.map((node) => inUse(node).length)).toEqual([1, 1, 1])
    const proposal = find()?.id
    await run(university, 'endorse', { id: proposal })
    await net.accepted(0)
    const all = { Hospital: 'dropped', Archive: 'dropped', University: 'dropped' }
    await answered(() => hospital, all)
    expect(await reportOf(hospital)).toMatchObject({ id: proposal, institution: 'Archive', reason: 'quorum' })
    for (const node of net.nodes) {
      await net.watch.until('the deletion of the file', async () => !(await node.parts.blobs.has(file)))
    }
    expect(archive.accepted.isWithdrawn(archive.identity.peerId, id)).toBe(true)
    await expect(publish(archive, 'law')).rejects.toMatchObject({ code: 'not-acceptable' })
    const again = await net.restart(2)
    await answered(() => again, all)
  })

  it('of a package that a later one replaced needs no answer', async () => {
    await publishLaw()
    await publish(archive, 'law')
    await net.watch.until('the later package', () => net.nodes.every((node) => inUse(node).length === 1))
    expect(await reportOf(archive)).toBeUndefined()
    expect(await receiptsOf(hospital)).toBe(0)
  })
})

describe('an expert that was withdrawn', () => {
  it('is refused when it is published again, by its owner and by others, also in another format', async () => {
    await publishLaw()
    await run(archive, 'withdraw', { name: 'law' })
    await net.accepted(0)
    await train(hospital, 'copy', 'archive')
    for (const [node, name] of [
      [archive, 'law'],
      [hospital, 'copy'],
    ] as const) {
      for (const dtype of ['BF16', 'F32']) {
        await expect(publish(node, name, { dtype })).rejects.toMatchObject({
          code: 'not-acceptable',
          message: expect.stringContaining('withdrawn'),
        })
      }
    }
  })

  it('does not keep its owner from publishing another one under its name', async () => {
    await publishLaw()
    await run(archive, 'withdraw', { name: 'law' })
    await net.accepted(0)
    await train(archive, 'other', 'university')
    await publish(archive, 'other')
    await net.accepted(1)
    expect((await outcomes(hospital)).sort()).toEqual(['accepted', 'withdrawn'])
  })
})
