/**
 * The file that names the experts of an exported composition. Implements protocols/composition (v1.0.0), section
 * "Composition file". Knows nothing about weights, nor about whether the experts may still be used.
 */
import { type Digest, fromUtf8 } from '../lib/bytes.ts'
import { FormatError, VerificationError } from '../lib/errors.ts'
import { Fields } from '../lib/fields.ts'
import { limit } from '../lib/limits.ts'
import { type PrivacyStatement, readPrivacy } from '../packaging/manifest-privacy.ts'
import { compositionDigest } from './compose.ts'

export const COMPOSITION_FILE = 'composition.json'

export interface ComposedExpert {
  /** Package id. */
  readonly id: Digest
  readonly name: string
  readonly institution: string
  /** SPDX expression from its manifest. */
  readonly license: string
  /** End of its owner's consent, Unix seconds. */
  readonly expiresAt: number
  /** From its manifest; undefined if that does not state anything. */
  readonly privacy?: PrivacyStatement
}

export interface CompositionFile {
  readonly consortium: Digest
  readonly publicModel: Digest
  readonly composition: Digest
  readonly topK: number
  /** In the order of the mixture: the first is expert 1. */
  readonly experts: readonly ComposedExpert[]
}

const VERSION = 1
const MAX_NAME = 64
const MAX_INSTITUTION = 100
const MAX_LICENSE = 64

/** Text of the file: JSON with one member per line. */
export function encodeCompositionFile(file: CompositionFile): string {
  const { consortium, publicModel, composition, topK } = file
  const experts = file.experts.map(({ id, name, institution, license, expiresAt, privacy }) => ({
    id,
    name,
    institution,
    license,
    expiresAt,
    ...(privacy === undefined ? {} : { privacy }),
  }))
  const json = { version: VERSION, consortium, publicModel, composition, topK, experts }
  return `${JSON.stringify(json, null, 2)}\n`
}

/** @throws FormatError `too-large`, `not-json`, `bad-field`; VerificationError `wrong-digest`. */
export function decodeCompositionFile(bytes: Uint8Array): CompositionFile {
  if (bytes.length > limit('compositionFileBytes')) {
    throw new FormatError(
      'too-large',
      `${COMPOSITION_FILE}: expected at most ${limit('compositionFileBytes')} bytes, got ${bytes.length}`,
    )
  }
  let json: unknown
  try {
    json = JSON.parse(fromUtf8(bytes))
  } catch (cause) {
    throw new FormatError('not-json', `${COMPOSITION_FILE}: expected JSON`, {}, cause)
  }
  const fields = new Fields(json, COMPOSITION_FILE)
  fields.literal('version', VERSION)
  const consortium = fields.digest('consortium')
  const publicModel = fields.digest('publicModel')
  const composition = fields.digest('composition')
  const experts = fields.list('experts', limit('members') - 1, readExpert)
  const topK = fields.uint('topK', experts.length + 1, 1)
  fields.end()
  for (const [index, { id }] of experts.entries()) {
    const before = experts[index - 1]?.id
    if (before !== undefined && before >= id) {
      throw new FormatError(
        'bad-field',
        `${COMPOSITION_FILE}.experts[${index}].id: expected ascending ids, got ${id} after ${before}`,
      )
    }
  }
  const ids = experts.map(({ id }) => id)
  const actual = compositionDigest(publicModel, ids, topK)
  if (actual !== composition) {
    throw new VerificationError(
      'wrong-digest',
      `${COMPOSITION_FILE}: expected composition ${actual}, which its members make, got ${composition}; export it again`,
    )
  }
  return { consortium, publicModel, composition, topK, experts }
}

function readExpert(item: unknown, title: string): ComposedExpert {
  const fields = new Fields(item, title)
  const expert = {
    id: fields.digest('id'),
    name: fields.text('name', MAX_NAME),
    institution: fields.text('institution', MAX_INSTITUTION),
    license: fields.text('license', MAX_LICENSE),
    expiresAt: fields.uint('expiresAt'),
    ...(fields.has('privacy') ? { privacy: readPrivacy(fields.object('privacy')) } : {}),
  }
  fields.end()
  return expert
}
