/**
 * DSSE envelopes: the exact payload bytes, their type, and signatures over both (DSSE v1 PAE). The verified bytes are
 * the ones that are parsed; nothing is re-encoded. Knows no payload.
 */
import { concatBytes, fromBase64, toBase64, utf8 } from '../lib/bytes.ts'
import { decodeCanonical, encodeCanonical } from '../lib/canonical-json.ts'
import { FormatError, VerificationError } from '../lib/errors.ts'
import { Fields } from '../lib/fields.ts'
import { limit } from '../lib/limits.ts'
import { SIGNATURE_BYTES, sign, verifyStrict } from './ed25519.ts'
import { type Identity, type PeerIdString, publicKeyFromPeerId } from './keys.ts'
import type { MediaType } from './media-types.ts'

export interface EnvelopeParts {
  readonly payloadType: string
  readonly payload: Uint8Array
  readonly signatures: readonly { readonly key: PeerIdString; readonly sig: Uint8Array }[]
}

export interface OpenedEnvelope {
  readonly payload: Uint8Array
  /** Distinct peers whose signatures verified; at least one. */
  readonly signers: readonly PeerIdString[]
}

/** "DSSEv1" SP len(type) SP type SP len(payload) SP payload, with decimal lengths in bytes. */
export function preAuthEncoding(payloadType: string, payload: Uint8Array): Uint8Array {
  const type = utf8(payloadType)
  return concatBytes(utf8(`DSSEv1 ${type.length} `), type, utf8(` ${payload.length} `), payload)
}

/** Sign `payload` with the key of every signer. */
export function seal(payloadType: MediaType, payload: Uint8Array, signers: readonly Identity[]): Uint8Array {
  const message = preAuthEncoding(payloadType, payload)
  const signatures = signers.map(({ peerId: key, secretKey }) => ({ key, sig: sign(secretKey, message) }))
  return encodeEnvelope({ payloadType, payload, signatures })
}

/** Write the parts of an envelope, without verifying them. */
export function encodeEnvelope({ payloadType, payload, signatures }: EnvelopeParts): Uint8Array {
  return encodeCanonical({
    payload: toBase64(payload),
    payloadType,
    signatures: signatures.map(({ key, sig }) => ({ key, sig: toBase64(sig) })),
  })
}

/**
 * Read the parts of an envelope without verifying them.
 * @throws FormatError `too-large`, `not-json`, `not-canonical`, `bad-field`, `bad-envelope`.
 */
export function readEnvelope(bytes: Uint8Array): EnvelopeParts {
  const fields = new Fields(decodeCanonical(bytes, limit('envelopeBytes')), 'envelope')
  const payloadType = fields.text('payloadType', 128)
  const payload = fromBase64(fields.text('payload', 2 * limit('statementBytes')))
  const signatures = fields.list('signatures', limit('signaturesPerEnvelope'), (item, title) => {
    const signature = new Fields(item, title)
    const key = signature.text('key', 64)
    const sig = fromBase64(signature.text('sig', 88))
    signature.end()
    if (sig.length !== SIGNATURE_BYTES)
      throw new FormatError('bad-envelope', `${title}.sig: expected 64 bytes, got ${sig.length}`)
    return { key, sig }
  })
  fields.end()
  return { payloadType, payload, signatures }
}

/**
 * Open an envelope of the expected type. Every signature must verify.
 * @throws FormatError as `readEnvelope`; VerificationError `wrong-type`, `unsigned`,
 * `bad-signature`, `weak-key`.
 */
export function openEnvelope(bytes: Uint8Array, expectedType: MediaType): OpenedEnvelope {
  const { payloadType, payload, signatures } = readEnvelope(bytes)
  if (payloadType !== expectedType) {
    throw new VerificationError('wrong-type', `envelope: expected ${expectedType}, got ${payloadType}`)
  }
  if (signatures.length === 0) throw new VerificationError('unsigned', 'envelope: no signature')
  const message = preAuthEncoding(payloadType, payload)
  const signers = new Set<PeerIdString>()
  for (const { key, sig } of signatures) {
    if (signers.has(key)) throw new FormatError('bad-envelope', `envelope: ${key} signs twice`)
    if (!verifyStrict(publicKeyFromPeerId(key), message, sig)) {
      throw new VerificationError('bad-signature', `envelope: the signature of ${key} does not verify`)
    }
    signers.add(key)
  }
  if (payload.length > limit('statementBytes')) {
    throw new FormatError(
      'too-large',
      `envelope.payload: expected at most ${limit('statementBytes')} bytes, got ${payload.length}`,
    )
  }
  return { payload, signers: [...signers] }
}
