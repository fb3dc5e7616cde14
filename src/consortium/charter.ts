/**
 * The signed founding document of a consortium. Implements protocols/consortium-charter. The digest of its payload is
 * the id of the consortium, which every later statement repeats.
 */

import { openEnvelope, readEnvelope, seal } from '../identity/envelope.ts'
import type { Identity, PeerIdString } from '../identity/keys.ts'
import { MEDIA_TYPES } from '../identity/media-types.ts'
import { type Digest, digestOf } from '../lib/bytes.ts'
import { decodeCanonical, encodeCanonical } from '../lib/canonical-json.ts'
import { FormatError, VerificationError } from '../lib/errors.ts'
import { Fields } from '../lib/fields.ts'
import { readFileRef } from '../lib/file-ref.ts'
import { limit } from '../lib/limits.ts'
import {
  type ModelShape,
  OPTIONAL_FILE_NAMES,
  PUBLIC_FILE_ROLES,
  type PublicFile,
  readModelShape,
} from '../lib/model-shape.ts'
import { type Member, readMember, writeMember } from './member.ts'
import { founderRules, type Rules, readRules, unreachableRule, writeRules } from './rules.ts'

export interface PublicModelRef {
  readonly name: string
  /** Digest over the names, roles, sizes and digests of the files; see `publicModelDigest`. */
  readonly digest: Digest
  readonly tokenizerDigest: Digest
  readonly config: ModelShape
  readonly files: readonly PublicFile[]
}

export interface Charter {
  readonly name: string
  readonly publicModel: PublicModelRef
  readonly founders: readonly Member[]
  /** Who decides about changes. */
  readonly rules: Rules
  /** Only in version 1, whose rules follow from it: number of founders that decide about everything. */
  readonly threshold?: number
  /** Unix seconds. */
  readonly issuedAt: number
}

const MAX_PUBLIC_FILES = 256
const FILE_NAME = /^[a-z0-9][a-z0-9._-]{0,99}$/

/** Checks nothing; see `decodeCharter`. */
export function encodeCharter(charter: Charter): Uint8Array {
  const { publicModel, threshold, rules } = charter
  return encodeCanonical({
    _type: 'charter',
    ...(threshold === undefined ? { version: 2, rules: writeRules(rules) } : { version: 1, threshold }),
    name: charter.name,
    publicModel: {
      name: publicModel.name,
      digest: publicModel.digest,
      tokenizerDigest: publicModel.tokenizerDigest,
      config: publicModel.config,
      files: publicModel.files.map((file) => ({
        role: file.role,
        name: file.name,
        size: file.size,
        sha256: file.sha256,
        chunkSize: file.chunkSize,
        chunksSha256: file.chunksSha256,
      })),
    },
    founders: charter.founders.map(writeMember),
    issuedAt: charter.issuedAt,
  })
}

/**
 * @throws FormatError for a field outside its range, a threshold outside 1 to the number of founders, a file role that
 * is missing or occurs too often, or a public-model digest that is not that of the files.
 */
export function decodeCharter(payload: Uint8Array): Charter {
  const fields = new Fields(decodeCanonical(payload), 'charter')
  fields.literal('_type', 'charter')
  const version = fields.literal('version', 1, 2)
  const name = fields.text('name', 100)
  const publicModel = readPublicModel(fields.object('publicModel'))
  const founders = fields.list('founders', limit('members'), readMember, 1)
  const threshold = version === 1 ? fields.uint('threshold', founders.length, 1) : undefined
  const rules =
    threshold === undefined ? readRules(fields.object('rules'), 'charter.rules') : founderRules(threshold)
  const issuedAt = fields.uint('issuedAt')
  fields.end()
  if (new Set(founders.map(({ peerId }) => peerId)).size !== founders.length) {
    throw new FormatError('bad-field', 'charter.founders: a peer id is listed twice')
  }
  if (founders.some(({ role, revoked }) => role !== 'founder' || revoked !== undefined)) {
    throw new FormatError('bad-field', 'charter.founders: expected founders, none revoked')
  }
  const unreachable = unreachableRule(rules, { members: founders.length, founders: founders.length })
  if (unreachable !== undefined) throw new FormatError('bad-field', `charter.rules: ${unreachable}`)
  return { name, publicModel, founders, rules, ...(threshold === undefined ? {} : { threshold }), issuedAt }
}

function readPublicModel(fields: Fields): PublicModelRef {
  const name = fields.text('name', 100)
  const digest = fields.digest('digest')
  const tokenizerDigest = fields.digest('tokenizerDigest')
  const config = readModelShape(fields.object('config'))
  const files = fields.list('files', MAX_PUBLIC_FILES, readPublicFile, 3)
  fields.end()
  const count = (role: PublicFile['role']): number => files.filter((file) => file.role === role).length
  if (count('weights') === 0) {
    throw new FormatError('bad-field', 'charter.publicModel.files: expected files of role weights, got none')
  }
  const once = { config: 1, tokenizer: 1, index: count('weights') > 1 ? 1 : 0, replay: 1 } as const
  for (const [role, expected] of Object.entries(once)) {
    const got = count(role as PublicFile['role'])
    if (got !== expected) {
      throw new FormatError(
        'bad-field',
        `charter.publicModel.files: expected ${expected} of role ${role}, got ${got}`,
      )
    }
  }
  for (const role of Object.keys(OPTIONAL_FILE_NAMES)) {
    if (count(role as PublicFile['role']) > 1)
      throw new FormatError('bad-field', `charter.publicModel.files: expected at most one of role ${role}`)
  }
  if (new Set(files.map((file) => file.name)).size !== files.length) {
    throw new FormatError('bad-field', 'charter.publicModel.files: a name is listed twice')
  }
  if (digest !== publicModelDigest(files)) {
    throw new FormatError(
      'bad-field',
      'charter.publicModel.digest: expected the digest of the files, got another one',
    )
  }
  if (files.find(({ role }) => role === 'tokenizer')?.sha256 !== tokenizerDigest) {
    throw new FormatError(
      'bad-field',
      'charter.publicModel.tokenizerDigest: expected the digest of the tokenizer file, got another one',
    )
  }
  return { name, digest, tokenizerDigest, config, files }
}

function readPublicFile(value: unknown, title: string): PublicFile {
  const fields = new Fields(value, title)
  const role = fields.literal('role', ...PUBLIC_FILE_ROLES)
  const name = fields.text('name', 100, FILE_NAME)
  const ref = readFileRef(fields)
  fields.end()
  checkOptionalFile(role, name, ref.size)
  return { role, name, ...ref }
}

/** Programs find the optional files by name, so only their roles may have these names. */
function checkOptionalFile(role: PublicFile['role'], name: string, size: number): void {
  const names: Readonly<Partial<Record<PublicFile['role'], string>>> = OPTIONAL_FILE_NAMES
  const expected = names[role]
  if (expected !== undefined ? name !== expected : Object.values(names).includes(name)) {
    throw new FormatError(
      'bad-field',
      `charter.publicModel.files: expected ${expected === undefined ? 'another name' : `the name ${expected}`} for role ${role}, got ${name}`,
    )
  }
  if (expected !== undefined && size > limit('optionalFileBytes')) {
    throw new FormatError(
      'bad-field',
      `charter.publicModel.files: expected ${name} to have at most ${limit('optionalFileBytes')} bytes, got ${size}`,
    )
  }
}

/** Digest of the canonical JSON [{name, role, sha256, size}, ...], sorted by name. */
export function publicModelDigest(
  files: readonly Pick<PublicFile, 'name' | 'role' | 'sha256' | 'size'>[],
): Digest {
  const list = files.map(({ name, role, sha256, size }) => ({ name, role, sha256, size }))
  return digestOf(encodeCanonical(list.sort((a, b) => (a.name < b.name ? -1 : 1))))
}

/** The id of a consortium is the digest of its charter's payload. */
export function consortiumId(payload: Uint8Array): Digest {
  return digestOf(payload)
}

/** Sign a charter with the keys of all founders. @throws FormatError for a charter that nobody would accept. */
export function sealCharter(charter: Charter, founders: readonly Identity[]): Uint8Array {
  const payload = encodeCharter(charter)
  decodeCharter(payload)
  return seal(charter.threshold === undefined ? MEDIA_TYPES.charter2 : MEDIA_TYPES.charter, payload, founders)
}

/**
 * Open an envelope that every founder, and nobody else, has signed.
 * @throws FormatError; VerificationError, `unsigned` if the signature of a founder is missing, `wrong-signer` if
 * somebody else has signed.
 */
export function openCharter(envelope: Uint8Array): {
  charter: Charter
  consortium: Digest
  payload: Uint8Array
} {
  const isFirst = readEnvelope(envelope).payloadType === MEDIA_TYPES.charter
  const { payload, signers } = openEnvelope(envelope, isFirst ? MEDIA_TYPES.charter : MEDIA_TYPES.charter2)
  const charter = decodeCharter(payload)
  if (isFirst !== (charter.threshold !== undefined)) {
    throw new FormatError('bad-field', 'charter.version: expected the version of the payload type')
  }
  const founders = new Set<PeerIdString>(charter.founders.map(({ peerId }) => peerId))
  const missing = [...founders].filter((peerId) => !signers.includes(peerId))
  if (missing.length > 0)
    throw new VerificationError('unsigned', `charter: founder ${missing[0]} has not signed`)
  if (signers.some((peerId) => !founders.has(peerId))) {
    throw new VerificationError('wrong-signer', 'charter: signed by someone who is not a founder')
  }
  return { charter, consortium: consortiumId(payload), payload }
}
