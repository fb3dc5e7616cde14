/** Local trouble, withdrawals that overtake judging, forks, revocations and the end of a roster, between real nodes. */
import { readdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterEach, describe, expect, it, vi } from 'vitest'
import { seal } from '../../src/identity/envelope.ts'
import { MEDIA_TYPES } from '../../src/identity/media-types.ts'
import type { Digest } from '../../src/lib/bytes.ts'
import { InputError } from '../../src/lib/errors.ts'
import { limit } from '../../src/lib/limits.ts'
import type { FlexMeshNode } from '../../src/node/node.ts'
import { encodeManifest, openManifest } from '../../src/packaging/manifest.ts'
import { cleanUp, EXAMPLES } from '../support/folders.ts'
import { network, now, run, type TestNetwork, type Watch } from '../support/network.ts'
import { tinyModel } from '../support/tiny-model.ts'

const LAW = { name: 'law', data: [join(EXAMPLES, 'archive', 'text')], steps: 1 }

let net: TestNetwork | undefined
afterEach(async () => {
  await net?.close()
  net = undefined
  await cleanUp()
})

interface Pair {
  readonly watch: Watch
  readonly hospital: FlexMeshNode
  readonly archive: FlexMeshNode
}

/** Two connected members; the archive has trained an expert named "law". */
async function pair(): Promise<Pair> {
  net = await network(['Hospital', 'Archive'], await tinyModel())
  const { watch } = net
  const [hospital, archive] = net.nodes as [FlexMeshNode, FlexMeshNode]
  await watch.until('a connection', () => hospital.connectedMembers().length === 1)
  await run(archive, 'train', LAW)
  return { watch, hospital, archive }
}

const outcomes = async (node: FlexMeshNode): Promise<string[]> =>
  (await node.verdicts.list()).map((v) => (v.outcome === 'refused' ? v.code : v.outcome))

async function publish(node: FlexMeshNode): Promise<Digest> {
  return (await run<{ id: Digest }>(node, 'publish', { name: 'law' })).id
}

/** Resolves when an action was reached, and holds it until `go` is called. */
function gate(): {
  readonly reached: Promise<void>
  readonly pass: () => Promise<void>
  readonly go: () => void
} {
  const arrival = Promise.withResolvers<void>()
  const opening = Promise.withResolvers<void>()
  return {
    reached: arrival.promise,
    pass: () => {
      arrival.resolve()
      return opening.promise
    },
    go: () => opening.resolve(),
  }
}

describe('local trouble while a package is judged', () => {
  it('of a full disk is no verdict: the package is accepted once there is room', async () => {
    const { watch, hospital, archive } = await pair()
    const attempt = Promise.withResolvers<void>()
    const full = vi.spyOn(hospital.blobs, 'beginPartial').mockImplementation(async () => {
      attempt.resolve()
      throw new InputError('disk-full', 'no space left')
    })
    await publish(archive)
    await attempt.promise
    await hospital.settled()
    expect(await outcomes(hospital)).toEqual([])
    full.mockRestore()
    await archive.announce()
    await watch.until('the expert', () => hospital.accepted.list().length === 1)
    expect(await outcomes(hospital)).toEqual(['accepted'])
  })

  it('of an unexpected kind stops neither the queue nor the node', async () => {
    const { watch, hospital, archive } = await pair()
    const attempt = Promise.withResolvers<void>()
    vi.spyOn(hospital.blobs, 'readAll').mockImplementationOnce(async () => {
      attempt.resolve()
      throw new Error('EIO: i/o error, read')
    })
    await publish(archive)
    await attempt.promise
    await hospital.settled()
    expect(await outcomes(hospital)).toEqual([])
    await archive.announce()
    await watch.until('the expert', () => hospital.accepted.list().length === 1)
  })
})

describe('a withdrawal that arrives while its package is judged', () => {
  it('leaves a refusal, no expert and no file', async () => {
    const { watch, hospital, archive } = await pair()
    const { reached, pass, go } = gate()
    const readAll = hospital.blobs.readAll.bind(hospital.blobs)
    vi.spyOn(hospital.blobs, 'readAll').mockImplementation(async (...args) => {
      await pass()
      return readAll(...args)
    })
    const id = await publish(archive)
    const envelope = (await archive.catalogue.statement(id)) as Uint8Array
    const { publisher, files } = openManifest(envelope).manifest
    await reached
    await run(archive, 'withdraw', { name: 'law' })
    await watch.until('the withdrawal', () => hospital.accepted.isWithdrawn(publisher, id))
    go()
    await hospital.settled()
    expect(await outcomes(hospital)).toEqual(['withdrawn'])
    expect(hospital.accepted.list()).toEqual([])
    expect(await hospital.blobs.has(files[0].sha256)).toBe(false)
  })
})

describe('an answer', () => {
  it('is attributed to the composition that made it, although an expert is withdrawn meanwhile', async () => {
    const { watch, hospital, archive } = await pair()
    await publish(archive)
    await watch.until('the expert', () => hospital.accepted.list().length === 1)
    const { nodeCommands } = await import('../../src/commands/table.ts')
    const steps = nodeCommands(hospital)['generate']?.(
      { prompt: 'Article', maxTokens: 40 },
      AbortSignal.timeout(60_000),
    )
    await steps?.next()
    await run(archive, 'withdraw', { name: 'law' })
    await watch.until('the withdrawal', () => hospital.composer.served.composition.experts.length === 0)
    let answer: { experts: { institution: string; share: number }[] } | undefined
    for (;;) {
      const step = await steps?.next()
      if (step === undefined || step.done !== true) continue
      answer = step.value as typeof answer
      break
    }
    expect(answer?.experts.map(({ institution }) => institution)).toEqual(['public model', 'Archive'])
    expect(answer?.experts.reduce((sum, { share }) => sum + share, 0)).toBeCloseTo(1, 5)
  })
})

describe('publishing one name again', () => {
  it('supersedes: after 20 times one package stands, everywhere and after a restart', async () => {
    const { watch, hospital, archive } = await pair()
    let last: Digest | undefined
    for (let i = 0; i < 20; i++) last = await publish(archive)
    const standing = (node: FlexMeshNode): Digest[] => node.accepted.list().map(({ id }) => id)
    expect(standing(archive)).toEqual([last])
    await watch.until('the last version', () => standing(hospital).join() === last)
    await archive.close()
    const again = (await net?.open(1)) as FlexMeshNode
    expect(standing(again)).toEqual([last])
    expect(await run(again, 'withdraw', { name: 'law' })).toEqual({ withdrawn: [last] })
  }, 120_000)
})

describe('more packages than a statement can name', () => {
  it('are published, announced and withdrawn', async () => {
    const { watch, hospital, archive } = await pair()
    const { identity, catalogue } = archive
    const id = await publish(archive)
    const { manifest } = openManifest((await catalogue.statement(id)) as Uint8Array)
    // What a node that never superseded has left behind: 20 packages of one name and one file.
    await archive.close()
    const reopened = (await net?.open(1)) as FlexMeshNode
    for (let i = 0; i < 20; i++) {
      const tip = await reopened.catalogue.tip(identity.peerId)
      const payload = encodeManifest({
        ...manifest,
        seq: (tip?.seq ?? 0) + 1,
        prev: tip?.digest ?? manifest.prev,
        domain: `version ${i}`,
      })
      await reopened.ingest(seal(MEDIA_TYPES.manifest, payload, [identity]))
    }
    await reopened.settled()
    await reopened.announce()
    await watch.until('all of them', () => hospital.accepted.list().length === 21)
    const { withdrawn } = await run<{ withdrawn: Digest[] }>(reopened, 'withdraw', { name: 'law' })
    expect(withdrawn).toHaveLength(21)
    await watch.until('the withdrawals', () => hospital.accepted.list().length === 0)
  }, 120_000)
})

describe('a publisher that signs two statements for one place', () => {
  it('is found out: the proof is kept, and its later packages are refused, but not its withdrawals', async () => {
    const { watch, hospital, archive } = await pair()
    const id = await publish(archive)
    await watch.until('the expert', () => hospital.accepted.list().length === 1)
    const { manifest } = openManifest((await archive.catalogue.statement(id)) as Uint8Array)
    const other = seal(MEDIA_TYPES.manifest, encodeManifest({ ...manifest, domain: 'another' }), [
      archive.identity,
    ])
    await hospital.ingest(other)
    expect(await outcomes(hospital)).toContain('forked')
    expect(await hospital.catalogue.get('forks', archive.identity.peerId)).toEqual(other)
    const second = await run<{ id: Digest }>(archive, 'publish', { name: 'law', domain: 'later' })
    await hospital.close()
    const again = (await net?.open(0)) as FlexMeshNode
    await again.ingest((await archive.catalogue.statement(second.id)) as Uint8Array)
    expect(await again.catalogue.statement(second.id)).toBeUndefined()
  })
})

describe('a member that left', () => {
  it('stays composed everywhere up to its last statement, at late joiners too', async () => {
    const { watch, hospital, archive } = await pair()
    const id = await publish(archive)
    await watch.until('the expert', () => hospital.accepted.list().length === 1)
    await run(hospital, 'revoke', { who: 'Archive', reason: 'left' })
    const late = (await net?.join('Late')) as FlexMeshNode
    await watch.until('the expert at the late joiner', () => late.accepted.has(id))
    expect(late.composer.served.composition.digest).toBe(hospital.composer.served.composition.digest)
  })

  it('is left out from the statement on that the roster no longer covers', async () => {
    const { watch, hospital, archive } = await pair()
    await publish(archive)
    await watch.until('the expert', () => hospital.accepted.list().length === 1)
    // As if the founder had not yet heard of the statement when it revoked the member.
    await hospital.membership.revoke('Archive', 'compromised', 0)
    await hospital.close()
    const again = (await net?.open(0)) as FlexMeshNode
    expect(again.accepted.list()).toEqual([])
    expect(await outcomes(again)).toEqual(['not-a-member'])
  })

  it('can return under its name with another key', async () => {
    const { hospital } = await pair()
    await run(hospital, 'revoke', { who: 'Archive', reason: 'compromised' })
    await net?.join('Archive')
    const members = hospital.membership
      .roster()
      .members.filter(({ institution }) => institution === 'Archive')
    expect(members.map(({ revoked }) => revoked !== undefined)).toEqual([true, false])
  })
})

describe('a roster that has ended', () => {
  it('covers no new packages until a founder renews it', async () => {
    let ahead = 0
    net = await network(['Hospital', 'Archive'], await tinyModel(), { now: () => now() + ahead })
    const { watch } = net
    const [hospital, archive] = net.nodes as [FlexMeshNode, FlexMeshNode]
    await run(archive, 'train', LAW)
    ahead = limit('rosterLifetime') + 2 * limit('clockSkew')
    await expect(publish(archive)).rejects.toMatchObject({ code: 'expired' })
    expect(await outcomes(hospital)).toEqual([])
    await hospital.renew()
    await watch.until('the new roster', () => archive.membership.roster().version > 2)
    await publish(archive)
    await watch.until('the expert', () => hospital.accepted.list().length === 1)
  })
})

describe('a node that was killed while it wrote', () => {
  it('removes the leftovers when it opens, and keeps its experts', async () => {
    const { watch, hospital, archive } = await pair()
    await publish(archive)
    await watch.until('the expert', () => hospital.accepted.list().length === 1)
    const blobs = join(hospital.paths.root, 'blobs')
    await hospital.close()
    const before = (await readdir(blobs)).sort()
    await writeFile(join(blobs, `.${'0'.repeat(16)}.tmp`), 'half a file')
    await writeFile(join(blobs, `${'a'.repeat(64)}.chunks`), 'hashes of no file')
    const again = (await net?.open(0)) as FlexMeshNode
    expect((await readdir(blobs)).sort()).toEqual(before)
    expect(again.accepted.list()).toHaveLength(1)
  })

  it('fetches a package again whose file the disk has damaged', async () => {
    const { watch, hospital, archive } = await pair()
    const id = await publish(archive)
    await watch.until('the expert', () => hospital.accepted.list().length === 1)
    const [file] = (await hospital.accepted.manifestOf(id)).files
    await hospital.close()
    await writeFile(hospital.blobs.path(file.sha256), Buffer.alloc(file.size))
    const again = (await net?.open(0)) as FlexMeshNode
    await watch.until('the expert again', () => again.accepted.list().length === 1)
    expect(await outcomes(again)).toEqual(['accepted'])
  })
})
