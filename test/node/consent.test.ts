/** Owners and operators that no longer want an expert to be used. */
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import type { Digest } from '../../src/lib/bytes.ts'
import { limit } from '../../src/lib/limits.ts'
import type { FlexMeshNode } from '../../src/node/node.ts'
import { openManifest } from '../../src/packaging/manifest.ts'
import { cleanUp } from '../support/folders.ts'
import { held } from '../support/held.ts'
import { beforeJudging } from '../support/judging.ts'
import {
  finish,
  inUse,
  network,
  now,
  outcomes,
  publish,
  run,
  start,
  type TestNetwork,
  train,
} from '../support/network.ts'
import { tinyModel } from '../support/tiny-model.ts'

let net: TestNetwork
let hospital: FlexMeshNode
let archive: FlexMeshNode
/** Seconds by which the clocks of all nodes are ahead. */
let ahead: number

beforeEach(async () => {
  ahead = 0
  net = await network(['Hospital', 'Archive'], await tinyModel(), { now: () => now() + ahead })
  ;[hospital, archive] = net.nodes as [FlexMeshNode, FlexMeshNode]
  await net.connected()
  await train(archive, 'law', 'archive')
})
afterEach(async () => {
  await net.close()
  await cleanUp()
})

async function fileOf(id: Digest): Promise<Digest> {
  const { manifest } = openManifest((await archive.catalogue.statement(id)) as Uint8Array)
  return manifest.files[0].sha256
}

describe('an expert that its owner withdraws', () => {
  it('leaves every composition and every disk, also after a restart', async () => {
    const file = await fileOf(await publish(archive, 'law'))
    await net.accepted(1)
    await run(archive, 'withdraw', { name: 'law' })
    await net.accepted(0)
    await net.watch.until('the deletion of the file', async () => {
      const kept = await Promise.all(net.nodes.map((node) => node.parts.blobs.has(file)))
      return !kept.includes(true)
    })
    const again = await net.restart(0)
    expect(inUse(again)).toEqual([])
    expect(await outcomes(again)).toEqual(['withdrawn'])
  })

  it('while another node judges it is refused there, and its file is deleted', async () => {
    const judging = held()
    beforeJudging(hospital, () => judging.pass())
    const id = await publish(archive, 'law')
    await judging.reached
    await run(archive, 'withdraw', { name: 'law' })
    await net.watch.until('the withdrawal', () => hospital.accepted.isWithdrawn(archive.identity.peerId, id))
    judging.release()
    await hospital.settled()
    expect(await outcomes(hospital)).toEqual(['withdrawn'])
    expect(inUse(hospital)).toEqual([])
    expect(await hospital.parts.blobs.has(await fileOf(id))).toBe(false)
  })

  it('while it answers is still named with its share of that answer', async () => {
    await publish(archive, 'law')
    await net.accepted(1)
    const steps = start(hospital, 'generate', { prompt: 'Article', maxTokens: 40 })
    await steps.next()
    await run(archive, 'withdraw', { name: 'law' })
    await net.watch.until('the withdrawal', () => hospital.composer.served.composition.experts.length === 0)
    const { experts } = await finish<{ experts: { institution: string; share: number }[] }>(steps)
    expect(experts.map(({ institution }) => institution)).toEqual(['public model', 'Archive'])
    expect(experts.reduce((sum, { share }) => sum + share, 0)).toBeCloseTo(1, 5)
  })
})

describe('an expert whose consent has ended', () => {
  it('is not used after the next start', async () => {
    await publish(archive, 'law')
    await net.accepted(1)
    ahead = limit('manifestLifetime') + 2 * limit('clockSkew')
    const later = await net.restart(0)
    expect(inUse(later)).toEqual([])
    expect(await outcomes(later)).toEqual(['expired'])
  })
})

describe('an expert that the time alone made invalid', () => {
  it('is used again when a clock that was ahead goes back, without a restart and without "accept"', async () => {
    const id = await publish(archive, 'law')
    await net.accepted(1)
    ahead = limit('manifestLifetime') + 2 * limit('clockSkew')
    for (const node of net.nodes) await node.upkeep()
    expect(net.nodes.map(inUse)).toEqual([[], []])
    ahead = 0
    for (const node of net.nodes) await node.upkeep()
    for (const node of net.nodes) await node.settled()
    expect(net.nodes.map(inUse)).toEqual([[id], [id]])
  })

  it('is used again after a restart with the right clock', async () => {
    const id = await publish(archive, 'law')
    await net.accepted(1)
    ahead = limit('manifestLifetime') + 2 * limit('clockSkew')
    expect(inUse(await net.restart(0))).toEqual([])
    ahead = 0
    const again = await net.restart(0)
    await again.settled()
    expect(inUse(again)).toEqual([id])
  })

  it('is used once its time has come, if it was refused because its time had not come yet', async () => {
    ahead = 2 * limit('clockSkew')
    const id = await publish(archive, 'law')
    ahead = 0
    await net.restart(0)
    await net.watch.until(
      'the refusal',
      async () => (await outcomes(net.nodes[0] as FlexMeshNode)).length > 0,
    )
    expect(await outcomes(net.nodes[0] as FlexMeshNode)).toEqual(['not-yet-valid'])
    ahead = 2 * limit('clockSkew')
    const [node] = net.nodes as [FlexMeshNode]
    await node.upkeep()
    await node.settled()
    expect(inUse(node)).toEqual([id])
  })

  it('stays out of use if it was withdrawn meanwhile', async () => {
    await publish(archive, 'law')
    await net.accepted(1)
    ahead = limit('manifestLifetime') + 2 * limit('clockSkew')
    for (const node of net.nodes) await node.upkeep()
    ahead = 0
    await run(archive, 'withdraw', { name: 'law' })
    await archive.upkeep()
    await archive.settled()
    expect(inUse(archive)).toEqual([])
  })
})

describe("the operator's word", () => {
  it('refuses an accepted expert, and takes the refusal back', async () => {
    const id = await publish(archive, 'law')
    await net.accepted(1)
    await run(hospital, 'refuse', { package: 'law' })
    expect(inUse(hospital)).toEqual([])
    expect(await outcomes(hospital)).toEqual(['refused-by-operator'])
    await run(hospital, 'accept', { package: 'law' })
    expect(inUse(hospital)).toEqual([id])
  })

  it('holds after a restart', async () => {
    await publish(archive, 'law')
    await net.accepted(1)
    await run(hospital, 'refuse', { package: 'law' })
    expect(inUse(await net.restart(0))).toEqual([])
  })
})
