/** Keys that are derived from passphrases with scrypt (RFC 7914). Knows nothing about what they encrypt. */
import { scrypt } from 'node:crypto'
import { InputError } from './errors.ts'

/** Cost of scrypt: 2^logN blocks of 128 r bytes, which is 256 MiB with the default and r = 8. */
export const DEFAULT_LOG_N = 18
export const MIN_LOG_N = 15
export const MAX_LOG_N = 20
export const SCRYPT_R = 8
export const SCRYPT_P = 1
const KEY_BYTES = 32
const MIN_PASSPHRASE = 12

/** Derive a key of 32 bytes. */
export function passphraseKey(passphrase: string, salt: Uint8Array, logN: number): Promise<Uint8Array> {
  const N = 2 ** logN
  return new Promise((resolve, reject) => {
    scrypt(
      passphrase,
      salt,
      KEY_BYTES,
      { N, r: SCRYPT_R, p: SCRYPT_P, maxmem: 256 * N * SCRYPT_R },
      (error, key) => {
        if (error === null) resolve(new Uint8Array(key))
        else reject(error)
      },
    )
  })
}

/** @throws InputError `usage` for a passphrase that is too short to encrypt something new. */
export function checkNewPassphrase(passphrase: string): void {
  if (passphrase.length >= MIN_PASSPHRASE) return
  throw new InputError(
    'usage',
    `passphrase: expected at least ${MIN_PASSPHRASE} characters, got ${passphrase.length}`,
  )
}
