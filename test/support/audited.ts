/**
 * Mints the audit bundle of a small consortium from fixed keys and times, and the bundles that somebody could make of
 * it: with an edit, cut, or with another history. Knows nothing about nodes and networks.
 */

import { keyDigest, NODE_SCOPES } from '../../src/consortium/key-history.ts'
import { MAJORITY_RULES } from '../../src/consortium/rules.ts'
import { readEnvelope, seal } from '../../src/identity/envelope.ts'
import type { Identity, PeerIdString } from '../../src/identity/keys.ts'
import { isMediaType } from '../../src/identity/media-types.ts'
import { fromUtf8, utf8 } from '../../src/lib/bytes.ts'
import {
  type BundleRecord,
  encodeBundle,
  encodeHashes,
  type RecordOf,
} from '../../src/transparency/bundle.ts'
import { cosignerName, encodeCheckpoint, originOf } from '../../src/transparency/checkpoint.ts'
import { cosign } from '../../src/transparency/cosignature.ts'
import { consistencyProof, inclusionProof, leafHash, rootOf } from '../../src/transparency/merkle.ts'
import { decodeNote, encodeNote, type NoteSignature, signText } from '../../src/transparency/note.ts'
import { appendLeaves, tiledTree } from '../../src/transparency/tiles.ts'
import { deriveWitness, sealWitnessKey } from '../../src/transparency/witness-key.ts'
import { consortium, identityOf, NOW, type TestConsortium } from './consortium.ts'

type Records = readonly [RecordOf<'bundle'>, ...BundleRecord[]]

export interface Audited {
  readonly group: TestConsortium
  /** The first keys of the seats. */
  readonly members: readonly Identity[]
  /** The key that signs for each seat in the end. */
  readonly nodes: readonly Identity[]
  readonly records: Records
  readonly bytes: Uint8Array
}

/** Statements of each member, and how many of them all others have cosigned. */
const SIZES = [
  [5, 4],
  [5, 3],
  [0, 0],
] as const

/** The keys of the archive, whose institution key does not lie in its home. */
export const ARCHIVE = {
  institution: identityOf(32),
  /** The key to which the institution rotates, and the one after it. */
  rotated: identityOf(35),
  next: identityOf(36),
  /** The node key that is replaced after statement 3, and its successor. */
  replaced: identityOf(34),
  node: identityOf(37),
} as const

/** The statements of a log, and the key that signs what follows each number of them, from 0 on. */
interface WrittenLog {
  readonly envelopes: Uint8Array[]
  readonly signers: Identity[]
}

/** What can be wrong with the third statement of the archive, in which it rotates, and the code of the refusal. */
export const KEYS_FAULTS = [
  ['uncommitted-key', 'wrong-signer'],
  ['same-commitment', 'not-committed'],
  ['no-commitment', 'not-committed'],
  ['unsigned-node', 'unsigned'],
  ['other-signature', 'wrong-signer'],
  ['old-key-as-node', 'replayed'],
] as const
type KeysFault = (typeof KEYS_FAULTS)[number][0]

export async function auditedConsortium(fault?: KeysFault): Promise<Audited> {
  const members = [31, 32, 33].map(identityOf)
  const [founder, archive, court] = members as [Identity, Identity, Identity]
  const nodes = [founder, ARCHIVE.node, court]
  const group = consortium([founder])
  const rosters = [group.admit('Archive', archive), group.admit('Court', court)]
  const logs: WrittenLog[] = []
  const heads: Uint8Array[] = []
  for (const [i, [count]] of SIZES.entries()) {
    const publisher = group.publisher(members[i] as Identity)
    logs.push(writtenLog(publisher, count, fault))
    heads.push(resigned(publisher.head(), nodes[i] as Identity))
  }
  const records: [RecordOf<'bundle'>, ...BundleRecord[]] = [
    { type: 'bundle', version: 1, consortium: group.id, exporter: court.peerId, exportedAt: NOW + 100 },
    ...[group.charterEnvelope].map(
      (envelope) => ({ type: 'charter', envelope: fromUtf8(envelope) }) as const,
    ),
    ...rosters.map((envelope) => ({ type: 'roster', envelope: fromUtf8(envelope) }) as const),
    ...members
      .map(({ peerId }, i) => sealWitnessKey(nodes[i] as Identity, group.id, NOW, peerId))
      .map((envelope) => ({ type: 'witness-key', envelope: fromUtf8(envelope) }) as const),
  ]
  for (const [i, log] of logs.entries()) {
    const owner = members[i] as Identity
    const cosigners = members.flatMap(({ peerId }, at) =>
      at === i ? [] : [{ seat: peerId, identity: nodes[at] as Identity }],
    )
    records.push(...(await logRecords(group, owner, log, SIZES[i]?.[1] ?? 0, cosigners)))
  }
  records.push(...heads.map((envelope) => ({ type: 'head', envelope: fromUtf8(envelope) }) as const))
  records.push({ type: 'verdict', verdict: JSON.stringify({ id: group.id, outcome: 'accepted', at: NOW }) })
  return { group, members, nodes, records, bytes: encodeBundle(records, court) }
}

/**
 * The bundle of three founders: A proposes to admit X, and a node key of B endorses that, which B replaces afterwards, so
 * that the endorsement does not count from a version of the roster on.
 * @param rosterVersion the version that B states; undefined in statements of before
 * @param isAdmitted whether the exporter claims that the proposal was applied
 */
export async function votedBundle(
  rosterVersion: number | undefined,
  isAdmitted: boolean,
): Promise<Uint8Array> {
  const [a, b, c, x, node] = [31, 32, 33, 40, 34].map(identityOf) as [
    Identity,
    Identity,
    Identity,
    Identity,
    Identity,
  ]
  const group = consortium([a, b, c], { rules: MAJORITY_RULES }, 2)
  const [ofA, ofB] = [group.publisher(a), group.publisher(b)]
  const change = { kind: 'admit', institution: 'X', peerId: x.peerId } as const
  const proposal = ofA.chained('proposal', { rosterVersion: 1, change, expiresAt: NOW + 1000 })
  const keys = { key: b.peerId, next: keyDigest(identityOf(35).peerId) }
  const delegated = { key: node.peerId, scopes: NODE_SCOPES, expiresAt: NOW + 1000 }
  const named = ofB.chained('keys', { ...keys, node: delegated })
  const vote = ofB.chained('endorsement', { rosterVersion: 1, proposal: proposal.id, answer: 'endorse' })
  const ended = { validThroughSeq: 1, ...(rosterVersion === undefined ? {} : { rosterVersion }) }
  const ofBoth = [resigned(named.envelope, b, node), resigned(vote.envelope, node)]
  const logs = [[proposal.envelope], [...ofBoth, ofB.chained('keys', { ...keys, ...ended }).envelope], [], []]
  const members = isAdmitted ? [a, b, c, x] : [a, b, c]
  const records: [RecordOf<'bundle'>, ...BundleRecord[]] = [
    { type: 'bundle', version: 1, consortium: group.id, exporter: c.peerId, exportedAt: NOW + 100 },
    { type: 'charter', envelope: fromUtf8(group.charterEnvelope) },
    ...(isAdmitted ? [{ type: 'applied', statement: proposal.id } as const] : []),
    ...members.map(
      (one) => ({ type: 'witness-key', envelope: fromUtf8(sealWitnessKey(one, group.id, NOW)) }) as const,
    ),
  ]
  for (const [i, owner] of members.entries()) {
    const envelopes = logs[i] ?? []
    const log = { envelopes, signers: [owner, ...envelopes.map(() => owner)] }
    const cosigners = members.flatMap((one) => (one === owner ? [] : [{ seat: one.peerId, identity: one }]))
    records.push(...(await logRecords(group, owner, log, envelopes.length, cosigners)))
  }
  return encodeBundle(records, c)
}

/** An envelope with the signatures of other keys. */
export function resigned(envelope: Uint8Array, ...signers: readonly Identity[]): Uint8Array {
  const { payloadType, payload } = readEnvelope(envelope)
  if (!isMediaType(payloadType)) throw new Error(`no statement: ${payloadType}`)
  return seal(payloadType, payload, signers)
}

/** The first statements of a member. The archive states node keys, rotates and replaces its node key. */
function writtenLog(
  publisher: ReturnType<TestConsortium['publisher']>,
  count: number,
  fault?: KeysFault,
): WrittenLog {
  const { identity } = publisher
  if (identity.peerId !== ARCHIVE.institution.peerId) {
    const envelopes = statements(publisher, count)
    return { envelopes, signers: [identity, ...envelopes.map(() => identity)] }
  }
  const { institution, rotated, next, replaced, node } = ARCHIVE
  const keys = (
    key: Identity,
    following: Identity | undefined,
    named: Identity,
    signers = [key, named],
  ): Uint8Array => {
    const delegated = { key: named.peerId, scopes: NODE_SCOPES, expiresAt: NOW + 1000 }
    const committed = following === undefined ? {} : { next: keyDigest(following.peerId) }
    const { envelope } = publisher.chained('keys', { key: key.peerId, ...committed, node: delegated })
    return resigned(envelope, ...signers)
  }
  const rotations: Readonly<Record<KeysFault, () => Uint8Array>> = {
    'uncommitted-key': () => keys(identityOf(99), next, replaced),
    'same-commitment': () => keys(rotated, rotated, replaced),
    'no-commitment': () => keys(rotated, undefined, replaced),
    'unsigned-node': () => keys(rotated, next, replaced, [rotated]),
    'other-signature': () => keys(rotated, next, replaced, [rotated, replaced, institution]),
    'old-key-as-node': () => keys(rotated, next, institution),
  }
  const rotation = fault === undefined ? () => keys(rotated, next, replaced) : rotations[fault]
  const manifest = (signer: Identity): Uint8Array => resigned(publisher.manifest().envelope, signer)
  const steps = [
    () => keys(institution, rotated, replaced),
    () => manifest(replaced),
    rotation,
    () => keys(rotated, next, node),
    () => manifest(node),
  ]
  const envelopes = steps.slice(0, count).map((step) => step())
  return { envelopes, signers: [institution, replaced, replaced, replaced, node, node].slice(0, count + 1) }
}

/** Manifests, every third one withdrawn at once. */
function statements(publisher: ReturnType<TestConsortium['publisher']>, count: number): Uint8Array[] {
  const envelopes: Uint8Array[] = []
  let last = publisher.tip?.digest
  while (envelopes.length < count) {
    const isThird = envelopes.length % 3 === 2 && last !== undefined
    const next = isThird && last !== undefined ? publisher.withdrawal([last]) : publisher.manifest()
    last = next.id
    envelopes.push(next.envelope)
  }
  return envelopes
}

/** The records of one log whose first `finalSize` statements the cosigners have cosigned. */
async function logRecords(
  { id }: TestConsortium,
  owner: Identity,
  { envelopes, signers }: WrittenLog,
  finalSize: number,
  cosigners: readonly { readonly seat: PeerIdString; readonly identity: Identity }[],
): Promise<BundleRecord[]> {
  const leaves = envelopes.map((envelope) => leafHash(readEnvelope(envelope).payload))
  const tiles = await appendLeaves(async () => new Uint8Array(), 0, leaves)
  const tree = tiledTree(async (level, index) => {
    const tile = tiles.find((one) => one.level === level && one.index === index)
    return tile?.hashes ?? new Uint8Array()
  })
  const size = leaves.length
  const origin = originOf(id, owner.peerId)
  const note = async (at: number, more: (text: string) => NoteSignature[]): Promise<string> => {
    const text = encodeCheckpoint({ origin, size: at, root: await rootOf(tree, at) })
    const own = signText(origin, signers[at] ?? owner, text)
    return fromUtf8(encodeNote({ text, signatures: [own, ...more(text)] }))
  }
  const cosigned = (text: string): NoteSignature[] =>
    cosigners.map(({ seat, identity }) =>
      cosign(cosignerName(id, seat), deriveWitness(identity, id), text, NOW + 50),
    )
  const log: RecordOf<'log'> = {
    type: 'log',
    publisher: owner.peerId,
    statements: size,
    checkpoint: await note(size, () => []),
    final: await note(finalSize, cosigned),
    ...(finalSize === 0 ? {} : { consistency: encodeHashes(await consistencyProof(tree, finalSize, size)) }),
  }
  const records: BundleRecord[] = [log]
  for (const [index, envelope] of envelopes.entries()) {
    const proof = encodeHashes(await inclusionProof(tree, index, size))
    records.push({ type: 'statement', envelope: fromUtf8(envelope), proof })
  }
  return records
}

/** A whole number from 0 to below a bound. */
export type Pick = (bound: number) => number

/** The file with one bit changed. */
export function withBit({ bytes }: Audited, pick: Pick): Uint8Array {
  const changed = bytes.slice()
  const at = pick(bytes.length)
  changed[at] = (changed[at] as number) ^ (1 << pick(8))
  return changed
}

/** The file, cut after any byte but the last. */
export function cut({ bytes }: Audited, pick: Pick): Uint8Array {
  return bytes.slice(0, pick(bytes.length))
}

/** Kinds of records that others have signed. The header and the verdicts are the exporter's own. */
const EVIDENCE: readonly BundleRecord['type'][] = [
  'charter',
  'roster',
  'witness-key',
  'log',
  'statement',
  'head',
]

/** One record was changed, dropped, repeated or moved, and the exporter has sealed the result. */
export function withRecord(audited: Audited, pick: Pick): Uint8Array {
  const records: BundleRecord[] = [...audited.records]
  const places = records.flatMap(({ type }, i) => (EVIDENCE.includes(type) ? [i] : []))
  const at = places[pick(places.length)] as number
  const record = records[at] as BundleRecord
  const isHead = record.type === 'head'
  // Without a head, the rest is as true as before.
  switch (isHead ? 3 : pick(4)) {
    case 0:
      records.splice(at, 1)
      break
    case 1:
      records.splice(at, 0, record)
      break
    case 2: {
      const others = places.filter(
        (i) => JSON.stringify(records[i]) !== JSON.stringify(record) && !isHeadAt(records, i),
      )
      const other = others[pick(others.length)] as number
      records[at] = records[other] as BundleRecord
      records[other] = record
      break
    }
    default:
      records[at] = withCharacter(record, pick)
  }
  return resealed(audited, records)
}

function isHeadAt(records: readonly BundleRecord[], i: number): boolean {
  return records[i]?.type === 'head'
}

/** A record with one character of one of its texts changed. */
function withCharacter(record: BundleRecord, pick: Pick): BundleRecord {
  const fields = Object.entries(record).filter(
    ([name, value]) => name !== 'type' && JSON.stringify(value) !== '[]',
  )
  const [name, value] = fields[pick(fields.length)] as [string, string | number | readonly string[]]
  if (typeof value === 'number') return { ...record, [name]: value + 1 + pick(3) } as BundleRecord
  if (typeof value === 'string') return { ...record, [name]: changed(value, pick) } as BundleRecord
  const list = [...value]
  const i = pick(list.length)
  list[i] = changed(list[i] as string, pick)
  return { ...record, [name]: list } as BundleRecord
}

function changed(text: string, pick: Pick): string {
  const at = pick(text.length)
  return text.slice(0, at) + String.fromCharCode(text.charCodeAt(at) ^ (1 << pick(7))) + text.slice(at + 1)
}

/** The last statements of a log are left out, and the exporter has sealed the result. */
export function withoutTail(audited: Audited, pick: Pick): Uint8Array {
  const records: BundleRecord[] = [...audited.records]
  const logs = records.flatMap((record, i) => (record.type === 'log' && record.statements > 0 ? [i] : []))
  const at = logs[pick(logs.length)] as number
  const log = records[at] as RecordOf<'log'>
  const left = pick(log.statements)
  records.splice(at + 1 + left, log.statements - left)
  const { checkpoint, final, ...rest } = log
  // Some exporters leave out the checkpoints, too, or show the final one as the latest.
  const shown = [{ checkpoint, final }, { checkpoint: final, final }, { final }, {}][pick(4)]
  records[at] = JSON.parse(JSON.stringify({ ...rest, ...shown, statements: left })) as BundleRecord
  return resealed(audited, records)
}

/**
 * A member has signed another history from some statement on, with checkpoints of its own, and has sealed a bundle with
 * it. The cosignatures are left out, those of the true history, or made with the member's own key under other names.
 */
export async function forked(audited: Audited, pick: Pick): Promise<Uint8Array> {
  const { group, members, records } = audited
  const i = pick(2)
  const liar = members[i] as Identity
  const [size = 0, finalSize = 0] = SIZES[i] ?? []
  const start = records.findIndex((record) => record.type === 'log' && record.publisher === liar.peerId)
  const kept = pick(finalSize)
  const publisher = group.publisher(liar)
  const log = writtenLog(publisher, kept)
  const signer = log.signers[kept] ?? liar
  while (log.envelopes.length < size) {
    const { envelope } = publisher.manifest({ license: `other-${pick(2 ** 30)}` })
    log.envelopes.push(resigned(envelope, signer))
    log.signers.push(signer)
  }
  const made = await logRecords(
    group,
    liar,
    log,
    pick(2) === 0 ? size : finalSize,
    pick(2) === 0 ? [] : [{ seat: liar.peerId, identity: signer }],
  )
  const [first, ...rest] = made as [RecordOf<'log'>, ...BundleRecord[]]
  const honest = (records[start] as RecordOf<'log'>).final ?? ''
  const pasted = decodeNote(utf8(honest)).signatures.slice(1)
  const own = decodeNote(utf8(first.final ?? ''))
  const final = fromUtf8(
    encodeNote({ text: own.text, signatures: [...own.signatures.slice(0, 1), ...pasted] }),
  )
  const changed = [...records]
  changed.splice(start, 1 + size, pick(2) === 0 ? first : { ...first, final }, ...rest)
  // The true head of the member would prove the fork.
  return resealed(
    audited,
    changed.filter(({ type }) => type !== 'head'),
  )
}

/** @param exporter default: the key of the court, which is the exporter */
export function resealed(
  { members }: Audited,
  records: readonly BundleRecord[],
  exporter = members[2] as Identity,
): Uint8Array {
  return encodeBundle(records as Records, exporter)
}
