/** A member that signs packages to harm others: files of others, dormant experts, too many packages. */
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { concatBytes, type Digest, digestOf } from '../../src/lib/bytes.ts'
import type { Param } from '../../src/model/weights.ts'
import type { FlexMeshNode } from '../../src/node/node.ts'
import { type Manifest, openManifest } from '../../src/packaging/manifest.ts'
import { fileRefOf } from '../support/file-ref.ts'
import { cleanUp } from '../support/folders.ts'
import { HostileAuthor } from '../support/hostile/author.ts'
import { type HostileMember, joinAsMember } from '../support/hostile/member.ts'
import { serveFiles, showLog } from '../support/hostile/packages.ts'
import { stopHostilePeers } from '../support/hostile/peer.ts'
import { cborFrame } from '../support/hostile/wire.ts'
import { inUse, LENIENT, network, publish, type TestNetwork, train } from '../support/network.ts'
import { packTensors, unpackExpert } from '../support/package-bytes.ts'
import { tinyModel } from '../support/tiny-model.ts'

let net: TestNetwork
let hospital: FlexMeshNode
let archive: FlexMeshNode
/** The archive's package, in use at both nodes. */
let law: Digest
let honest: Manifest
let mallory: HostileMember
let author: HostileAuthor

beforeEach(async () => {
  net = await network(['Hospital', 'Archive'], await tinyModel(), {
    policy: { ...LENIENT, maxPackagesPerPublisher: 8 },
  })
  ;[hospital, archive] = net.nodes as [FlexMeshNode, FlexMeshNode]
  await net.connected()
  await train(archive, 'law', 'archive')
  law = await publish(archive, 'law')
  await net.accepted(1)
  honest = openManifest((await archive.catalogue.statement(law)) as Uint8Array).manifest
  mallory = await joinAsMember(net.quorum, 'Mallory', 150)
  author = new HostileAuthor(mallory, honest)
})
afterEach(async () => {
  await stopHostilePeers()
  await net.close()
  await cleanUp()
})

/** Let all honest nodes pull the statements of the hostile member. */
async function meetAll(): Promise<void> {
  for (const node of net.nodes) await showLog(mallory, author.tip, node)
}

async function verdictOf(node: FlexMeshNode, id: Digest): Promise<string> {
  await net.watch.until(`a verdict on ${id}`, async () => (await node.parts.verdicts.get(id)) !== undefined)
  const verdict = await node.parts.verdicts.get(id)
  return verdict?.outcome === 'refused' ? verdict.code : 'accepted'
}

/** Codes of the verdicts of every honest node. */
function verdicts(id: Digest): Promise<string[]> {
  return Promise.all(net.nodes.map((node) => verdictOf(node, id)))
}

function sign(changes: Partial<Manifest> = {}): Digest {
  const { id, envelope } = author.manifest(changes)
  mallory.statements.push(envelope)
  return id
}

/** Deliver files of one chunk each as an honest member does. @returns digests of the files that were asked for. */
async function deliver(files: ReadonlyMap<Digest, Uint8Array>): Promise<readonly Digest[]> {
  const asked: Digest[] = []
  await serveFiles(mallory, async ({ kind, digest }, stream) => {
    asked.push(digest)
    const bytes = files.get(digest)
    if (bytes === undefined) stream.send(cborFrame({ error: 'not-found' }))
    else stream.send(cborFrame({ bytes: kind === 'hashes' ? fileRefOf(bytes).chunkHashes : bytes }))
    await stream.close()
  })
  return asked
}

/** The honest weights, changed, as a package that the hostile member serves. */
function packed(change: (name: string, value: Param) => Param | undefined) {
  return async (): Promise<{ changes: Partial<Manifest>; bytes: Uint8Array; sha256: Digest }> => {
    const [file] = honest.files
    const tensors = unpackExpert(await archive.parts.blobs.readAll(file.sha256, file.size), honest)
    const changed = [...tensors].flatMap(([name, { shape, data }]) => {
      const value = change(name, { shape: [...shape], data: Float32Array.from(data) })
      return value === undefined ? [] : [[name, value] as const]
    })
    const { parts, file: packedFile, shape } = packTensors(new Map(changed), 'F32')
    const bytes = concatBytes(...parts)
    const statisticsDocuments = shape.statisticsTokens === 0 ? 0 : honest.expert.statisticsDocuments
    const expert = { ...honest.expert, ...shape, dtype: 'F32' as const, statisticsDocuments }
    return {
      changes: { expert, files: [{ role: 'expert', ...packedFile }] },
      bytes,
      sha256: packedFile.sha256,
    }
  }
}

const FILES_OF_OTHERS: [string, () => Partial<Manifest>, string][] = [
  ['with a wrong shape', () => ({ expert: { ...honest.expert, bias: !honest.expert.bias } }), 'tensor-name'],
  [
    'with a wrong size',
    () => ({ files: [{ ...honest.files[0], size: honest.files[0].size + 8 }] }),
    'wrong-digest',
  ],
  [
    'with wrong chunks',
    () => ({ files: [{ ...honest.files[0], chunksSha256: digestOf(Uint8Array.of(1)) }] }),
    'wrong-digest',
  ],
  ['whose consent has ended', () => ({ issuedAt: 1_000_000, expiresAt: 1_000_100 }), 'expired'],
  ['as its own', () => ({}), 'accepted'],
]

describe('a member that names the file of another owner', () => {
  it.each<[string, (copy: Digest) => Promise<void>]>([
    [
      'withdraws its packages',
      async (copy) => {
        mallory.statements.push(author.withdrawal([copy]).envelope)
        await meetAll()
      },
    ],
    [
      'signs a second history',
      async () => {
        await hospital.ingest(new HostileAuthor(mallory, honest).manifest({ domain: 'another' }).envelope)
      },
    ],
    ['is revoked', async () => void (await net.quorum.revoke('Mallory', 'compromised', 0))],
  ])('and then %s deletes it nowhere: not now, after a restart or for newcomers', async (_, end) => {
    const ids = FILES_OF_OTHERS.map(([, changes]) => sign(changes()))
    await meetAll()
    for (const [i, [, , code]] of FILES_OF_OTHERS.entries()) {
      expect(await verdicts(ids[i] as Digest)).toEqual([code, code])
    }
    const copy = ids.at(-1) as Digest
    await end(copy)
    await net.accepted(1)
    await net.restart(0)
    await net.join('University')
    await net.restart(1)
    await net.accepted(1)
    expect(net.nodes.map(inUse)).toEqual([[law], [law], [law]])
    for (const { parts } of net.nodes) expect(await parts.blobs.has(honest.files[0].sha256)).toBe(true)
  })
})

describe('a member that names a file of the public model as its expert', () => {
  it('deletes it nowhere, so that institutions still join', async () => {
    const { files } = hospital.charter.publicModel
    const ids = files.map(({ sha256, chunksSha256 }) =>
      sign({ files: [{ ...honest.files[0], sha256, chunksSha256 }] }),
    )
    await meetAll()
    for (const id of ids) expect(await verdicts(id)).toEqual(['file-role', 'file-role'])
    mallory.statements.push(author.withdrawal(ids).envelope)
    await meetAll()
    await net.restart(0)
    await net.join('University')
    await net.accepted(1)
  })
})

describe('a member that publishes an expert', () => {
  /** Serve and sign a package. @returns its id. */
  async function offer(
    make: () => Promise<{ changes: Partial<Manifest>; bytes: Uint8Array; sha256: Digest }>,
  ) {
    const { changes, bytes, sha256 } = await make()
    await deliver(new Map([[sha256, bytes]]))
    const id = sign(changes)
    await meetAll()
    return id
  }

  it('that is dormant and has no router statistics leaves the gate of the others', async () => {
    expect(hospital.composer.served.composition.router).toBe('solved')
    const dormant = packed((name, value) => {
      if (name === 'router_statistics.tokens') return undefined
      if (name.includes('gate.weight')) return { ...value, data: value.data.fill(0) }
      if (name.includes('gate.bias')) return { ...value, data: value.data.fill(-30) }
      return value
    })
    const id = await offer(dormant)
    expect(await verdicts(id)).toEqual(['accepted', 'accepted'])
    const { router, routerNote } = hospital.composer.served.composition
    expect(router).toBe('solved')
    expect(routerNote).toBeDefined()
  })

  it('twelve times has eight in use everywhere, and the files of the others are not fetched until there is room', async () => {
    const packages = await Promise.all(
      Array.from({ length: 12 }, (_, i) =>
        packed((name, value) =>
          name.includes('down_proj') ? { ...value, data: value.data.map((x) => x * (1 + i / 1000)) } : value,
        )(),
      ),
    )
    const asked = await deliver(new Map(packages.map(({ sha256, bytes }) => [sha256, bytes])))
    const ids = packages.map(({ changes }) => sign(changes))
    await meetAll()
    await net.accepted(9)
    for (const node of net.nodes) await node.settled()
    const first = packages.slice(0, 8).map(({ sha256 }) => sha256)
    expect([...new Set(asked)].sort()).toEqual(first.sort())
    mallory.statements.push(author.withdrawal(ids.slice(0, 1)).envelope)
    await meetAll()
    const waited = ids[8] as Digest
    await net.watch.until('the ninth package', () => net.nodes.every((node) => inUse(node).includes(waited)))
    expect(net.nodes.map((node) => node.accepted.list().length)).toEqual([9, 9])
    expect(asked).not.toContain(packages[9]?.sha256)
  })
})
