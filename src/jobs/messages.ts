/**
 * The messages between the main thread and a job thread, which are checked on both sides, and the errors that they
 * carry: an error of FlexMesh keeps its family, code and fields across threads. Knows nothing about any job.
 */
import {
  ExchangeError,
  FlexMeshError,
  FormatError,
  InputError,
  PolicyError,
  VerificationError,
} from '../lib/errors.ts'
import type { EngineChoice } from '../tensor/select-engine.ts'

/** What a job thread needs to know when it starts. */
export interface ThreadSettings {
  readonly engine: EngineChoice
  /** Folder of the public model. */
  readonly publicModel: string
  /** Folder of the trainings. */
  readonly training: string
  /** Folder that holds `blobs/`. */
  readonly root: string
}

/** To the thread. It carries out one job at a time. */
export type Order =
  | { readonly kind: 'run'; readonly job: string; readonly request: unknown }
  | { readonly kind: 'abort' }

/** From the thread. A job ends with `result` or `error`. */
export type Report =
  | { readonly kind: 'progress'; readonly value: unknown }
  | { readonly kind: 'result'; readonly value: unknown }
  | { readonly kind: 'error'; readonly error: SentError }

/** An error as a plain value; `family` is absent for errors that are not FlexMesh's: faults of the program. */
interface SentError {
  readonly family?: FlexMeshError['family']
  readonly code?: string
  readonly message: string
  readonly stack: string
  readonly fields?: Readonly<Record<string, unknown>>
}

const FAMILIES: Readonly<
  Record<FlexMeshError['family'], new (code: never, message: string, fields?: never) => FlexMeshError>
> = {
  format: FormatError,
  verification: VerificationError,
  policy: PolicyError,
  exchange: ExchangeError,
  input: InputError,
}

/** @throws TypeError for anything else than an order. */
export function readOrder(message: unknown): Order {
  const { kind, job, request } = recordOf(message)
  if (kind === 'abort') return { kind }
  if (kind === 'run' && typeof job === 'string') return { kind, job, request }
  throw new TypeError('a job thread received a message that is no order')
}

/** @throws TypeError for anything else than a report. */
export function readReport(message: unknown): Report {
  const { kind, value, error } = recordOf(message)
  if (kind === 'progress' || kind === 'result') return { kind, value }
  if (kind === 'error') {
    const { message: text, stack } = recordOf(error)
    if (typeof text === 'string' && typeof stack === 'string') return { kind, error: error as SentError }
  }
  throw new TypeError('a job thread sent a message that is no report')
}

function recordOf(value: unknown): Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null ? (value as Record<string, unknown>) : {}
}

export function sentError(error: unknown): SentError {
  if (error instanceof FlexMeshError) {
    const { family, code, message, stack = '', fields } = error
    return { family, code, message, stack, fields: JSON.parse(JSON.stringify(fields)) }
  }
  if (error instanceof Error) return { message: error.message, stack: error.stack ?? '' }
  return { message: String(error), stack: '' }
}

/** The error that `sentError` described. */
export function receivedError({ family, code, message, stack, fields }: SentError): Error {
  const Family = family === undefined ? undefined : FAMILIES[family]
  const error =
    Family === undefined ? new Error(message) : new Family(code as never, message, fields as never)
  error.stack = stack
  return error
}

/**
 * The memory that a result can hand over to the other thread instead of being copied: every large buffer in it.
 * The sender cannot use these buffers any more.
 */
export function transferable(value: unknown, found = new Set<ArrayBuffer>()): Set<ArrayBuffer> {
  if (ArrayBuffer.isView(value)) {
    // Node's shared pool for small buffers cannot be transferred.
    const { buffer } = value
    if (buffer instanceof ArrayBuffer && buffer.byteLength > Buffer.poolSize) found.add(buffer)
  } else if (value instanceof Map || Array.isArray(value)) {
    for (const item of value.values()) transferable(item, found)
  } else if (typeof value === 'object' && value !== null) {
    for (const item of Object.values(value)) transferable(item, found)
  }
  return found
}
