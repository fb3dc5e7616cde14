/**
 * A charter on its way from founder to founder: it has some of the signatures. Implements protocols/consortium-charter,
 * section "Founding". Does not know files.
 */
import { type EnvelopeParts, encodeEnvelope, openEnvelope, readEnvelope, seal } from '../identity/envelope.ts'
import type { Identity, PeerIdString } from '../identity/keys.ts'
import { MEDIA_TYPES } from '../identity/media-types.ts'
import type { Digest } from '../lib/bytes.ts'
import { FormatError, VerificationError } from '../lib/errors.ts'
import { type Charter, consortiumId, decodeCharter, encodeCharter } from './charter.ts'

/** A charter that some of its founders have signed. Immutable. */
export class CharterDraft {
  readonly charter: Charter
  readonly consortium: Digest
  readonly #payload: Uint8Array
  readonly #signatures: EnvelopeParts['signatures']

  private constructor(payload: Uint8Array, signatures: EnvelopeParts['signatures']) {
    this.charter = decodeCharter(payload)
    this.consortium = consortiumId(payload)
    this.#payload = payload
    this.#signatures = signatures
  }

  /** @throws FormatError for a charter that nobody would accept. */
  static begin(charter: Charter, founder: Identity): CharterDraft {
    return CharterDraft.open(seal(MEDIA_TYPES.charter2, encodeCharter(charter), [founder]))
  }

  /**
   * Open an envelope of a charter of version 2 that at least one founder, and nobody else, has signed.
   * @throws FormatError; VerificationError, `wrong-signer` if somebody else has signed.
   */
  static open(envelope: Uint8Array): CharterDraft {
    const { payload, signers } = openEnvelope(envelope, MEDIA_TYPES.charter2)
    const draft = new CharterDraft(payload, readEnvelope(envelope).signatures)
    const isFounder = (key: PeerIdString): boolean =>
      draft.charter.founders.some(({ peerId }) => peerId === key)
    if (draft.charter.threshold !== undefined) {
      throw new FormatError('bad-field', 'charter.version: expected the version of the payload type')
    }
    if (signers.every(isFounder)) return draft
    throw new VerificationError('wrong-signer', 'charter: signed by someone who is not a founder')
  }

  /** Names of the founders that have not signed. */
  missing(): string[] {
    const signers = this.#signatures.map(({ key }) => key)
    return this.charter.founders
      .filter(({ peerId }) => !signers.includes(peerId))
      .map(({ institution }) => institution)
  }

  /** @returns the same draft if the founder has signed it already. */
  signedBy(founder: Identity): CharterDraft {
    if (this.#signatures.some(({ key }) => key === founder.peerId)) return this
    const { signatures } = readEnvelope(seal(MEDIA_TYPES.charter2, this.#payload, [founder]))
    return new CharterDraft(this.#payload, [...this.#signatures, ...signatures])
  }

  /** With the signatures so far; the envelope of the charter once all founders have signed. */
  envelope(): Uint8Array {
    return encodeEnvelope({
      payloadType: MEDIA_TYPES.charter2,
      payload: this.#payload,
      signatures: this.#signatures,
    })
  }
}
