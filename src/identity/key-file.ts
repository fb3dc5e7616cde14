/**
 * The node's key on disk: encrypted with scrypt and secretbox under a passphrase, or in the clear on request. The
 * header is repeated inside the box, because secretbox authenticates no associated data. Knows nothing about the
 * other files.
 */
import { randomBytes } from 'node:crypto'
import { open, rm, stat } from 'node:fs/promises'
import nacl from 'tweetnacl'
import { concatBytes, equalBytes, fromBase64, fromUtf8, toBase64, utf8 } from '../lib/bytes.ts'
import { encodeCanonical } from '../lib/canonical-json.ts'
import { FormatError, hasErrno, InputError } from '../lib/errors.ts'
import { Fields } from '../lib/fields.ts'
import { mapDiskErrors, PRIVATE_FILE_MODE, readFileBounded, writeFileAtomic } from '../lib/files.ts'
import {
  checkNewPassphrase,
  DEFAULT_LOG_N,
  MAX_LOG_N,
  MIN_LOG_N,
  passphraseKey,
  SCRYPT_P,
  SCRYPT_R,
} from '../lib/passphrase-key.ts'
import { type Identity, identityFromSecretKey, type PeerIdString } from './keys.ts'

export type Protection = { readonly passphrase: string } | { readonly inTheClear: true }

const CONTEXT = 'flexmesh/v1/key'
const SALT_BYTES = 16
const NONCE_BYTES = 24
const MAX_FILE_BYTES = 4096

interface Header {
  readonly v: 1
  readonly kdf: 'scrypt' | 'none'
  readonly logN: number
  readonly r: number
  readonly p: number
  readonly peerId: string
}

/**
 * Write a new key file with mode 0600. Never overwrites a file.
 * @throws InputError `exists`; `usage` for a short passphrase.
 */
export async function saveIdentity(
  path: string,
  identity: Identity,
  protection: Protection,
  options: { logN?: number } = {},
): Promise<void> {
  const content =
    'passphrase' in protection ? await lock(identity, protection.passphrase, options.logN) : clear(identity)
  await mapDiskErrors(path, async () => {
    const handle = await open(path, 'wx', PRIVATE_FILE_MODE).catch((error: unknown) => {
      if (hasErrno(error, 'EEXIST'))
        throw new InputError('exists', `${path} exists already; a key is never overwritten`)
      throw error
    })
    try {
      await handle.writeFile(content)
      await handle.chmod(PRIVATE_FILE_MODE)
      await handle.sync()
    } catch (error) {
      // A part of a key is of no use, and would forbid another attempt.
      await rm(path, { force: true })
      throw error
    } finally {
      await handle.close()
    }
  })
}

/**
 * Write a key in place of an existing key file, which stays as it was if this fails.
 * @throws InputError `usage` for a short passphrase, `disk-full`, `permissions`.
 */
export async function replaceIdentity(
  path: string,
  identity: Identity,
  protection: Protection,
): Promise<void> {
  const content = 'passphrase' in protection ? await lock(identity, protection.passphrase) : clear(identity)
  await writeFileAtomic(path, content)
}

/**
 * Read a key file.
 * @throws InputError `permissions` if others may read the file, `wrong-passphrase`, `usage` if a passphrase is
 * needed; FormatError for a damaged file.
 */
export async function loadIdentity(path: string, passphrase?: string): Promise<Identity> {
  const bytes = await readFileBounded(path, MAX_FILE_BYTES)
  const { mode } = await stat(path)
  if (process.platform !== 'win32' && (mode & 0o077) !== 0) {
    throw new InputError('permissions', `${path} can be read by others; run: chmod 600 ${path}`)
  }
  const fields = new Fields(parse(bytes), 'key file')
  const header = readHeader(fields)
  if (header.kdf === 'none') {
    const identity = identityFromSecretKey(fromBase64(fields.text('secretKey', 88)))
    fields.end()
    return checked(identity, header)
  }
  const salt = fromBase64(fields.text('salt', 64))
  const nonce = fromBase64(fields.text('nonce', 64))
  const box = fromBase64(fields.text('box', 2048))
  fields.end()
  if (nonce.length !== NONCE_BYTES)
    throw new FormatError('bad-field', `key file.nonce: expected 24 bytes, got ${nonce.length}`)
  if (passphrase === undefined) {
    throw new InputError('usage', `${path} is encrypted; give its passphrase with --passphrase-file`)
  }
  const key = await derive(passphrase, salt, header)
  const opened = nacl.secretbox.open(box, nonce, key)
  if (opened === null)
    throw new InputError('wrong-passphrase', `${path}: the passphrase is wrong or the file is damaged`)
  const inside = encodeCanonical(header)
  if (!equalBytes(opened.subarray(64), inside))
    throw new FormatError('bad-field', 'key file: its header was changed')
  return checked(identityFromSecretKey(opened.slice(0, 64)), header)
}

/** Peer id of the key in a key file, as its header states it. Decrypts nothing. @throws FormatError, InputError. */
export async function readKeyId(path: string): Promise<PeerIdString> {
  const { peerId } = readHeader(new Fields(parse(await readFileBounded(path, MAX_FILE_BYTES)), 'key file'))
  return peerId
}

async function lock(identity: Identity, passphrase: string, logN = DEFAULT_LOG_N): Promise<string> {
  checkNewPassphrase(passphrase)
  const header: Header = { v: 1, kdf: 'scrypt', logN, r: SCRYPT_R, p: SCRYPT_P, peerId: identity.peerId }
  const salt = new Uint8Array(randomBytes(SALT_BYTES))
  const nonce = new Uint8Array(randomBytes(NONCE_BYTES))
  const key = await derive(passphrase, salt, header)
  const box = nacl.secretbox(concatBytes(identity.secretKey, encodeCanonical(header)), nonce, key)
  return JSON.stringify({ ...header, salt: toBase64(salt), nonce: toBase64(nonce), box: toBase64(box) })
}

function clear(identity: Identity): string {
  const header: Header = {
    v: 1,
    kdf: 'none',
    logN: MIN_LOG_N,
    r: SCRYPT_R,
    p: SCRYPT_P,
    peerId: identity.peerId,
  }
  return JSON.stringify({ ...header, secretKey: toBase64(identity.secretKey) })
}

function readHeader(fields: Fields): Header {
  return {
    v: fields.literal('v', 1),
    kdf: fields.literal('kdf', 'scrypt', 'none'),
    logN: fields.uint('logN', MAX_LOG_N, MIN_LOG_N),
    r: fields.uint('r', SCRYPT_R, SCRYPT_R),
    p: fields.uint('p', SCRYPT_P, SCRYPT_P),
    peerId: fields.text('peerId', 64),
  }
}

function checked(identity: Identity, header: Header): Identity {
  if (identity.peerId !== header.peerId) {
    throw new FormatError('bad-field', `key file.peerId: expected ${identity.peerId}, got ${header.peerId}`)
  }
  return identity
}

function parse(bytes: Uint8Array): unknown {
  try {
    return JSON.parse(fromUtf8(bytes))
  } catch (cause) {
    throw new FormatError('not-json', 'key file: expected JSON', {}, cause)
  }
}

function derive(passphrase: string, salt: Uint8Array, { logN }: Header): Promise<Uint8Array> {
  return passphraseKey(passphrase, concatBytes(utf8(CONTEXT), salt), logN)
}
