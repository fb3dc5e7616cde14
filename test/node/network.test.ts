import { readdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import type { Float32Tensor } from '../../src/checkpoint/safetensors.ts'
import { plantTampered } from '../../src/cli/demo-hostile.ts'
import { seal } from '../../src/identity/envelope.ts'
import { createIdentity, type Identity } from '../../src/identity/keys.ts'
import { MEDIA_TYPES } from '../../src/identity/media-types.ts'
import { type Digest, digestOf, toBase64 } from '../../src/lib/bytes.ts'
import { decodeCanonical, encodeCanonical, type JsonObject } from '../../src/lib/canonical-json.ts'
import { fileRefOf } from '../../src/lib/file-ref.ts'
import { limit } from '../../src/lib/limits.ts'
import { FlexMeshNode } from '../../src/node/node.ts'
import { loadTrained } from '../../src/owner/training-folder.ts'
import { encodeManifest, type Manifest, openManifest } from '../../src/packaging/manifest.ts'
import { packExpert, unpackExpert } from '../../src/packaging/package.ts'
import { onnxEngine } from '../../src/tensor/onnx-engine.ts'
import { cleanUp, EXAMPLES } from '../support/folders.ts'
import { network, now, offerUnchecked, run, type TestNetwork, type Watch } from '../support/network.ts'
import { TINY, tinyModel } from '../support/tiny-model.ts'

let watch: Watch
let net: TestNetwork
let hospital: FlexMeshNode
let archive: FlexMeshNode
let university: FlexMeshNode

beforeAll(async () => {
  net = await network(['Hospital', 'Archive', 'University'], await tinyModel())
  watch = net.watch
  ;[hospital, archive, university] = net.nodes as [FlexMeshNode, FlexMeshNode, FlexMeshNode]
}, 120_000)
afterAll(async () => {
  await net?.close()
  await cleanUp()
})

const composed = (node: FlexMeshNode): string[] =>
  node.accepted
    .list()
    .map(({ institution }) => institution)
    .sort()
async function trainAndPublish(node: FlexMeshNode, name: string, text: string): Promise<Digest> {
  await run(node, 'train', { name, data: [join(EXAMPLES, text, 'text')], steps: 2 })
  const { id } = await run<{ id: Digest }>(node, 'publish', { name, domain: name })
  return id
}

describe('three nodes', () => {
  it('know each other, not the founder only', async () => {
    await watch.until('a full mesh', () => net.nodes.every((node) => node.connectedMembers().length === 2))
    for (const node of net.nodes) expect(node.membership.roster().members).toHaveLength(3)
  })

  it('compose the same model of what each published, in any order', async () => {
    await Promise.all([
      trainAndPublish(hospital, 'biomedicine', 'hospital'),
      trainAndPublish(archive, 'law', 'archive'),
      trainAndPublish(university, 'theorems', 'university'),
    ])
    await watch.until('three experts everywhere', () =>
      net.nodes.every((node) => composed(node).length === 3),
    )
    const digests = net.nodes.map((node) => node.composer.served.composition.digest)
    expect(new Set(digests).size).toBe(1)
  }, 120_000)

  it('answer with shares that sum to 1, and without an expert that was left out', async () => {
    type Answer = { text: string; experts: { institution: string; share: number }[] }
    const ask = (exclude: string[]): Promise<Answer> =>
      run<Answer>(archive, 'generate', { prompt: 'Article', maxTokens: 8, exclude })
    const all = await ask([])
    expect(all.experts.reduce((sum, { share }) => sum + share, 0)).toBeCloseTo(1, 5)
    expect(all.experts.every(({ share }) => share > 0)).toBe(true)
    const without = await ask(['Hospital'])
    expect(without.experts.find(({ institution }) => institution === 'Hospital')?.share).toBe(0)
    expect(without.experts.reduce((sum, { share }) => sum + share, 0)).toBeCloseTo(1, 5)
  })

  it('catch up after having been away', async () => {
    await university.close()
    await run(archive, 'train', { name: 'second', data: [join(EXAMPLES, 'archive', 'text')], steps: 1 })
    await run(archive, 'publish', { name: 'second' })
    university = await net.open(2)
    await watch.until('the expert published meanwhile', () => university.accepted.list().length === 4)
    expect(university.composer.served.composition.digest).toBe(archive.composer.served.composition.digest)
  }, 60_000)

  it('leave a withdrawn expert out, everywhere and after a restart, and drop its file', async () => {
    const [expert] = archive.accepted.list().filter(({ name }) => name === 'second')
    const envelope = await hospital.catalogue.statement(expert?.id as Digest)
    const { sha256 } = openManifest(envelope as Uint8Array).manifest.files[0]
    await run(archive, 'withdraw', { name: 'second' })
    await watch.until('the withdrawal', () => net.nodes.every((node) => node.accepted.list().length === 3))
    await watch.until('the file to be gone', async () => {
      const kept = await Promise.all(net.nodes.map((node) => node.blobs.has(sha256)))
      return !kept.includes(true)
    })
    await hospital.close()
    hospital = await net.open(0)
    expect(hospital.accepted.list()).toHaveLength(3)
  }, 60_000)

  it('refuse and take back by the operator’s word', async () => {
    await run(hospital, 'refuse', { package: 'theorems' })
    expect(composed(hospital)).toEqual(['Archive', 'Hospital'])
    await run(hospital, 'accept', { package: 'theorems' })
    expect(composed(hospital)).toEqual(['Archive', 'Hospital', 'University'])
  }, 60_000)
})

describe('a package that must not be composed', () => {
  const stranger = createIdentity(new Uint8Array(32).fill(9))
  let valid: Manifest
  let tensors: Map<string, Float32Tensor>
  let before: { files: string[]; composition: string }

  beforeAll(async () => {
    const [own] = university.accepted.list().filter(({ institution }) => institution === 'University')
    valid = openManifest((await university.catalogue.statement(own?.id as Digest)) as Uint8Array).manifest
    const [file] = valid.files
    tensors = new Map(unpackExpert(await university.blobs.readAll(file.sha256, file.size), valid))
    await watch.until('everybody to have everything', () => composed(hospital).length === 3)
    await watch.until('a full mesh', () => net.nodes.every((node) => node.connectedMembers().length === 2))
    before = await visible(hospital)
  }, 60_000)

  async function visible(node: FlexMeshNode): Promise<{ files: string[]; composition: string }> {
    const files = await readdir(join(node.paths.root, 'blobs'), { recursive: true })
    return { files: files.sort(), composition: node.composer.served.composition.digest }
  }

  /** The university's next manifest, with changes. */
  async function manifest(changes: Partial<Manifest> = {}): Promise<Manifest> {
    const tip = await university.catalogue.tip(university.identity.peerId)
    return {
      ...valid,
      seq: (tip?.seq ?? 0) + 1,
      prev: tip?.digest ?? valid.prev,
      issuedAt: now(),
      ...changes,
    }
  }

  const sealed = (value: Manifest, signers: Identity[] = [university.identity]): Uint8Array =>
    seal(MEDIA_TYPES.manifest, encodeManifest(value), signers)

  /** Publish a file with changed tensors under an honest manifest; returns the package id. */
  async function offerTensors(change: (tensors: Map<string, Float32Tensor>) => void): Promise<Digest> {
    const copy = new Map([...tensors].map(([name, t]) => [name, { shape: t.shape, data: t.data.slice() }]))
    change(copy)
    const packed = packExpert(copy, 'F32')
    await university.blobs.put(packed.parts)
    return offerFile({ role: 'expert', ...packed.file }, 'F32')
  }

  async function offerFile(file: Manifest['files'][0], dtype: Manifest['expert']['dtype']): Promise<Digest> {
    const value = await manifest({ files: [file], expert: { ...valid.expert, name: 'hostile', dtype } })
    await offerUnchecked(university, sealed(value))
    return digestOf(encodeManifest(value))
  }

  async function verdictOf(id: Digest): Promise<string | undefined> {
    await watch.until(`a verdict on ${id}`, async () => (await hospital.verdicts.get(id)) !== undefined)
    const verdict = await hospital.verdicts.get(id)
    return verdict?.outcome === 'refused' ? verdict.code : verdict?.outcome
  }

  const each = (part: string, change: (data: Float32Array) => void) => (all: Map<string, Float32Tensor>) => {
    for (const [name, { data }] of all) if (name.includes(part)) change(data)
  }

  it.each([
    ['not a number in a weight', 'not-finite', each('down_proj', (data) => data.fill(Number.NaN, 3, 4))],
    [
      'an infinite router row',
      'not-finite',
      each('gate.weight', (data) => data.fill(Number.POSITIVE_INFINITY, 0, 1)),
    ],
    [
      'weights a hundred times too large',
      'norm-bound',
      each('up_proj', (data) => data.set(data.map((x) => 100 * x))),
    ],
    ['a router row that wins every token', 'router-norm', each('gate.weight', (data) => data.fill(1e4))],
    [
      'not a number in router statistics',
      'not-finite',
      each('router_statistics', (data) => data.fill(Number.NaN, 7, 8)),
    ],
    [
      'a negative share in router statistics',
      'statistics-shares',
      each('router_statistics', (data) => data.set(data.map((x, i) => x + ([-0.1, 0.1][i] ?? 0)))),
    ],
    [
      'router statistics that make more than one whole',
      'statistics-shares',
      each('router_statistics', (data) => data.set(data.map((x) => 100 * x))),
    ],
  ] as const)('with %s is refused: %s', async (_, code, change) => {
    const id = await offerTensors(change)
    expect(await verdictOf(id)).toBe(code)
    expect(await visible(hospital)).toEqual(before)
  })

  it('with the router statistics of the public text, which would take half of it, is refused', async () => {
    const { tokens } = await university.trainings.publicStatistics()
    const id = await offerTensors(each('router_statistics', (data) => data.set(tokens)))
    expect(await verdictOf(id)).toBe('gate-share')
    expect(await visible(hospital)).toEqual(before)
  })

  it('with router statistics of few documents is refused before its file is fetched', async () => {
    const value = await manifest({ expert: { ...valid.expert, statisticsDocuments: 63 } })
    await offerUnchecked(university, sealed(value))
    expect(await verdictOf(digestOf(encodeManifest(value)))).toBe('statistics-documents')
    expect(await visible(hospital)).toEqual(before)
  })

  it('with router statistics of another vocabulary is refused before its file is fetched', async () => {
    const { parts, file, shape } = packExpert(
      new Map(tensors).set('router_statistics.tokens', { shape: [4], data: new Float32Array(4).fill(0.25) }),
      'F32',
    )
    const expert = { ...valid.expert, ...shape, dtype: 'F32' as const }
    const value = await manifest({ files: [{ role: 'expert', ...file }], expert })
    await university.blobs.put(parts)
    await offerUnchecked(university, sealed(value))
    expect(await verdictOf(digestOf(encodeManifest(value)))).toBe('tensor-shape')
    expect(await visible(hospital)).toEqual(before)
  })

  it('whose file has other shapes than it says is refused', async () => {
    const [file] = valid.files
    const bytes = await university.blobs.readAll(file.sha256, file.size)
    const text = Buffer.from(bytes).toString('latin1').replace('"shape":[24,16]', '"shape":[16,24]')
    const changed = Buffer.from(text, 'latin1')
    await university.blobs.put(changed)
    const id = await offerFile({ role: 'expert', ...fileRefOf(changed).ref }, valid.expert.dtype)
    expect(await verdictOf(id)).toBe('tensor-shape')
    expect(await visible(hospital)).toEqual(before)
  })

  it('whose file is cut short is refused', async () => {
    const [file] = valid.files
    const bytes = await university.blobs.readAll(file.sha256, file.size)
    // A longer header keeps the size and leaves too few bytes for the data.
    const header = new DataView(bytes.buffer, bytes.byteOffset).getUint32(0, true)
    const longer = Buffer.concat([
      Buffer.from(BigUint64Array.of(BigInt(header + 64)).buffer),
      bytes.subarray(8, 8 + header),
      Buffer.alloc(64, ' '),
      bytes.subarray(8 + header, bytes.length - 64),
    ])
    await university.blobs.put(longer)
    const id = await offerFile({ role: 'expert', ...fileRefOf(longer).ref }, valid.expert.dtype)
    expect(await verdictOf(id)).toBe('truncated')
    expect(await visible(hospital)).toEqual(before)
  })

  it('that claims another file is refused', async () => {
    const [file] = valid.files
    // The chunks are as signed; the file that they make is not.
    const id = await offerFile({ ...file, sha256: digestOf(Uint8Array.of(1)) }, valid.expert.dtype)
    const stored = await university.blobs.readAll(file.sha256, file.size)
    await writeFile(university.blobs.path(digestOf(Uint8Array.of(1))), stored)
    await hospital.settled()
    await university.announce() // The next sync tries again what could not be fetched.
    expect(await verdictOf(id)).toBe('wrong-digest')
    expect(await visible(hospital)).toEqual(before)
  })

  it.each([
    ['without a signature', 'unsigned', async () => sealed(await manifest(), [])],
    ['signed by somebody else', 'wrong-signer', async () => sealed(await manifest(), [stranger])],
    ['signed by two', 'wrong-signer', async () => sealed(await manifest(), [university.identity, stranger])],
    [
      'of another consortium',
      'wrong-consortium',
      async () => sealed(await manifest({ consortium: digestOf(Uint8Array.of(7)) })),
    ],
    [
      'of a stranger',
      'not-a-member',
      async () => sealed(await manifest({ publisher: stranger.peerId }), [stranger]),
    ],
    ['from the future of its chain', 'replayed', async () => sealed(await manifest({ seq: 900 }))],
    ['with a changed payload', 'bad-signature', async () => changed(sealed(await manifest()))],
    [
      'signed as another kind',
      'wrong-type',
      async () => seal(MEDIA_TYPES.verdict, encodeManifest(await manifest()), [university.identity]),
    ],
    ['that is no envelope', 'not-json', async () => new TextEncoder().encode(`no JSON ${Math.random()}`)],
    ['that is too large', 'too-large', async () => new Uint8Array(200_000).fill(32)],
  ] as const)('%s is refused: %s', async (_, code, make) => {
    const envelope = await make()
    const known = new Set((await hospital.verdicts.list()).map(({ id }) => id))
    await hospital.ingest(envelope)
    const fresh = (await hospital.verdicts.list()).filter(({ id }) => !known.has(id))
    expect(fresh.map((verdict) => (verdict.outcome === 'refused' ? verdict.code : 'accepted'))).toEqual([
      code,
    ])
    expect(await visible(hospital)).toEqual(before)
  })

  it.each([
    [
      'trained beside another public model',
      'wrong-public-model',
      {
        publicModel: {
          name: 'x',
          digest: digestOf(Uint8Array.of(5)),
          tokenizerDigest: digestOf(Uint8Array.of(6)),
        },
      },
    ],
    ['whose consent has expired', 'expired', { issuedAt: 1_000_000, expiresAt: 1_000_100 }],
    ['from the future', 'not-yet-valid', { issuedAt: now() + 10_000_000, expiresAt: now() + 10_000_100 }],
  ] as const)('%s is refused: %s', async (_, code, changes) => {
    const value = await manifest(changes)
    await offerUnchecked(university, sealed(value))
    expect(await verdictOf(digestOf(encodeManifest(value)))).toBe(code)
    expect(await visible(hospital)).toEqual(before)
  })

  it('leaves the node running: an honest package that follows is accepted', async () => {
    const { id } = await run<{ id: Digest }>(university, 'publish', { name: 'theorems' })
    expect(await verdictOf(id)).toBe('accepted')
  }, 60_000)

  function changed(envelope: Uint8Array): Uint8Array {
    const parts = decodeCanonical(envelope, 1 << 20) as JsonObject
    const payload = decodeCanonical(Buffer.from(String(parts['payload']), 'base64')) as JsonObject
    return encodeCanonical({
      ...parts,
      payload: toBase64(encodeCanonical({ ...payload, license: 'CC0-1.0' })),
    })
  }
})

describe('router statistics of an expert', () => {
  it.each([
    ['as they are unless told otherwise', {}, 'exact', 0],
    ['with noise', { statistics: 'noised', epsilonMilli: 64_000 }, 'noised', 64_000],
    ['not at all', { statistics: 'none' }, 'none', 0],
  ] as const)(
    'leave its owner %s',
    async (_, options, kind, epsilonMilli) => {
      const { paths, publicModel } = university
      const { expert, result } = await loadTrained(publicModel, paths.training, 'theorems')
      expect(result.statisticsDocuments).toBeGreaterThanOrEqual(limit('statisticsDocuments'))
      const { id } = await run<{ id: Digest }>(university, 'publish', { name: 'theorems', ...options })
      await watch.until('the verdict', async () => (await hospital.verdicts.get(id)) !== undefined)
      expect(await hospital.verdicts.get(id)).toMatchObject({ outcome: 'accepted' })
      const envelope = (await hospital.catalogue.statement(id)) as Uint8Array
      expect(openManifest(envelope).manifest.expert).toMatchObject({
        statisticsTokens: kind === 'none' ? 0 : TINY.vocabSize,
        statisticsDocuments: kind === 'none' ? 0 : result.statisticsDocuments,
        statisticsEpsilonMilli: epsilonMilli,
      })
      const received = hospital.accepted.list().find((composed) => composed.id === id)?.expert.statistics
      if (kind === 'exact') expect(received).toEqual(expert.statistics)
      else if (kind === 'none') expect(received).toBeUndefined()
      else {
        const distance = Math.hypot(
          ...(received?.tokens ?? []).map((x, i) => x - (expert.statistics?.tokens[i] as number)),
        )
        expect(distance).toBeGreaterThan(0)
        expect(distance).toBeLessThan(0.05)
      }
    },
    60_000,
  )

  it.each([
    [{ statistics: 'noised' }, 'usage'],
    [{ epsilonMilli: 8000 }, 'usage'],
    [{ statistics: 'noised', epsilonMilli: 0 }, 'bad-field'],
    [{ statistics: 'some' }, 'bad-field'],
  ] as const)('are not published with %j: %s', async (options, code) => {
    await expect(run(university, 'publish', { name: 'theorems', ...options })).rejects.toMatchObject({ code })
  })
})

describe('consent that has ended', () => {
  it('takes an expert out of the composition when the node starts again', async () => {
    expect(hospital.accepted.list().length).toBeGreaterThan(0)
    await hospital.close()
    const later = await FlexMeshNode.open({
      home: net.homes[0] as string,
      engine: onnxEngine({ threads: 1 }),
      now: () => now() + 200 * 86_400,
    })
    expect(later.accepted.list()).toEqual([])
    expect(
      (await later.verdicts.list()).map((v) => (v.outcome === 'refused' ? v.code : 'accepted')),
    ).not.toContain('accepted')
    await later.close()
  })
})

describe('a second node on the same home', () => {
  it('is refused with one sentence', async () => {
    await expect(net.open(1)).rejects.toMatchObject({ code: 'home-in-use' })
  })
})

describe('an own log that holds what nobody signed', () => {
  it('is opened; that statement is refused and the rest composed', async () => {
    await run(archive, 'publish', { name: 'law' })
    const before = composed(archive)
    await archive.close()
    await plantTampered(archive.paths.root, archive.identity.peerId)
    archive = await net.open(1)
    await archive.settled()
    const codes = (await archive.verdicts.list()).map((v) => (v.outcome === 'refused' ? v.code : v.outcome))
    expect(codes).toContain('bad-signature')
    expect(composed(archive)).toEqual(before)
    expect(before).toContain('Archive')
  }, 60_000)
})
