/**
 * Implements protocols/expert-package (v1.0.0), sections "Statements" and "Chain": the fields that statements share, and
 * the chain that a publisher's statements form. Does not know the store, the roster and the clock.
 */

import { type Digest, digestOf, parseDigest } from '../lib/bytes.ts'
import { FormatError, VerificationError } from '../lib/errors.ts'
import type { Fields } from '../lib/fields.ts'
import { limit } from '../lib/limits.ts'
import { openEnvelope } from './envelope.ts'
import type { PeerIdString } from './keys.ts'
import type { MediaType } from './media-types.ts'

/** Value of `prev` in a publisher's first statement. */
export const NO_STATEMENT: Digest = `sha256:${'0'.repeat(64)}`

/** base58btc of an Ed25519 peer id. The key in it is checked together with a signature. */
const PEER_ID = /^12D3KooW[1-9A-HJ-NP-Za-km-z]{44}$/
/** Text for people to read, without control, format and line-breaking characters. */
const PRINTABLE = /^[^\p{Cc}\p{Cf}\p{Zl}\p{Zp}]+$/u

export interface ChainLink {
  readonly publisher: PeerIdString
  /** Sequence number over all statements of a publisher in a consortium, from 1. */
  readonly seq: number
  /** Digest of the payload of the statement before; NO_STATEMENT in the first. */
  readonly prev: Digest
}

/** The fields of every statement that belongs to its publisher's chain. */
export interface Chained extends ChainLink {
  readonly consortium: Digest
  /** Unix seconds. */
  readonly issuedAt: number
}

/** The latest known statement of a publisher. */
export interface ChainTip {
  readonly seq: number
  readonly digest: Digest
}

export interface Signed<T> {
  readonly value: T
  /** Digest of the payload bytes as received. */
  readonly id: Digest
  readonly signer: PeerIdString
}

/** The facts about a statement that decide whether its signer may sign for its publisher. */
export interface SignedPlace {
  readonly publisher: PeerIdString
  /** Undefined for a statement outside of the chain, which a key that rules now has to sign. */
  readonly seq?: number | undefined
  /** Unix seconds, as the statement states it. */
  readonly issuedAt: number
  readonly type: MediaType
  readonly signer: PeerIdString
}

/** @throws VerificationError `wrong-signer`, `expired`. */
export type SignerCheck = (place: SignedPlace) => void

/** The check for a publisher that has stated no other key than its id. */
export const byPublisher: SignerCheck = ({ publisher, signer }) => {
  if (publisher === signer) return
  throw new VerificationError(
    'wrong-signer',
    `statement: published by ${publisher} but signed by ${signer}`,
    { publisher, signer },
  )
}

/**
 * Open an envelope that has one signature, by a key that may sign for the publisher.
 * @throws FormatError, VerificationError; `wrong-signer` for another number of signatures, and as `check`.
 */
export function openStatement<T extends Pick<SignedPlace, 'publisher' | 'seq' | 'issuedAt'>>(
  envelope: Uint8Array,
  payloadType: MediaType,
  decode: (payload: Uint8Array) => T,
  check: SignerCheck = byPublisher,
): Signed<T> {
  const { payload, signers } = openEnvelope(envelope, payloadType)
  const [signer, ...others] = signers
  if (signer === undefined || others.length > 0) {
    throw new VerificationError('wrong-signer', `statement: expected one signer, got ${signers.length}`)
  }
  const value = decode(payload)
  const { publisher, seq, issuedAt } = value
  check({ publisher, seq, issuedAt, type: payloadType, signer })
  return { value, id: digestOf(payload), signer }
}

/**
 * Position of a statement relative to the latest known one: `next` extends the chain, `gap` has predecessors that are
 * missing, `known` is the latest one itself.
 * @throws VerificationError `forked` for a statement with the same sequence number as the latest one, or with another
 * predecessor; `replayed` for a lower sequence number, which only the log can tell from a fork.
 */
export function placeInChain(
  tip: ChainTip | undefined,
  link: Pick<ChainLink, 'seq' | 'prev'>,
  id: Digest,
): 'next' | 'gap' | 'known' {
  const last = tip ?? { seq: 0, digest: NO_STATEMENT }
  if (link.seq > last.seq + 1) return 'gap'
  if (link.seq === last.seq + 1) {
    if (link.prev === last.digest) return 'next'
    throw new VerificationError('forked', `statement ${link.seq}: does not follow ${last.digest}`)
  }
  if (link.seq < last.seq) {
    throw new VerificationError('replayed', `statement ${link.seq}: statement ${last.seq} is known already`)
  }
  if (id === last.digest) return 'known'
  throw new VerificationError('forked', `statement ${link.seq}: ${last.digest} has the same number`)
}

/** @throws FormatError `bad-field`, also unless `prev` is NO_STATEMENT in statement 1 and only there. */
export function readChainLink(fields: Fields, title: string): ChainLink {
  const publisher = readPeerId(fields, 'publisher')
  const seq = fields.uint('seq', Number.MAX_SAFE_INTEGER, 1)
  const prev = fields.digest('prev')
  if ((seq === 1) !== (prev === NO_STATEMENT)) {
    throw new FormatError('bad-field', `${title}.prev: expected zeros in statement 1 and only there`)
  }
  return { publisher, seq, prev }
}

/** @throws FormatError `bad-field` unless `expiresAt` is 1 to `maxSeconds` seconds after `issuedAt`. */
export function readValidity(
  fields: Fields,
  title: string,
  maxSeconds: number,
): { issuedAt: number; expiresAt: number } {
  const issuedAt = fields.uint('issuedAt')
  const expiresAt = fields.uint('expiresAt')
  if (expiresAt <= issuedAt || expiresAt - issuedAt > maxSeconds) {
    throw new FormatError(
      'bad-field',
      `${title}.expiresAt: expected 1 to ${maxSeconds} seconds after issuedAt, got ${expiresAt - issuedAt}`,
    )
  }
  return { issuedAt, expiresAt }
}

export function readPeerId(fields: Fields, name: string): PeerIdString {
  return fields.text(name, 52, PEER_ID)
}

/** Text for people to read: 1 to `max` printable characters. */
export function readLabel(fields: Fields, name: string, max: number): string {
  return fields.text(name, max, PRINTABLE)
}

/** A set of digests, strictly ascending, so that it has only one encoding. */
export function readDigestSet(fields: Fields, name: string, title: string, min = 0): Digest[] {
  const digests = fields.list(
    name,
    limit('digestsPerStatement'),
    (item, itemTitle) => {
      if (typeof item !== 'string') throw new FormatError('bad-field', `${itemTitle}: expected a digest`)
      return parseDigest(item, itemTitle)
    },
    min,
  )
  if (digests.some((digest, index) => index > 0 && digest <= (digests[index - 1] as Digest))) {
    throw new FormatError('bad-field', `${title}.${name}: expected ascending digests, none twice`)
  }
  return digests
}
