/**
 * Implements protocols/expert-package (v1.0.0), section "Manifest": the statement that a publisher signs about an
 * expert. Its id is the digest of its bytes. Knows neither the clock nor who may publish.
 */

import { LENGTH_BYTES } from '../checkpoint/safetensors.ts'
import { DTYPE_BYTES } from '../checkpoint/safetensors-header.ts'
import { MEDIA_TYPES } from '../identity/media-types.ts'
import {
  type ChainLink,
  openStatement,
  readChainLink,
  readLabel,
  readValidity,
  type SignerCheck,
} from '../identity/statement.ts'
import type { Digest } from '../lib/bytes.ts'
import { decodeCanonical, encodeCanonical, type JsonObject, type JsonValue } from '../lib/canonical-json.ts'
import { FormatError } from '../lib/errors.ts'
import { Fields } from '../lib/fields.ts'
import { type FileRef, readFileRef } from '../lib/file-ref.ts'
import type { FloatDtype } from '../lib/float-formats.ts'
import { limit } from '../lib/limits.ts'
import { type AuditStatement, checkAuditedFacts, readAudit } from './manifest-audit.ts'
import { checkPrivateFacts, type PrivacyStatement, readPrivacy } from './manifest-privacy.ts'
import { type ExpertShape, expertDataBytes, tensorsPerLayer } from './tensor-names.ts'

export interface Manifest extends ChainLink {
  /** Digest of the charter payload. */
  readonly consortium: Digest
  /** Version of the roster that lists the publisher as a member. */
  readonly rosterVersion: number
  /** Unix time in seconds. */
  readonly issuedAt: number
  /** Unix time in seconds. */
  readonly expiresAt: number
  /** The public model that the expert was trained with. */
  readonly publicModel: { readonly name: string; readonly digest: Digest; readonly tokenizerDigest: Digest }
  readonly expert: ExpertDescription
  readonly files: readonly [ExpertFile]
  readonly training: TrainingFacts
  readonly eval: readonly EvalResult[]
  /** Undefined if the publisher does not state whether anything protects its text. */
  readonly privacy?: PrivacyStatement
  /** Undefined if the publisher did not audit the expert. */
  readonly audit?: AuditStatement
  /** SPDX expression. */
  readonly license: string
  /** The subject of the text, for people to read. */
  readonly domain: string
  /** Fields that this version does not know; signed, but without effect. */
  readonly ext: JsonObject
}

export interface ExpertDescription extends ExpertShape {
  readonly name: string
  /** Type of the FFN tensors in the file. */
  readonly dtype: FloatDtype
  /**
   * Number of documents that the router statistics average over, as stated by the publisher; 0 without statistics.
   */
  readonly statisticsDocuments: number
  /** Epsilon of the noise in the statistics, in thousandths; 0 without noise. */
  readonly statisticsEpsilonMilli: number
}

export type ExpertFile = FileRef & { readonly role: 'expert' }

/** As stated by the publisher; receivers cannot verify it. */
export interface TrainingFacts {
  readonly documents: number
  readonly tokens: number
  readonly steps: number
  /** Share of public text in each batch, in thousandths. */
  readonly replayShareMilli: number
}

/** As stated by the publisher, in millionths: 1500000 is 1.5 bits per byte. */
export interface EvalResult {
  readonly set: 'own' | 'public'
  readonly metric: 'bits-per-byte'
  readonly before: number
  readonly after: number
}

const EXPERT_NAME = /^[A-Za-z0-9][A-Za-z0-9._-]*$/
const SPDX = /^[A-Za-z0-9.+() -]+$/
const EVAL_SETS = ['own', 'public'] as const

/** @throws FormatError for a value that `decodeManifest` would refuse. */
export function encodeManifest(manifest: Manifest): Uint8Array {
  const bytes = encodeCanonical(manifest)
  decodeManifest(bytes)
  return bytes
}

/** @throws FormatError `too-large`, `not-json`, `not-canonical`, `bad-field`. */
export function decodeManifest(bytes: Uint8Array): Manifest {
  const json = decodeCanonical(bytes)
  const fields = new Fields(json, 'manifest')
  const manifest: Manifest = {
    ...readChainLink(fields, 'manifest'),
    ...readValidity(fields, 'manifest', limit('manifestLifetime')),
    consortium: fields.digest('consortium'),
    rosterVersion: fields.uint('rosterVersion', Number.MAX_SAFE_INTEGER, 1),
    publicModel: readPublicModel(fields.object('publicModel')),
    expert: readExpert(fields.object('expert')),
    files: readFiles(fields),
    training: readTraining(fields.object('training')),
    eval: fields.list('eval', EVAL_SETS.length, readEval),
    ...(fields.has('privacy') ? { privacy: readPrivacy(fields.object('privacy')) } : {}),
    ...(fields.has('audit') ? { audit: readAudit(fields.object('audit')) } : {}),
    license: fields.text('license', 64, SPDX),
    domain: readLabel(fields, 'domain', 80),
    ext: readExtension(fields, json),
  }
  fields.end()
  if (new Set(manifest.eval.map(({ set }) => set)).size < manifest.eval.length) {
    throw bad('manifest.eval: expected each set once')
  }
  checkFileSize(manifest)
  checkPrivateFacts(manifest.privacy, manifest)
  checkAuditedFacts(manifest.audit, manifest.privacy)
  return manifest
}

/**
 * Open an envelope that has one signature, by a key that may sign for the publisher.
 * @throws FormatError, VerificationError.
 */
export function openManifest(
  envelope: Uint8Array,
  check?: SignerCheck,
): { manifest: Manifest; id: Digest; signer: string } {
  const { value, id, signer } = openStatement(envelope, MEDIA_TYPES.manifest, decodeManifest, check)
  return { manifest: value, id, signer }
}

function readPublicModel(fields: Fields): Manifest['publicModel'] {
  const value = {
    name: readLabel(fields, 'name', 128),
    digest: fields.digest('digest'),
    tokenizerDigest: fields.digest('tokenizerDigest'),
  }
  fields.end()
  return value
}

function readExpert(fields: Fields): ExpertDescription {
  const bias = fields.bool('bias')
  const hidden = fields.uint('hidden_size', limit('fileBytes'), 1)
  const intermediate = fields.uint('intermediate_size', limit('fileBytes'), 1)
  const rank = fields.has('rank') ? { rank: fields.uint('rank', Math.min(hidden, intermediate), 1) } : {}
  const statisticsTokens = fields.uint('statisticsTokens', limit('fileBytes'))
  const layerTensors = limit('tensorsPerFile') - (statisticsTokens > 0 ? 1 : 0)
  const value: ExpertDescription = {
    name: fields.text('name', 64, EXPERT_NAME),
    dtype: fields.literal<FloatDtype>('dtype', 'F32', 'BF16', 'F16'),
    layers: fields.uint('layers', Math.floor(layerTensors / tensorsPerLayer({ bias, ...rank })), 1),
    hidden_size: hidden,
    intermediate_size: intermediate,
    bias,
    ...rank,
    statisticsTokens,
    statisticsDocuments: fields.uint('statisticsDocuments'),
    statisticsEpsilonMilli: fields.uint('statisticsEpsilonMilli'),
  }
  fields.end()
  checkStatistics(value)
  return value
}

/** Statistics need a number of documents; without statistics both numbers must be 0. */
function checkStatistics({
  statisticsTokens,
  statisticsDocuments,
  statisticsEpsilonMilli,
}: ExpertDescription): void {
  const statistics = statisticsTokens > 0
  if (statistics !== statisticsDocuments > 0) {
    throw bad(
      `manifest.expert.statisticsDocuments: expected ${statistics ? '1 or more' : '0 without statistics'}, got ${statisticsDocuments}`,
    )
  }
  if (!statistics && statisticsEpsilonMilli > 0) {
    throw bad(
      `manifest.expert.statisticsEpsilonMilli: expected 0 without statistics, got ${statisticsEpsilonMilli}`,
    )
  }
}

function readFiles(fields: Fields): readonly [ExpertFile] {
  const files = fields.list(
    'files',
    1,
    (item, title) => {
      const file = new Fields(item, title)
      const value: ExpertFile = { role: file.literal('role', 'expert'), ...readFileRef(file) }
      file.end()
      return value
    },
    1,
  )
  return [files[0] as ExpertFile]
}

function readTraining(fields: Fields): TrainingFacts {
  const value = {
    documents: fields.uint('documents'),
    tokens: fields.uint('tokens'),
    steps: fields.uint('steps'),
    replayShareMilli: fields.uint('replayShareMilli', 1000),
  }
  fields.end()
  return value
}

function readEval(item: unknown, title: string): EvalResult {
  const fields = new Fields(item, title)
  const value: EvalResult = {
    set: fields.literal('set', ...EVAL_SETS),
    metric: fields.literal('metric', 'bits-per-byte'),
    before: fields.uint('before'),
    after: fields.uint('after'),
  }
  fields.end()
  return value
}

function readExtension(fields: Fields, json: JsonValue): JsonObject {
  fields.object('ext')
  const ext = isObject(json) ? json['ext'] : undefined
  if (ext === undefined || !isObject(ext)) throw bad('manifest.ext: expected an object')
  return ext
}

/** Check the size against the shape, so that a false size or shape is refused before any byte is fetched. */
function checkFileSize({ expert, files: [file] }: Manifest): void {
  const data = expertDataBytes(expert, DTYPE_BYTES[expert.dtype])
  const minimum = LENGTH_BYTES + data
  const maximum = minimum + limit('safetensorsHeaderBytes')
  if (!(file.size >= minimum && file.size <= maximum)) {
    throw bad(`manifest.files[0].size: expected ${minimum} to ${maximum} for this expert, got ${file.size}`)
  }
}

function isObject(value: JsonValue): value is JsonObject {
  return typeof value === 'object' && !Array.isArray(value)
}

function bad(message: string): FormatError {
  return new FormatError('bad-field', message)
}
