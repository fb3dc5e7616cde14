/** What a change of the roster, or its end, means for the packages of members. */
import { readdir } from 'node:fs/promises'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { seal } from '../../src/identity/envelope.ts'
import { MEDIA_TYPES } from '../../src/identity/media-types.ts'
import type { Digest } from '../../src/lib/bytes.ts'
import { limit } from '../../src/lib/limits.ts'
import type { FlexMeshNode } from '../../src/node/node.ts'
import { encodeManifest, openManifest } from '../../src/packaging/manifest.ts'
import { cleanUp } from '../support/folders.ts'
import { inUse, network, now, outcomes, publish, run, type TestNetwork, train } from '../support/network.ts'
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

async function publishEverywhere(): Promise<Digest> {
  const id = await publish(archive, 'law')
  await net.accepted(1)
  return id
}

describe('a member that was taken off the roster', () => {
  it('keeps its earlier packages in use, also at institutions that join later', async () => {
    const id = await publishEverywhere()
    await run(hospital, 'revoke', { who: 'Archive', reason: 'left' })
    const late = await net.join('University')
    await net.watch.until('the expert at the late joiner', () => late.accepted.has(id))
    expect(late.composer.served.composition.digest).toBe(hospital.composer.served.composition.digest)
  })

  it('loses the packages that the roster no longer covers', async () => {
    await publishEverywhere()
    // As if the founder had not received the statement before it revoked the member.
    await hospital.revoke('Archive', 'compromised', 0)
    const again = await net.restart(0)
    expect(inUse(again)).toEqual([])
    expect(await outcomes(again)).toEqual(['not-a-member'])
  })

  it('is told so, and its withdrawal still reaches the others', async () => {
    await publishEverywhere()
    await run(hospital, 'revoke', { who: 'Archive', reason: 'left' })
    expect(inUse(hospital)).toHaveLength(1)
    await net.watch.until('the roster at the revoked member', () => {
      return !archive.membership.isMember(archive.identity.peerId)
    })
    await run(archive, 'withdraw', { name: 'law' })
    const again = await net.restart(1)
    await net.watch.until('the withdrawal', () => inUse(hospital).length === 0)
    expect(inUse(again)).toEqual([])
  })

  it('can return under its name with another key', async () => {
    await run(hospital, 'revoke', { who: 'Archive', reason: 'compromised' })
    await net.join('Archive')
    const entries = hospital.membership.roster().members.filter((member) => member.institution === 'Archive')
    expect(entries.map(({ revoked }) => revoked !== undefined)).toEqual([true, false])
  })
})

describe('a roster that has ended', () => {
  it('covers no new packages until a founder renews it', async () => {
    const blobs = await readdir(join(archive.paths.root, 'blobs'))
    ahead = limit('rosterLifetime') + 2 * limit('clockSkew')
    await expect(publish(archive, 'law')).rejects.toMatchObject({ code: 'expired' })
    expect(await outcomes(hospital)).toEqual([])
    expect(await readdir(join(archive.paths.root, 'blobs'))).toEqual(blobs)
    const { version } = archive.membership.roster()
    await run(hospital, 'renew')
    await run(archive, 'renew')
    await net.watch.until('the new roster', () => archive.membership.roster().version > version)
    await publishEverywhere()
  })
})

describe('a publisher that signs two statements with one number', () => {
  it('is found out: the proof is kept and spread, and nobody uses its packages, also after a restart', async () => {
    const id = await publishEverywhere()
    const { manifest } = openManifest((await archive.catalogue.statement(id)) as Uint8Array)
    const payload = encodeManifest({ ...manifest, domain: 'another' })
    const other = seal(MEDIA_TYPES.manifest, payload, [archive.identity])
    await hospital.ingest(other)
    expect(await hospital.parts.verdicts.get(id)).toMatchObject({ outcome: 'refused', code: 'forked' })
    await net.accepted(0)
    expect(await archive.catalogue.get('forks', archive.identity.peerId)).toBeDefined()
    await train(archive, 'history', 'archive')
    await expect(publish(archive, 'history')).rejects.toMatchObject({ code: 'not-acceptable' })
    const late = await net.join('University')
    await net.watch.until('the proof at the late joiner', async () => {
      return (await late.catalogue.get('forks', archive.identity.peerId)) !== undefined
    })
    const again = await net.restart(0)
    expect([inUse(again), inUse(late)]).toEqual([[], []])
  })
})
