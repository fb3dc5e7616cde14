/**
 * Web pages of other origins that may read the answers of the API. Implements protocols/inference-api, section "Pages of
 * other origins". Knows nothing about routes and keys.
 */
import type { MiddlewareHandler } from 'hono'
import { cors } from 'hono/cors'
import { InputError } from '../lib/errors.ts'
import type { ApiEnv } from './api-env.ts'

/** Time for which a browser remembers the answer to a preflight, seconds. */
const PREFLIGHT_LIFETIME = 600
const MAX_SHOWN = 200

/**
 * @param text as the option names it
 * @throws InputError `usage` unless it is an origin as browsers send it: a scheme, a host, and a port if it is not the
 * default one.
 */
export function parseOrigin(text: string): string {
  const url = URL.canParse(text) ? new URL(text) : undefined
  const isWeb = url?.protocol === 'http:' || url?.protocol === 'https:'
  // A URL may have a host with an asterisk, but here it would look like a pattern.
  if (isWeb && url.origin === text && !text.includes('*')) return text
  throw new InputError(
    'usage',
    `--allow-origin: expected an origin such as https://chat.example.org, without a path and in lower case, got "${text.slice(0, MAX_SHOWN)}"`,
  )
}

/**
 * Adds the headers of the Fetch standard for listed origins, and answers their preflights, which have no key. Requests
 * of other origins pass unchanged, so that browsers refuse their pages the answer.
 */
export function allowOrigins(origins: readonly string[]): MiddlewareHandler<ApiEnv> {
  const allow = cors({
    origin: [...origins],
    allowMethods: ['GET', 'POST'],
    // Browsers do not let `*` stand for Authorization. Without a list, the headers of the preflight are allowed.
    exposeHeaders: ['X-Request-Id', 'Retry-After', 'WWW-Authenticate'],
    maxAge: PREFLIGHT_LIFETIME,
  })
  return async (c, next) => {
    if (origins.includes(c.req.header('origin') ?? '')) return allow(c, next)
    await next()
    // Answers differ between origins, which caches must know for those that are not listed, too.
    c.header('Vary', 'Origin', { append: true })
  }
}
