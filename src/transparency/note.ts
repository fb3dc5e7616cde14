/**
 * Signed notes and verifier keys of C2SP signed-note v1.0.0: a text, an empty line, and lines with signatures. Knows
 * nothing about the text of a note; `checkpoint.ts` and `cosignature.ts` do.
 */
import { PUBLIC_KEY_BYTES, sign, verifyStrict } from '../identity/ed25519.ts'
import type { Identity } from '../identity/keys.ts'
import { concatBytes, fromBase64, fromHex, fromUtf8, sha256, toBase64, toHex, utf8 } from '../lib/bytes.ts'
import { FormatError, VerificationError } from '../lib/errors.ts'
import { limit } from '../lib/limits.ts'

/** Signature types that this implementation verifies; lines of all other types are kept and ignored. */
export const ED25519 = 0x01
export const COSIGNATURE = 0x04

/** A key that verifies lines of notes. */
export interface VerifierKey {
  readonly name: string
  /** Signature type: `ED25519` or `COSIGNATURE`. */
  readonly type: number
  /** 32 bytes. */
  readonly publicKey: Uint8Array
}

export interface NoteSignature {
  readonly name: string
  /** 8 hex digits. */
  readonly keyId: string
  /** The bytes after the key id, at least one. */
  readonly signature: Uint8Array
}

export interface SignedNote {
  /** Ends with a newline. */
  readonly text: string
  readonly signatures: readonly NoteSignature[]
}

const KEY_ID_BYTES = 4
const LINE_START = '\u2014 '
/** Neither a Unicode space nor a plus sign nor a control character. */
const NAME = /^[^\s\p{Z}\p{Cc}+]{1,256}$/u
const SIGNATURE_LINE = /^\u2014 (\S+) ([A-Za-z0-9+/]+={0,2})$/u

/** First four bytes of SHA-256 over name, newline, type and key, as 8 hex digits. */
export function keyIdOf({ name, type, publicKey }: VerifierKey): string {
  return toHex(sha256(utf8(`${name}\n`), new Uint8Array([type]), publicKey).subarray(0, KEY_ID_BYTES))
}

/** `<name>+<key id in hex>+<base64 of type and key>`. */
export function encodeVerifierKey(key: VerifierKey): string {
  return `${key.name}+${keyIdOf(key)}+${toBase64(concatBytes(new Uint8Array([key.type]), key.publicKey))}`
}

/** @throws FormatError `bad-field` for a malformed key, another type than Ed25519's, or a key id that does not fit. */
export function decodeVerifierKey(text: string): VerifierKey {
  const [name = '', id = '', encoded = '', ...more] = splitKey(text)
  if (!NAME.test(name) || !/^[a-f0-9]{8}$/.test(id) || more.length > 0) {
    throw badField('verifier key', 'NAME+KEYID+BASE64', text)
  }
  const [type = 0, ...rest] = fromBase64(encoded)
  const key: VerifierKey = { name, type, publicKey: new Uint8Array(rest) }
  if ((type !== ED25519 && type !== COSIGNATURE) || key.publicKey.length !== PUBLIC_KEY_BYTES) {
    throw badField('verifier key', 'an Ed25519 key of type 1 or 4', text)
  }
  if (keyIdOf(key) !== id) throw badField('verifier key', `the key id ${keyIdOf(key)}`, id)
  return key
}

/** The base64 part may contain plus signs, so only the first two separate. */
function splitKey(text: string): string[] {
  const first = text.indexOf('+')
  const second = text.indexOf('+', first + 1)
  if (first < 0 || second < 0) return []
  return [text.slice(0, first), text.slice(first + 1, second), text.slice(second + 1)]
}

/**
 * Read a note without verifying its signatures.
 * @throws FormatError `too-large`; `bad-field` unless it is UTF-8 without control characters but newline and has a text,
 * an empty line and at least one well-formed signature line, each of them once.
 */
export function decodeNote(bytes: Uint8Array): SignedNote {
  if (bytes.length > limit('checkpointBytes')) {
    throw new FormatError(
      'too-large',
      `note: expected at most ${limit('checkpointBytes')} bytes, got ${bytes.length}`,
    )
  }
  const note = fromUtf8(bytes)
  // biome-ignore lint/suspicious/noControlCharactersInRegex: C2SP forbids exactly these characters.
  if (/[\u0000-\u0009\u000b-\u001f]/u.test(note)) throw badField('note', 'no control character', 'one')
  const split = note.lastIndexOf('\n\n')
  if (split < 1 || !note.endsWith('\n')) throw badField('note', 'a text, an empty line and signatures', note)
  const lines = note.slice(split + 2, -1).split('\n')
  if (lines.length > limit('noteSignatures')) {
    throw badField('note', `at most ${limit('noteSignatures')} signatures`, String(lines.length))
  }
  if (new Set(lines).size !== lines.length) throw badField('note', 'no signature line twice', 'two')
  return { text: note.slice(0, split + 1), signatures: lines.map(decodeSignatureLine) }
}

/** @throws FormatError `bad-field`. @param line without its newline */
export function decodeSignatureLine(line: string): NoteSignature {
  const [, name = '', encoded = ''] = SIGNATURE_LINE.exec(line) ?? []
  if (!NAME.test(name)) throw badField('signature line', `"${LINE_START}NAME BASE64"`, line)
  const bytes = fromBase64(encoded)
  if (bytes.length <= KEY_ID_BYTES) throw badField('signature line', 'a key id and a signature', line)
  return {
    name,
    keyId: toHex(bytes.subarray(0, KEY_ID_BYTES)),
    signature: bytes.slice(KEY_ID_BYTES),
  }
}

/** One line, with its newline. */
export function encodeSignatureLine({ name, keyId, signature }: NoteSignature): string {
  return `${LINE_START}${name} ${toBase64(concatBytes(fromHex(keyId), signature))}\n`
}

export function encodeNote({ text, signatures }: SignedNote): Uint8Array {
  return utf8(`${text}\n${signatures.map(encodeSignatureLine).join('')}`)
}

/** Sign the text of a note with an Ed25519 key; type 0x01. */
export function signText(name: string, identity: Identity, text: string): NoteSignature {
  const keyId = keyIdOf({ name, type: ED25519, publicKey: identity.publicKey })
  return { name, keyId, signature: sign(identity.secretKey, utf8(text)) }
}

/**
 * Whether a known key of type 0x01 has signed a note. Lines of other keys are ignored.
 * @throws VerificationError `bad-signature` if a line of the key does not verify.
 */
export function isSignedBy({ text, signatures }: SignedNote, key: VerifierKey): boolean {
  const lines = linesOf(signatures, key)
  for (const { signature } of lines) {
    if (!verifyStrict(key.publicKey, utf8(text), signature)) throw badSignature(key)
  }
  return lines.length > 0
}

/** The lines that a key is responsible for: those with its name and its id. */
export function linesOf(signatures: readonly NoteSignature[], key: VerifierKey): NoteSignature[] {
  const named = signatures.filter(({ name }) => name === key.name)
  if (named.length === 0) return named // Most lines are of other keys, and computing an id takes time.
  const id = keyIdOf(key)
  return named.filter(({ keyId }) => keyId === id)
}

export function badSignature({ name }: VerifierKey): VerificationError {
  return new VerificationError('bad-signature', `note: the signature of ${name} does not verify`)
}

function badField(title: string, expected: string, got: string): FormatError {
  return new FormatError('bad-field', `${title}: expected ${expected}, got "${got.slice(0, 80)}"`)
}
