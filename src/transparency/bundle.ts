/**
 * The form of an audit bundle: one file of lines of canonical JSON, sealed by the member that exported it. Implements
 * protocols/transparency-log, section "Audit bundle". Verifies nothing but the seal: see verify-bundle.ts.
 */
import { seal } from '../identity/envelope.ts'
import type { Identity, PeerIdString } from '../identity/keys.ts'
import { MEDIA_TYPES } from '../identity/media-types.ts'
import { openStatement, readPeerId, type SignerCheck } from '../identity/statement.ts'
import { type Digest, digestOf, fromBase64, fromUtf8, toBase64, utf8 } from '../lib/bytes.ts'
import { decodeCanonical, encodeCanonical } from '../lib/canonical-json.ts'
import { FormatError, VerificationError } from '../lib/errors.ts'
import { Fields } from '../lib/fields.ts'
import { limit } from '../lib/limits.ts'
import { HASH_BYTES, MAX_PROOF_HASHES } from './merkle.ts'

type EnvelopeRecords = {
  [T in 'charter' | 'roster' | 'witness-key' | 'head']: { readonly type: T; readonly envelope: string }
}

/** A line of a bundle, in the order of the kinds. Envelopes and notes are texts. */
export type BundleRecord =
  | {
      readonly type: 'bundle'
      readonly version: 1
      readonly consortium: Digest
      readonly exporter: PeerIdString
      /** Unix seconds. */
      readonly exportedAt: number
    }
  | EnvelopeRecords[keyof EnvelopeRecords]
  /** A proposal or a leave that has changed the roster. */
  | { readonly type: 'applied'; readonly statement: Digest }
  | {
      readonly type: 'log'
      readonly publisher: PeerIdString
      /** Number of `statement` records that follow. */
      readonly statements: number
      /** The latest checkpoint, of at most as many statements. */
      readonly checkpoint?: string
      /** The latest checkpoint with the cosignatures of the quorum. */
      readonly final?: string
      /** Consistency proof from `final` to `checkpoint`. */
      readonly consistency?: readonly string[]
    }
  | {
      readonly type: 'statement'
      readonly envelope: string
      /** Inclusion proof in `checkpoint`; left out if the checkpoint is smaller. */
      readonly proof?: readonly string[]
    }
  | { readonly type: 'verdict'; readonly verdict: string }

export type RecordOf<T extends BundleRecord['type']> = Extract<BundleRecord, { readonly type: T }>

/** A sealed bundle whose seal was verified. */
export interface OpenedBundle {
  readonly header: RecordOf<'bundle'>
  /** All records after the header. */
  readonly records: readonly BundleRecord[]
  /** The key that has signed the seal. Whether it may sign for the exporter follows from the records. */
  readonly signer: PeerIdString
}

/**
 * Writes the lines of a bundle, and the seal over all of them as the last line.
 * @param identity a key that rules the seat which the first record names as exporter
 */
export function encodeBundle(
  records: readonly [RecordOf<'bundle'>, ...BundleRecord[]],
  identity: Identity,
): Uint8Array {
  const lines = records.map((record) => `${fromUtf8(encodeCanonical(record))}\n`)
  const body = utf8(lines.join(''))
  const { consortium, exporter, exportedAt } = records[0]
  const payload = encodeCanonical({
    consortium,
    publisher: exporter,
    digest: digestOf(body),
    records: records.length,
    issuedAt: exportedAt,
  })
  const envelope = fromUtf8(seal(MEDIA_TYPES.auditBundle, payload, [identity]))
  const end = fromUtf8(encodeCanonical({ type: 'end', envelope }))
  return utf8(`${fromUtf8(body)}${end}\n`)
}

/**
 * Read a bundle and verify its seal.
 * @throws FormatError `truncated` for a file without its last line, `not-json`, `not-canonical`, `bad-field`,
 * `too-large`; VerificationError `wrong-digest` if a line was changed, `bad-signature`, `wrong-signer`.
 */
export function openBundle(bytes: Uint8Array): OpenedBundle {
  const lines = linesOf(bytes)
  const last = lines.pop()
  const [first, ...rest] = lines
  if (first === undefined || last === undefined) throw new FormatError('truncated', 'bundle: no seal')
  const end = new Fields(decodeCanonical(last, limit('bundleLineBytes')), 'bundle.end')
  if (!end.has('envelope') || !end.has('type')) throw new FormatError('truncated', 'bundle: no seal')
  end.literal('type', 'end')
  const envelope = utf8(end.text('envelope', limit('envelopeBytes')))
  end.end()
  const opened = openStatement(envelope, MEDIA_TYPES.auditBundle, decodeSeal, anySigner)
  const sealed = opened.value
  const body = bytes.subarray(0, bytes.length - last.length - 1)
  if (sealed.records !== lines.length || sealed.digest !== digestOf(body)) {
    throw new VerificationError('wrong-digest', 'bundle: its lines are not those that were sealed')
  }
  const header = decodeRecord(first)
  if (header.type !== 'bundle') throw new FormatError('bad-field', 'bundle: expected its header in line 1')
  const isSame =
    header.consortium === sealed.consortium &&
    header.exporter === sealed.publisher &&
    header.exportedAt === sealed.issuedAt
  if (!isSame) throw new VerificationError('wrong-signer', 'bundle: its header is not that of its seal')
  return { header, records: rest.map(decodeRecord), signer: opened.signer }
}

const anySigner: SignerCheck = () => undefined

function decodeSeal(payload: Uint8Array) {
  const fields = new Fields(decodeCanonical(payload), 'seal')
  const sealed = {
    consortium: fields.digest('consortium'),
    publisher: readPeerId(fields, 'publisher'),
    digest: fields.digest('digest'),
    records: fields.uint('records'),
    issuedAt: fields.uint('issuedAt'),
  }
  fields.end()
  return sealed
}

/** Lines without their newlines. @throws FormatError `truncated` if the last one has none. */
function linesOf(bytes: Uint8Array): Uint8Array[] {
  const lines: Uint8Array[] = []
  for (let start = 0; start < bytes.length; ) {
    const end = bytes.indexOf(0x0a, start)
    if (end < 0) throw new FormatError('truncated', 'bundle: the last line is not complete')
    lines.push(bytes.subarray(start, end))
    start = end + 1
  }
  return lines
}

function decodeRecord(line: Uint8Array): BundleRecord {
  const fields = new Fields(decodeCanonical(line, limit('bundleLineBytes')), 'bundle record')
  const type = fields.literal(
    'type',
    ...([
      'bundle',
      'charter',
      'roster',
      'applied',
      'witness-key',
      'head',
      'log',
      'statement',
      'verdict',
    ] as const),
  )
  const record = decodeFields(type, fields)
  fields.end()
  return record
}

function decodeFields(type: BundleRecord['type'], fields: Fields): BundleRecord {
  const optional = <T>(name: string, read: () => T): T | undefined => (fields.has(name) ? read() : undefined)
  const hashes = (name: string): string[] => fields.list(name, MAX_PROOF_HASHES, readHash)
  const note = (name: string): string => fields.text(name, limit('checkpointBytes'))
  switch (type) {
    case 'bundle':
      return {
        type,
        version: fields.literal('version', 1),
        consortium: fields.digest('consortium'),
        exporter: readPeerId(fields, 'exporter'),
        exportedAt: fields.uint('exportedAt'),
      }
    case 'log': {
      const checkpoint = optional('checkpoint', () => note('checkpoint'))
      const final = optional('final', () => note('final'))
      const consistency = optional('consistency', () => hashes('consistency'))
      return {
        type,
        publisher: readPeerId(fields, 'publisher'),
        statements: fields.uint('statements'),
        ...(checkpoint === undefined ? {} : { checkpoint }),
        ...(final === undefined ? {} : { final }),
        ...(consistency === undefined ? {} : { consistency }),
      }
    }
    case 'statement': {
      const proof = optional('proof', () => hashes('proof'))
      const envelope = fields.text('envelope', limit('envelopeBytes'))
      return proof === undefined ? { type, envelope } : { type, envelope, proof }
    }
    case 'applied':
      return { type, statement: fields.digest('statement') }
    case 'verdict':
      return { type, verdict: fields.text('verdict', limit('bundleLineBytes')) }
    default:
      return { type, envelope: fields.text('envelope', limit('envelopeBytes')) }
  }
}

function readHash(item: unknown, title: string): string {
  if (typeof item === 'string' && fromBase64(item).length === HASH_BYTES) return item
  throw new FormatError('bad-field', `${title}: expected a hash of 32 bytes in base64`)
}

export function encodeHashes(hashes: readonly Uint8Array[]): string[] {
  return hashes.map(toBase64)
}
