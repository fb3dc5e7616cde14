/**
 * The rules for single records of an audit bundle: a logged statement, the lines of a checkpoint, the order of records.
 * Does not know which records follow each other.
 */

import { openKeys } from '../consortium/keys-statement.ts'
import type { Roster } from '../consortium/roster.ts'
import { openEnvelope, readEnvelope } from '../identity/envelope.ts'
import type { PeerIdString } from '../identity/keys.ts'
import { isMediaType, MEDIA_TYPES } from '../identity/media-types.ts'
import { NO_STATEMENT, readChainLink } from '../identity/statement.ts'
import { type Digest, equalBytes } from '../lib/bytes.ts'
import { decodeCanonical } from '../lib/canonical-json.ts'
import { FormatError, VerificationError } from '../lib/errors.ts'
import { Fields } from '../lib/fields.ts'
import { SCOPES } from '../statements/signers.ts'
import type { SignedUse } from './bundle-keys.ts'
import { logKeyOf } from './log-key.ts'
import type { SignedNote, VerifierKey } from './note.ts'

/** Records of members are in the order of the roster, at most one for each. */
export class RosterOrder {
  readonly #roster: Roster
  readonly #title: string
  #last = -1

  constructor(roster: Roster, title: string) {
    this.#roster = roster
    this.#title = title
  }

  /** @throws VerificationError. */
  next(publisher: PeerIdString, consortium: Digest): void {
    const at = this.#roster.members.findIndex(({ peerId }) => peerId === publisher)
    if (at <= this.#last || consortium !== this.#roster.consortium) {
      throw new VerificationError('not-a-member', `bundle: a ${this.#title} of ${publisher} out of its order`)
    }
    this.#last = at
  }
}

/** @param signers every key that has ruled the seat of the log */
export function isKeyOfLog(
  { consortium }: Roster,
  publisher: PeerIdString,
  signers: readonly PeerIdString[],
  key: VerifierKey,
): boolean {
  return signers.some((signer) => {
    const own = logKeyOf(consortium, publisher, signer)
    return key.name === own.name && equalBytes(key.publicKey, own.publicKey)
  })
}

/** A note in a bundle has one signature of its log and valid cosignatures of members, so that no line is unchecked. */
export function checkLines(publisher: PeerIdString, note: SignedNote | undefined, cosigners: number): void {
  if (note === undefined || note.signatures.length === 1 + cosigners) return
  throw new VerificationError(
    'bad-signature',
    `bundle: a line of a checkpoint of ${publisher} counts for nothing`,
  )
}

export interface OpenedLogged {
  readonly payload: Uint8Array
  readonly use: SignedUse
}

/**
 * The payload of the next statement of a log, whatever it says, and who has signed it. Whether this key may sign for the
 * publisher is checked later: see bundle-keys.ts.
 * @throws FormatError, VerificationError.
 */
export function openLogged(
  envelope: Uint8Array,
  log: { readonly consortium: Digest; readonly publisher: PeerIdString; readonly digests: readonly Digest[] },
  kinds: Record<string, number>,
): OpenedLogged {
  const { payloadType } = readEnvelope(envelope)
  if (!isMediaType(payloadType))
    throw new VerificationError('wrong-type', `bundle: ${payloadType} is no statement`)
  const { payload, signers } = openEnvelope(envelope, payloadType)
  const fields = new Fields(decodeCanonical(payload), 'statement')
  const link = readChainLink(fields, 'statement')
  const isNext =
    fields.digest('consortium') === log.consortium &&
    link.publisher === log.publisher &&
    link.seq === log.digests.length + 1 &&
    link.prev === (log.digests.at(-1) ?? NO_STATEMENT)
  if (!isNext) throw new VerificationError('forked', `bundle: statement ${link.seq} does not follow its log`)
  kinds[payloadType] = (kinds[payloadType] ?? 0) + 1
  const [signer, ...others] = signers
  const use = { seq: link.seq, issuedAt: fields.uint('issuedAt'), scope: SCOPES[payloadType] }
  if (payloadType === MEDIA_TYPES.keys) {
    const { value } = openKeys(envelope)
    return { payload, use: { ...use, signer: value.key, keys: value } }
  }
  if (signer === undefined || others.length > 0) {
    throw new VerificationError(
      'wrong-signer',
      `bundle: statement ${link.seq} has ${signers.length} signatures`,
    )
  }
  return { payload, use: { ...use, signer } }
}

export function checkJson(text: string): void {
  try {
    JSON.parse(text)
  } catch (cause) {
    throw new FormatError('not-json', 'bundle: a verdict is not JSON', {}, cause)
  }
}
