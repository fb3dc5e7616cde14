/**
 * The statement in which a seat states its keys. Implements protocols/consortium-charter, section "Keys". Whether the
 * keys may follow those before them is decided in consortium/key-history.ts.
 */

import { encodeEnvelope, openEnvelope, readEnvelope, seal } from '../identity/envelope.ts'
import { type Identity, type PeerIdString, publicKeyFromPeerId } from '../identity/keys.ts'
import { MEDIA_TYPES } from '../identity/media-types.ts'
import { type Chained, readChainLink } from '../identity/statement.ts'
import { type Digest, digestOf } from '../lib/bytes.ts'
import { decodeCanonical, encodeCanonical } from '../lib/canonical-json.ts'
import { FormatError, VerificationError } from '../lib/errors.ts'
import { Fields } from '../lib/fields.ts'
import { limit } from '../lib/limits.ts'
import { type KeyChange, NODE_SCOPES, type NodeKey, type NodeScope } from './key-history.ts'

export interface KeysStatement extends Chained, KeyChange {}

/** @throws FormatError, VerificationError for a value that `decodeKeys` would refuse. */
export function encodeKeys(statement: KeysStatement): Uint8Array {
  const { node } = statement
  const bytes = encodeCanonical({
    ...statement,
    ...(node === undefined ? {} : { node: { ...node, scopes: [...node.scopes].sort() } }),
  })
  decodeKeys(bytes)
  return bytes
}

/**
 * @throws FormatError `too-large`, `not-json`, `not-canonical`, `bad-field`, also for a node key that is the institution
 * key and for a node key that lives longer than `delegationLifetime`; VerificationError `weak-key`.
 */
export function decodeKeys(bytes: Uint8Array): KeysStatement {
  const fields = new Fields(decodeCanonical(bytes), 'keys')
  const link = readChainLink(fields, 'keys')
  const consortium = fields.digest('consortium')
  const issuedAt = fields.uint('issuedAt')
  const key = readKey(fields)
  const next = fields.has('next') ? fields.digest('next') : undefined
  const node = fields.has('node') ? readNode(fields.object('node'), issuedAt) : undefined
  const validThroughSeq = fields.has('validThroughSeq')
    ? fields.uint('validThroughSeq', link.seq - 1)
    : undefined
  const rosterVersion = fields.has('rosterVersion')
    ? fields.uint('rosterVersion', Number.MAX_SAFE_INTEGER, 1)
    : undefined
  fields.end()
  if (rosterVersion !== undefined && validThroughSeq === undefined) {
    throw new FormatError('bad-field', 'keys.rosterVersion: expected only together with validThroughSeq')
  }
  if (node?.key === key) {
    throw new FormatError('bad-field', 'keys.node.key: expected another key than the institution key')
  }
  return {
    ...link,
    consortium,
    issuedAt,
    key,
    ...(next === undefined ? {} : { next }),
    ...(node === undefined ? {} : { node }),
    ...(validThroughSeq === undefined ? {} : { validThroughSeq }),
    ...(rosterVersion === undefined ? {} : { rosterVersion }),
  }
}

function readKey(fields: Fields): PeerIdString {
  const key = fields.text('key', 64)
  publicKeyFromPeerId(key)
  return key
}

function readNode(fields: Fields, issuedAt: number): NodeKey {
  const key = readKey(fields)
  const scopes = fields.list('scopes', NODE_SCOPES.length, readScope, 1)
  const expiresAt = fields.uint('expiresAt', issuedAt + limit('delegationLifetime'), issuedAt + 1)
  fields.end()
  if (scopes.some((scope, i) => i > 0 && scope <= (scopes[i - 1] as NodeScope))) {
    throw new FormatError('bad-field', 'keys.node.scopes: expected them in ascending order, none twice')
  }
  return { key, scopes, expiresAt }
}

function readScope(item: unknown, title: string): NodeScope {
  const scope = NODE_SCOPES.find((known) => known === item)
  if (scope !== undefined) return scope
  throw new FormatError('bad-field', `${title}: expected ${NODE_SCOPES.join(' or ')}`)
}

/** @param node the key of `statement.node`; undefined if it names none. */
export function sealKeys(statement: KeysStatement, institution: Identity, node?: Identity): Uint8Array {
  const signers = node === undefined ? [institution] : [institution, node]
  return seal(MEDIA_TYPES.keys, encodeKeys(statement), signers)
}

/** A statement that the institution has to sign yet. @param node the key of `statement.node` */
export function sealKeysRequest(statement: KeysStatement, node: Identity): Uint8Array {
  return seal(MEDIA_TYPES.keys, encodeKeys(statement), [node])
}

/**
 * Open an envelope that the node key that it names has signed, and perhaps the institution key.
 * @throws FormatError; VerificationError, `unsigned` without the node key, `wrong-signer` for a signature of another key.
 */
export function openKeysRequest(envelope: Uint8Array): KeysStatement {
  const { payload, signers } = openEnvelope(envelope, MEDIA_TYPES.keys)
  const keys = decodeKeys(payload)
  const { key, node } = keys
  if (node === undefined || !signers.includes(node.key)) {
    throw new VerificationError('unsigned', 'keys: the node key has not signed')
  }
  const other = signers.find((signer) => signer !== key && signer !== node.key)
  if (other === undefined) return keys
  throw new VerificationError('wrong-signer', `keys: signed by ${other} too`)
}

/** Add the signature of the institution to a request. @throws as `openKeysRequest`. */
export function signKeysRequest(envelope: Uint8Array, institution: Identity): Uint8Array {
  const { node } = openKeysRequest(envelope)
  const request = readEnvelope(envelope)
  const own = readEnvelope(seal(MEDIA_TYPES.keys, request.payload, [institution])).signatures
  const ofNode = request.signatures.filter(({ key }) => key === node?.key)
  const signed = encodeEnvelope({ ...request, signatures: [...own, ...ofNode] })
  openKeys(signed)
  return signed
}

/**
 * Open an envelope that the institution key that it names and its node key, and nobody else, have signed.
 * @throws FormatError; VerificationError, `unsigned` if one of the two signatures is missing, `wrong-signer` for another
 * one.
 */
export function openKeys(envelope: Uint8Array): { value: KeysStatement; id: Digest } {
  const { payload, signers } = openEnvelope(envelope, MEDIA_TYPES.keys)
  const keys = decodeKeys(payload)
  const expected = [keys.key, ...(keys.node === undefined ? [] : [keys.node.key])]
  const missing = expected.find((key) => !signers.includes(key))
  if (missing !== undefined) throw new VerificationError('unsigned', `keys: ${missing} has not signed`)
  const other = signers.find((key) => !expected.includes(key))
  if (other !== undefined) throw new VerificationError('wrong-signer', `keys: signed by ${other} too`)
  return { value: keys, id: digestOf(payload) }
}
