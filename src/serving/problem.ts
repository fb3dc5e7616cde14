/**
 * Errors as HTTP statuses and OpenAI error bodies. Implements protocols/inference-api, section "Errors". Knows nothing
 * about routes.
 */
import { FlexMeshError, FormatError } from '../lib/errors.ts'
import { limit } from '../lib/limits.ts'
import { ServingError } from './engine.ts'
import { QueueFullError } from './queue.ts'

type Status = 400 | 401 | 403 | 404 | 413 | 415 | 429 | 500 | 502 | 503 | 504

export interface Problem {
  readonly status: Status
  readonly code: string
  readonly message: string
  /** The member of the request that is wrong, if it is one. */
  readonly param?: string
  /** Headers of the response. */
  readonly headers?: Readonly<Record<string, string>>
}

/** A request that is refused for a reason of the HTTP layer. */
export class Refusal extends Error {
  readonly problem: Problem

  constructor(problem: Problem) {
    super(problem.message)
    this.problem = problem
  }
}

/** An unexpected error becomes `internal` without details, because the client may not be the operator. */
export function problemOf(error: unknown): Problem {
  if (error instanceof QueueFullError)
    return {
      status: 429,
      code: 'queue_full',
      message: 'too many requests are waiting; try again soon',
      headers: { 'Retry-After': String(limit('retryAfter')) },
    }
  if (error instanceof Refusal) return error.problem
  if (error instanceof ServingError) return { status: error.status, code: error.code, message: error.message }
  if (error instanceof FlexMeshError) {
    const { code, message, fields } = error
    const param = error instanceof FormatError ? fields['param'] : undefined
    return { status: 400, code, message, ...(typeof param === 'string' && param !== '' ? { param } : {}) }
  }
  return { status: 500, code: 'internal', message: 'an unexpected error occurred in the node' }
}

/** The body of an OpenAI error response. */
export function problemBody({ status, code, message, param }: Problem): unknown {
  return { error: { message, type: typeOf(status), param: param ?? null, code } }
}

function typeOf(status: Status): string {
  if (status === 401) return 'authentication_error'
  if (status === 429) return 'rate_limit_error'
  return status >= 500 ? 'server_error' : 'invalid_request_error'
}
