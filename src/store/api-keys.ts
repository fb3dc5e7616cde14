/**
 * The API keys that an operator has made for people and programs, beside the operator's own one: a file with a digest of
 * each, never the key itself. Knows nothing about HTTP.
 */

import { randomBytes } from 'node:crypto'
import { fromUtf8, sha256, toHex, utf8 } from '../lib/bytes.ts'
import { ownCommand } from '../lib/command-line.ts'
import { InputError } from '../lib/errors.ts'
import { Fields } from '../lib/fields.ts'
import { pathExists, readFileBounded, writeFileAtomic } from '../lib/files.ts'
import { limit } from '../lib/limits.ts'

export interface ApiKey {
  /** Chosen by the operator, unique among the keys. */
  readonly name: string
  /** SHA-256 of the key, hexadecimal. */
  readonly hash: string
  /** Unix seconds. */
  readonly createdAt: number
  /** Unix seconds; absent for a key that does not expire. */
  readonly expiresAt?: number
  /** Tokens of prompts and answers on one day in UTC; absent without a quota. */
  readonly tokensPerDay?: number
  /** Names of institutions or experts that the key may use beside the public model; absent if all. */
  readonly experts?: readonly string[]
}

const KEY_BYTES = 24
const NAME = /^[A-Za-z0-9][A-Za-z0-9._-]*$/
const MAX_NAME = 64
const MAX_EXPERTS = 64
const MAX_EXPERT_NAME = 200
const MAX_FILE_BYTES = 1024 * 1024

/** @throws InputError `usage` for a file that was damaged. */
export async function readApiKeys(path: string): Promise<ApiKey[]> {
  if (!(await pathExists(path))) return []
  const value: unknown = JSON.parse(fromUtf8(await readFileBounded(path, MAX_FILE_BYTES)))
  return new Fields(value, path).list('keys', limit('apiKeys'), readKey)
}

/**
 * @returns the key itself, which nobody can read again
 * @throws InputError `exists` for a name that is taken, `usage` for a name that cannot be used or too many keys.
 */
export async function createApiKey(
  path: string,
  now: number,
  { name, ...more }: Omit<ApiKey, 'hash' | 'createdAt'>,
): Promise<string> {
  if (!NAME.test(name) || name.length > MAX_NAME) {
    throw new InputError(
      'usage',
      `name of the key: expected 1 to ${MAX_NAME} letters, digits, dots and dashes, got "${name}"`,
    )
  }
  const keys = await readApiKeys(path)
  if (keys.some((key) => key.name === name)) {
    throw new InputError('exists', `a key named ${name} exists; revoke it first, or choose another name`)
  }
  if (keys.length >= limit('apiKeys')) {
    throw new InputError('usage', `expected at most ${limit('apiKeys')} keys; revoke one that is not used`)
  }
  const key = `fm-${toHex(randomBytes(KEY_BYTES))}`
  await save(path, [...keys, { name, hash: apiKeyHash(key), createdAt: now, ...more }])
  return key
}

/** @throws InputError `not-found`. */
export async function revokeApiKey(path: string, name: string): Promise<void> {
  const keys = await readApiKeys(path)
  if (!keys.some((key) => key.name === name)) {
    throw new InputError('not-found', `no key is named ${name}; ${ownCommand('keys', 'list')} shows all`)
  }
  await save(
    path,
    keys.filter((key) => key.name !== name),
  )
}

/** Keys are random, so a plain digest of one cannot be guessed. */
export function apiKeyHash(key: string): string {
  return toHex(sha256(utf8(key)))
}

function save(path: string, keys: readonly ApiKey[]): Promise<void> {
  return writeFileAtomic(path, JSON.stringify({ keys }))
}

/** @throws FormatError `bad-field`. */
function readKey(value: unknown, title: string): ApiKey {
  const fields = new Fields(value, title)
  const key = {
    name: fields.text('name', MAX_NAME, NAME),
    hash: fields.text('hash', 64, /^[0-9a-f]{64}$/),
    createdAt: fields.uint('createdAt'),
    ...(fields.has('expiresAt') ? { expiresAt: fields.uint('expiresAt') } : {}),
    ...(fields.has('tokensPerDay') ? { tokensPerDay: fields.uint('tokensPerDay') } : {}),
    ...(fields.has('experts')
      ? {
          experts: fields.list('experts', MAX_EXPERTS, (item, itemTitle) =>
            new Fields({ item }, itemTitle).text('item', MAX_EXPERT_NAME),
          ),
        }
      : {}),
  }
  fields.end()
  return key
}
