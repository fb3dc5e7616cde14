/** Institution keys and node keys between real nodes: naming a node key, rotating, a stolen home and a lost one. */
import { spawnSync } from 'node:child_process'
import { cp, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import type { Identity } from '../../src/identity/keys.ts'
import { initHome } from '../../src/node/found.ts'
import { joinConsortium } from '../../src/node/join.ts'
import { changeKeys, type KeyPlan, type KeyReport } from '../../src/node/key-change.ts'
import { FlexMeshNode } from '../../src/node/node.ts'
import { onnxEngine } from '../../src/tensor/onnx-engine.ts'
import { encodeCheckpoint, originOf } from '../../src/transparency/checkpoint.ts'
import { EMPTY_ROOT } from '../../src/transparency/merkle.ts'
import { encodeNote, signText } from '../../src/transparency/note.ts'
import { sealWitnessKey } from '../../src/transparency/witness-key.ts'
import { flexmesh } from '../support/command-line.ts'
import { cleanUp, folder } from '../support/folders.ts'
import {
  inUse,
  LENIENT,
  network,
  now,
  outcomes,
  publish,
  run,
  type TestNetwork,
  train,
} from '../support/network.ts'
import { tinyModel } from '../support/tiny-model.ts'

/** The verifier in Python runs where there is a Python. */
const PYTHONS = ['python3'].filter((python) => spawnSync(python, ['--version']).status === 0)
const SCRIPT = fileURLToPath(new URL('../../scripts/verify-bundle.py', import.meta.url))

let net: TestNetwork
let hospital: FlexMeshNode
let archive: FlexMeshNode
/** Id of the seat of the archive. */
let seat: string
/** File of the institution key of the archive. */
let file: string
const signal = new AbortController().signal

beforeEach(async () => {
  net = await network(['Hospital', 'Archive', 'University'], await tinyModel())
  ;[hospital, archive] = net.nodes as [FlexMeshNode, FlexMeshNode]
  seat = archive.membership.seat
  await net.connected()
  file = join(await folder(), 'archive.key')
})
afterEach(async () => {
  await net.close()
  await cleanUp()
})

/** Change the keys of the archive, whose node is stopped. */
function changeArchive(plan: KeyPlan): Promise<KeyReport> {
  const home = net.homes[1] as string
  return changeKeys({ home, engine: onnxEngine({ threads: 1 }), now, file, log: net.watch.log }, plan, signal)
}

/** Change the keys of the archive and start its node again. */
async function changed(plan: KeyPlan): Promise<KeyReport> {
  let report: KeyReport | undefined
  archive = await net.restart(1, async () => {
    report = await changeArchive(plan)
  })
  return report as KeyReport
}

/** The keys that rule the archive's seat, as a node knows them. */
const keysAt = (node: FlexMeshNode) => node.membership.keys.historyOf(seat).current()

/** All logs are cosigned by everybody, and audit bundles of both nodes prove it; a replaced key of the archive changes nothing. */
async function expectCosigned(replaced: Identity): Promise<void> {
  await net.watch.until('cosignatures of all others on every whole log', async () => {
    for (const of of net.nodes) {
      const publisher = of.membership.seat
      const tip = await of.catalogue.tip(publisher)
      for (const node of net.nodes) {
        const final = node.logs.notes.cosigned(publisher, 'final')
        if (final?.checkpoint.size !== (tip?.seq ?? 0) || final.cosigners.length < 2) return false
      }
    }
    return true
  })
  const size = hospital.logs.finalSize(seat) + 1
  const text = encodeCheckpoint({ origin: originOf(hospital.consortium, seat), size, root: EMPTY_ROOT })
  const note = encodeNote({
    text,
    signatures: [signText(originOf(hospital.consortium, seat), replaced, text)],
  })
  await hospital.logs.onNews({ publisher: seat, note })
  expect(hospital.logs.notes.get(seat, 'latest')?.text).not.toBe(text)
  const stolen = sealWitnessKey(replaced, hospital.consortium, now() + 100, seat)
  await hospital.logs.onNews({ publisher: seat, witnessKey: stolen })
  expect(hospital.logs.notes.witnessKeyEnvelope(seat)).not.toEqual(stolen)
  for (const [i, exporter] of [hospital, archive].entries()) {
    const bundle = join(await folder(), `${i}.audit`)
    const { incomplete } = await run<{ incomplete?: string }>(exporter, 'audit export', { file: bundle })
    expect(incomplete).toBeUndefined()
    expect((await flexmesh('audit', 'verify', bundle)).stdout).toMatch(
      /Archive +\d+ statements +\d+ final +cosigned by Hospital, University/,
    )
    for (const python of PYTHONS) {
      const checked = spawnSync(python, [SCRIPT, bundle], { encoding: 'utf8' })
      expect(checked.stderr).toBe('')
      expect(checked.stdout).toContain('cosigned by Hospital, University')
    }
  }
}

describe('a seat with an institution key outside of the home', () => {
  it('has a node that the others know by its own key, and goes on after a rotation of the institution key', async () => {
    const delegated = await changed({ kind: 'delegate' })
    expect(archive.identity.peerId).toBe(delegated.nodeKey)
    expect(delegated.nodeKey).not.toBe(seat)
    const rotated = await changed({ kind: 'rotate' })
    expect(rotated).toMatchObject({ seat, nodeKey: delegated.nodeKey })
    expect(rotated.institutionKey).not.toBe(seat)
    const replaced = archive.identity
    await changed({ kind: 'delegate' })
    expect(archive.identity.peerId).not.toBe(replaced.peerId)
    await net.connected()
    expect(hospital.connectedMembers()).toContain(seat)
    await train(archive, 'law', 'archive')
    await publish(archive, 'law')
    await net.accepted(1)
    await expect(run(archive, 'key show')).resolves.toMatchObject({ seat, isRuling: true })
    await expectCosigned(replaced)
    await changed({ kind: 'revoke' })
    await expect(run(archive, 'key show')).resolves.toMatchObject({ seat, isRuling: false, nodeKey: null })
    await expect(run(archive, 'withdraw', { name: 'law', alone: true })).rejects.toMatchObject({
      code: 'not-acceptable',
    })
  })

  it('closes the connections of the node key that was replaced, and nothing that a thief signs counts', async () => {
    await changed({ kind: 'delegate' })
    await train(archive, 'law', 'archive')
    await publish(archive, 'law')
    await net.accepted(1)
    const validThroughSeq = Number((await archive.catalogue.tip(seat))?.seq)
    const stolen = join(await folder(), 'stolen')
    let thief: FlexMeshNode | undefined
    archive = await net.restart(1, async () => {
      await cp(net.homes[1] as string, stolen, { recursive: true })
      thief = await FlexMeshNode.open({
        ...{ home: stolen, engine: onnxEngine({ threads: 1 }), policy: LENIENT, now },
        ...{ onEvent: net.watch.onEvent, log: net.watch.log },
      })
      await thief.start()
      await net.watch.until('the trust of the others', () => thief?.isCopied === false)
      await train(thief, 'poison', 'archive')
      await publish(thief, 'poison', { alone: true })
      await net.watch.until('the expert of the thief', () => inUse(hospital).length === 2)
      await changeArchive({ kind: 'delegate', validThroughSeq })
      await net.watch.until('the end of its connections', () => thief?.connectedMembers().length === 0)
    })
    const thiefNode = thief as FlexMeshNode
    await net.accepted(1)
    // The thief goes on to sign, and somebody else brings it to the others.
    await run(thiefNode, 'withdraw', { name: 'law', alone: true })
    const tip = await thiefNode.catalogue.tip(seat)
    const envelope = await thiefNode.catalogue.statement(tip?.digest ?? 'sha256:')
    await thiefNode.close()
    for (const node of net.nodes) expect(await node.ingest(envelope as Uint8Array)).toBe(false)
    expect(await outcomes(hospital)).toContain('wrong-signer')
    const late = await net.join('Late')
    await net.watch.until('both verdicts at the late joiner', async () => (await outcomes(late)).length === 2)
    expect((await outcomes(late)).sort()).toEqual(['accepted', 'not-a-member'])
    expect(inUse(late)).toEqual(inUse(hospital))
    for (const node of net.nodes) expect(keysAt(node)).toEqual(keysAt(archive))
  })

  it('takes over from a home that was lost, without a vote', async () => {
    await changed({ kind: 'delegate' })
    await train(archive, 'law', 'archive')
    await publish(archive, 'law')
    await net.accepted(1)
    archive = await net.restart(1, async () => {
      const home = net.homes[1] as string
      await rm(home, { recursive: true })
      const settings = {
        institution: 'Archive',
        listen: ['/ip4/127.0.0.1/tcp/0'],
        bootstrap: [],
        mdns: false,
      }
      const inTheClear = { inTheClear: true } as const
      await initHome(home, settings, inTheClear, { file, protection: inTheClear })
      await joinConsortium({ home, now }, await hospital.invite(), signal, () => undefined)
      await changeArchive({ kind: 'delegate' })
    })
    await net.connected()
    expect(archive.membership.seat).toBe(seat)
    await run(archive, 'withdraw', { name: 'law' })
    await net.accepted(0)
  })
})
