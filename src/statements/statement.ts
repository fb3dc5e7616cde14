/**
 * Implements protocols/expert-package (v1.0.0), section "Statements": what manifests, heads and
 * withdrawals have in common, and the chain that a publisher's statements form. Knows no store, no
 * roster and no clock.
 */

import { openEnvelope } from '../identity/envelope.ts'
import type { PeerIdString } from '../identity/keys.ts'
import type { MediaType } from '../identity/media-types.ts'
import { type Digest, digestOf, parseDigest } from '../lib/bytes.ts'
import { FormatError, VerificationError } from '../lib/errors.ts'
import type { Fields } from '../lib/fields.ts'
import { limit } from '../lib/limits.ts'

/** What `prev` says in a publisher's first statement. */
export const NO_STATEMENT: Digest = `sha256:${'0'.repeat(64)}`

/** base58btc of an Ed25519 peer id; the key inside is checked where a signature is. */
const PEER_ID = /^12D3KooW[1-9A-HJ-NP-Za-km-z]{44}$/
/** Text that people read: no control, format or line-breaking characters. */
const PRINTABLE = /^[^\p{Cc}\p{Cf}\p{Zl}\p{Zp}]+$/u

export interface ChainLink {
  readonly publisher: PeerIdString
  /** 1, 2, 3, ... over all statements of a publisher in a consortium. */
  readonly seq: number
  /** Digest of the payload before it, or NO_STATEMENT. */
  readonly prev: Digest
}

/** The latest statement known of a publisher. */
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

/**
 * Open an envelope that exactly its publisher signed.
 * @throws FormatError, VerificationError; `wrong-signer` when signer and publisher differ.
 */
export function openStatement<T extends { readonly publisher: PeerIdString }>(
  envelope: Uint8Array,
  payloadType: MediaType,
  decode: (payload: Uint8Array) => T,
): Signed<T> {
  const { payload, signers } = openEnvelope(envelope, payloadType)
  const [signer, ...others] = signers
  if (signer === undefined || others.length > 0) {
    throw new VerificationError('wrong-signer', `statement: expected one signer, got ${signers.length}`)
  }
  const value = decode(payload)
  if (value.publisher !== signer) {
    throw new VerificationError(
      'wrong-signer',
      `statement: published by ${value.publisher} but signed by ${signer}`,
      { publisher: value.publisher, signer },
    )
  }
  return { value, id: digestOf(payload), signer }
}

/**
 * Where a statement stands against the latest known one: `next` extends the chain, `gap` needs
 * earlier ones first, `known` was seen before.
 * @throws VerificationError `forked` when two statements claim one place; `replayed` for an older
 * one, which only a look into the log can tell from a fork.
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

/** @throws FormatError `bad-field`; `prev` is NO_STATEMENT in statement 1 and nowhere else. */
export function readChainLink(fields: Fields, title: string): ChainLink {
  const publisher = readPeerId(fields, 'publisher')
  const seq = fields.uint('seq', Number.MAX_SAFE_INTEGER, 1)
  const prev = fields.digest('prev')
  if ((seq === 1) !== (prev === NO_STATEMENT)) {
    throw new FormatError('bad-field', `${title}.prev: expected zeros in statement 1 and in no other`)
  }
  return { publisher, seq, prev }
}

/** @throws FormatError `bad-field` unless issued before it expires, and not for too long. */
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

/** Text for people: 1 to `max` printable characters. */
export function readLabel(fields: Fields, name: string, max: number): string {
  return fields.text(name, max, PRINTABLE)
}

/** A set of digests: strictly ascending, so that it has one spelling. */
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
