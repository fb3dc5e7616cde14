/** Packages that a member must not compose, whoever offers them. */
import { readdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { seal } from '../../src/identity/envelope.ts'
import { createIdentity, type Identity } from '../../src/identity/keys.ts'
import { MEDIA_TYPES } from '../../src/identity/media-types.ts'
import { type Digest, digestOf, toBase64 } from '../../src/lib/bytes.ts'
import { decodeCanonical, encodeCanonical, type JsonObject } from '../../src/lib/canonical-json.ts'
import type { Param } from '../../src/model/weights.ts'
import type { FlexMeshNode } from '../../src/node/node.ts'
import { encodeManifest, type Manifest, openManifest } from '../../src/packaging/manifest.ts'
import { fileRefOf } from '../support/file-ref.ts'
import { cleanUp } from '../support/folders.ts'
import { network, now, offerUnchecked, publish, type TestNetwork, train } from '../support/network.ts'
import { packTensors, unpackExpert } from '../support/package-bytes.ts'
import { tinyModel } from '../support/tiny-model.ts'

const stranger = createIdentity(new Uint8Array(32).fill(9))
let net: TestNetwork
/** Judges what the university offers. */
let hospital: FlexMeshNode
let university: FlexMeshNode
/** An honest package of the university, in use at both. */
let valid: Manifest
let tensors: Map<string, Param>

beforeAll(async () => {
  net = await network(['Hospital', 'University'], await tinyModel())
  ;[hospital, university] = net.nodes as [FlexMeshNode, FlexMeshNode]
  await net.connected()
  await train(university, 'theorems', 'university')
  const id = await publish(university, 'theorems')
  await net.accepted(1)
  valid = openManifest((await university.catalogue.statement(id)) as Uint8Array).manifest
  tensors = new Map(unpackExpert(await weights(), valid))
})
afterAll(async () => {
  await net?.close()
  await cleanUp()
})

function weights(): Promise<Uint8Array> {
  const [file] = valid.files
  return university.parts.blobs.readAll(file.sha256, file.size)
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

function sealed(value: Manifest, signers: Identity[] = [university.identity]): Uint8Array {
  return seal(MEDIA_TYPES.manifest, encodeManifest(value), signers)
}

/** Each of these offers a package to the other members and returns its id. */
async function offer(changes: Partial<Manifest>): Promise<Digest> {
  const value = await manifest(changes)
  await offerUnchecked(university, sealed(value))
  return digestOf(encodeManifest(value))
}

function offerFile(file: Manifest['files'][0], dtype = valid.expert.dtype): Promise<Digest> {
  return offer({ files: [file], expert: { ...valid.expert, name: 'hostile', dtype } })
}

/** The honest package with changed tensors, under a manifest that describes them. */
async function offerTensors(change: (tensors: Map<string, Param>) => void): Promise<Digest> {
  const copy = new Map([...tensors].map(([name, t]) => [name, { shape: t.shape, data: t.data.slice() }]))
  change(copy)
  const packed = packTensors(copy, 'F32')
  await university.parts.blobs.put(packed.parts)
  return offerFile({ role: 'expert', ...packed.file }, 'F32')
}

async function verdictOf(id: Digest): Promise<string | undefined> {
  const verdict = () => hospital.parts.verdicts.get(id)
  await net.watch.until(`a verdict on ${id}`, async () => (await verdict()) !== undefined)
  const found = await verdict()
  return found?.outcome === 'refused' ? found.code : found?.outcome
}

/** Files and composition of the hospital. */
async function visible(): Promise<{ files: string[]; composition: string }> {
  const files = await readdir(join(hospital.paths.root, 'blobs'), { recursive: true })
  return { files: files.sort(), composition: hospital.composer.served.composition.digest }
}

/** The code of the refusal that follows an offer, which must change neither files nor composition. */
async function refusalOf(offering: () => Promise<Digest>): Promise<string | undefined> {
  const before = await visible()
  const code = await verdictOf(await offering())
  expect(await visible()).toEqual(before)
  return code
}

/** A change of every tensor whose name contains `part`. */
const each =
  (part: string, change: (data: Float32Array) => void) =>
  (all: Map<string, Param>): void => {
    for (const [name, { data }] of all) if (name.includes(part)) change(data)
  }

describe('a package with hostile weights', () => {
  it.each([
    ['a weight that is not a number', 'not-finite', each('down_proj', (data) => data.fill(Number.NaN, 3, 4))],
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
      'router statistics that are not a number',
      'not-finite',
      each('router_statistics', (data) => data.fill(Number.NaN, 7, 8)),
    ],
    [
      'a negative share in its router statistics',
      'statistics-shares',
      each('router_statistics', (data) => data.set(data.map((x, i) => x + ([-0.1, 0.1][i] ?? 0)))),
    ],
    [
      'router statistics that sum to more than one',
      'statistics-shares',
      each('router_statistics', (data) => data.set(data.map((x) => 100 * x))),
    ],
  ] as const)('that has %s is refused: %s', async (_, code, change) => {
    expect(await refusalOf(() => offerTensors(change))).toBe(code)
  })

  it('that has the router statistics of the public text, and would take half of it, is refused', async () => {
    const { tokens } = await university.trainings.publicStatistics()
    const change = each('router_statistics', (data) => data.set(tokens))
    expect(await refusalOf(() => offerTensors(change))).toBe('gate-share')
  })
})

describe('a package whose manifest and file differ', () => {
  it('in their tensor shapes is refused', async () => {
    const text = Buffer.from(await weights()).toString('latin1')
    const changed = Buffer.from(text.replace('"shape":[24,16]', '"shape":[16,24]'), 'latin1')
    await university.parts.blobs.put(changed)
    const file = { role: 'expert' as const, ...fileRefOf(changed).ref }
    expect(await refusalOf(() => offerFile(file))).toBe('tensor-shape')
  })

  it('because the file is cut short is refused', async () => {
    const bytes = await weights()
    // A longer header keeps the size and leaves too few bytes for the data.
    const header = new DataView(bytes.buffer, bytes.byteOffset).getUint32(0, true)
    const longer = Buffer.concat([
      Buffer.from(BigUint64Array.of(BigInt(header + 64)).buffer),
      bytes.subarray(8, 8 + header),
      Buffer.alloc(64, ' '),
      bytes.subarray(8 + header, bytes.length - 64),
    ])
    await university.parts.blobs.put(longer)
    const file = { role: 'expert' as const, ...fileRefOf(longer).ref }
    expect(await refusalOf(() => offerFile(file))).toBe('truncated')
  })

  it('in the digest of the file, although the chunks are as signed, is refused', async () => {
    const [file] = valid.files
    const sha256 = digestOf(Uint8Array.of(1))
    await writeFile(university.parts.blobs.path(sha256), await weights())
    expect(await refusalOf(() => offerFile({ ...file, sha256 }))).toBe('wrong-digest')
  })
})

describe('a package of a file that the node holds for another package', () => {
  it('is refused if it has other chunks than its publisher signed, since nobody else can fetch it', async () => {
    const [file] = valid.files
    const chunksSha256 = digestOf(Uint8Array.of(1))
    expect(await refusalOf(() => offerFile({ ...file, chunksSha256 }))).toBe('wrong-digest')
  })

  it('is refused if it has another size than its publisher signed', async () => {
    const [file] = valid.files
    expect(await refusalOf(() => offerFile({ ...file, size: file.size + 8 }))).toBe('wrong-digest')
  })
})

describe('a package whose manifest shows that it must not be used', () => {
  const otherModel = {
    name: 'x',
    digest: digestOf(Uint8Array.of(5)),
    tokenizerDigest: digestOf(Uint8Array.of(6)),
  }

  it.each([
    ['trained beside another public model', 'wrong-public-model', { publicModel: otherModel }],
    ['whose consent has expired', 'expired', { issuedAt: 1_000_000, expiresAt: 1_000_100 }],
    ['from the future', 'not-yet-valid', { issuedAt: now() + 10_000_000, expiresAt: now() + 10_000_100 }],
  ] as const)('%s is refused before its file is fetched: %s', async (_, code, changes) => {
    expect(await refusalOf(() => offer(changes))).toBe(code)
  })

  it('because its router statistics average over few documents is refused before its file is fetched', async () => {
    const expert = { ...valid.expert, statisticsDocuments: 63 }
    expect(await refusalOf(() => offer({ expert }))).toBe('statistics-documents')
  })

  it('because its router statistics have another vocabulary is refused before its file is fetched', async () => {
    const shares = { shape: [4], data: new Float32Array(4).fill(0.25) }
    const { parts, file, shape } = packTensors(
      new Map(tensors).set('router_statistics.tokens', shares),
      'F32',
    )
    await university.parts.blobs.put(parts)
    const expert = { ...valid.expert, ...shape, dtype: 'F32' as const }
    expect(await refusalOf(() => offer({ expert, files: [{ role: 'expert', ...file }] }))).toBe(
      'tensor-shape',
    )
  })
})

describe('a statement', () => {
  it.each([
    ['without a signature', 'unsigned', async () => sealed(await manifest(), [])],
    ['signed by somebody else', 'wrong-signer', async () => sealed(await manifest(), [stranger])],
    ['signed by two', 'wrong-signer', async () => sealed(await manifest(), [university.identity, stranger])],
    [
      'for another consortium',
      'wrong-consortium',
      async () => sealed(await manifest({ consortium: digestOf(Uint8Array.of(7)) })),
    ],
    ['with a changed payload', 'bad-signature', async () => changedPayload(sealed(await manifest()))],
    [
      'signed as another type',
      'wrong-type',
      async () => seal(MEDIA_TYPES.verdict, encodeManifest(await manifest()), [university.identity]),
    ],
    ['that is no envelope', 'not-json', async () => new TextEncoder().encode('no JSON')],
    ['that is too large', 'too-large', async () => new Uint8Array(200_000).fill(32)],
  ] as const)('%s is refused: %s', async (_, code, make) => {
    const envelope = await make()
    const before = await visible()
    const known = new Set((await hospital.parts.verdicts.list()).map(({ id }) => id))
    await hospital.ingest(envelope)
    const fresh = (await hospital.parts.verdicts.list()).filter(({ id }) => !known.has(id))
    const codes = fresh.map((verdict) => (verdict.outcome === 'refused' ? verdict.code : 'accepted'))
    expect(codes).toEqual([code])
    expect(await visible()).toEqual(before)
  })

  it.each([
    ['by a stranger', async () => sealed(await manifest({ publisher: stranger.peerId }), [stranger])],
    ['whose predecessors are missing', async () => sealed(await manifest({ seq: 900 }))],
  ] as const)('%s leaves nothing behind, because a later sync may bring what is missing', async (_, make) => {
    const envelope = await make()
    const before = await visible()
    const known = await hospital.parts.verdicts.list()
    expect(await hospital.ingest(envelope)).toBe(false)
    expect(await hospital.parts.verdicts.list()).toEqual(known)
    expect(await visible()).toEqual(before)
  })

  function changedPayload(envelope: Uint8Array): Uint8Array {
    const parts = decodeCanonical(envelope, 1 << 20) as JsonObject
    const payload = decodeCanonical(Buffer.from(String(parts['payload']), 'base64')) as JsonObject
    const changed = encodeCanonical({ ...payload, license: 'CC0-1.0' })
    return encodeCanonical({ ...parts, payload: toBase64(changed) })
  }
})

describe('an honest package', () => {
  it('that follows a hostile one of the same publisher is accepted', async () => {
    await refusalOf(() => offerTensors(each('gate.weight', (data) => data.fill(1e4))))
    // The members hold statements that were signed with this node's key elsewhere, so the node takes itself for a copy.
    expect(await verdictOf(await publish(university, 'theorems', { alone: true }))).toBe('accepted')
  })
})
