/**
 * Who may ask the API: the operator with the key of the home folder, and holders of the keys that the operator has made,
 * with their expiry, quota and experts. Reads the file of keys again when it has changed, so that a key that was revoked
 * ends at once. Knows nothing about routes.
 */
import { timingSafeEqual } from 'node:crypto'
import { stat } from 'node:fs/promises'
import type { ExpertLabel } from '../composition/attribution.ts'
import { hasErrno } from '../lib/errors.ts'
import { limit } from '../lib/limits.ts'
import { type ApiKey, apiKeyHash, readApiKeys } from '../store/api-keys.ts'
import type { ApiUsage, Carried } from '../store/api-usage.ts'
import { Refusal } from './problem.ts'

/** Somebody with a valid key. */
export interface Caller {
  /** For counts and logs; no secret. */
  readonly name: string
  /** Names of institutions or experts that it may use beside the public model; absent if all. */
  readonly experts?: readonly string[]
  /** Count an answer. @param carried its tokens by institution; empty if nobody reports them */
  used(promptTokens: number, generatedTokens: number, carried: readonly Carried[]): void
}

export interface Callers {
  /** @param key as the request has it, undefined if it has none. @throws Refusal 401, 429. */
  find(key: string | undefined): Promise<Caller>
}

const DAY_SECONDS = 86_400
/** Name of the key of the home folder in counts. */
const OPERATOR = 'operator'

/** Callers of a server whose keys do not change, and who are not counted. */
export function fixedCallers(keys: readonly string[]): Callers {
  const hashes = keys.map(apiKeyHash)
  return {
    find: async (key) => {
      if (key === undefined || !hashes.some((hash) => isSame(hash, apiKeyHash(key)))) throw unknownKey()
      return { name: OPERATOR, used: () => undefined }
    },
  }
}

export interface KeptCallersInit {
  /** The key of the home folder. */
  readonly operatorKey: string
  /** File of the keys that the operator has made. */
  readonly path: string
  readonly usage: ApiUsage
  /** Unix seconds. */
  readonly now: () => number
}

export class KeptCallers implements Callers {
  readonly #init: KeptCallersInit
  readonly #operator: string
  #keys: readonly ApiKey[] = []
  /** Changes with the file. */
  #version = ''

  constructor(init: KeptCallersInit) {
    this.#init = init
    this.#operator = apiKeyHash(init.operatorKey)
  }

  async find(given: string | undefined): Promise<Caller> {
    if (given === undefined) throw unknownKey()
    const hash = apiKeyHash(given)
    if (isSame(hash, this.#operator)) return this.#caller({ name: OPERATOR })
    await this.#reload()
    const key = this.#keys.find((one) => isSame(one.hash, hash))
    if (key === undefined) throw unknownKey()
    const now = this.#init.now()
    if (key.expiresAt !== undefined && key.expiresAt <= now) throw unknownKey('this API key has expired')
    if (key.tokensPerDay !== undefined && this.#init.usage.tokens(now, key.name) >= key.tokensPerDay) {
      throw new Refusal({
        status: 429,
        code: 'quota_exceeded',
        message: `this API key has used its ${key.tokensPerDay} tokens of today; it can be used again at midnight UTC`,
        headers: { 'Retry-After': String(DAY_SECONDS - (now % DAY_SECONDS)) },
      })
    }
    return this.#caller(key)
  }

  #caller({ name, experts }: Pick<ApiKey, 'name' | 'experts'>): Caller {
    const { usage, now } = this.#init
    return {
      name,
      ...(experts === undefined ? {} : { experts }),
      used: (promptTokens, generatedTokens, carried) =>
        usage.add(now(), name, { requests: 1, promptTokens, generatedTokens, carried }),
    }
  }

  async #reload(): Promise<void> {
    const version = await stat(this.#init.path).then(
      ({ mtimeMs, size, ino }) => `${mtimeMs} ${size} ${ino}`,
      (error: unknown) => {
        if (hasErrno(error, 'ENOENT')) return ''
        throw error
      },
    )
    if (version === this.#version) return
    this.#keys = await readApiKeys(this.#init.path)
    this.#version = version
  }
}

/**
 * The experts of a request as its caller may use them: all that it may, or those that the request names.
 * @param labels of the composition that answers
 * @throws Refusal 403 for a request that names an expert that its caller may not use.
 */
export function allowedInclude(
  caller: Caller,
  include: readonly string[] | undefined,
  labels: readonly ExpertLabel[],
): readonly string[] | undefined {
  const { experts } = caller
  if (experts === undefined) return include
  const foreign = include?.find((name) => !experts.includes(name))
  if (foreign !== undefined) throw notAllowed(caller, foreign, 'experts')
  // An expert that the key may use may have been withdrawn; the key still answers with the others.
  const isInUse = (name: string): boolean =>
    labels.some(({ institution, expert }) => institution === name || expert === name)
  return include ?? experts.filter(isInUse)
}

/** Whether a caller may use an expert. @param caller undefined if the route has decided who may ask */
export function mayUse(caller: Caller | undefined, { institution, expert }: ExpertLabel): boolean {
  const experts = caller?.experts
  return experts === undefined || experts.includes(institution) || experts.includes(expert)
}

/** @param param the member of the request that names the expert */
export function notAllowed(caller: Caller | undefined, name: string, param: string): Refusal {
  return new Refusal({
    status: 403,
    code: 'expert_not_allowed',
    message: `this API key may not use ${name.slice(0, limit('apiKeys'))}; it may use: ${caller?.experts?.join(', ') || 'the public model'}`,
    param,
  })
}

function isSame(a: string, b: string): boolean {
  return timingSafeEqual(Buffer.from(a), Buffer.from(b))
}

function unknownKey(message = 'give a valid API key as "Authorization: Bearer KEY"'): Refusal {
  return new Refusal({
    status: 401,
    code: 'invalid_api_key',
    message,
    // RFC 9110, section 15.5.2: a 401 response must name the scheme.
    headers: { 'WWW-Authenticate': 'Bearer' },
  })
}
