/**
 * Error families. The family is the kind of error, `code` is the error itself: the same word in the tables of
 * protocols/, in test vectors and in messages to the user.
 *
 * - FormatError: bytes do not have the format that a specification demands.
 * - VerificationError: well formed, but not authentic or different from what was signed.
 * - PolicyError: authentic, but against the policy of this node.
 * - ExchangeError: the other side or the network failed.
 * - InputError: something is wrong with the user's files, settings or machine; the message says what to do next.
 */
export const FORMAT_CODES = [
  'too-large',
  'not-json',
  'not-canonical',
  'not-cbor',
  'bad-field',
  'bad-envelope',
  'bad-safetensors',
  'truncated',
] as const

export const VERIFICATION_CODES = [
  'wrong-type',
  'unsigned',
  'bad-signature',
  'weak-key',
  'not-a-member',
  'wrong-signer',
  'not-committed',
  'wrong-consortium',
  'wrong-digest',
  'wrong-public-model',
  'replayed',
  'forked',
  'expired',
  'not-yet-valid',
  'withdrawn',
  'bad-proof',
  'not-final',
] as const

export const POLICY_CODES = [
  'tensor-name',
  'tensor-shape',
  'tensor-dtype',
  'not-finite',
  'norm-bound',
  'router-norm',
  'statistics-documents',
  'statistics-shares',
  'privacy-statement',
  'privacy-required',
  'load-share',
  'gate-share',
  'harms-public',
  'harms-own',
  'refused-by-operator',
  'quota',
  'file-role',
] as const

export const EXCHANGE_CODES = [
  'unreachable',
  'timeout',
  'refused',
  'quota',
  'not-found',
  'protocol',
  'aborted',
] as const

export const INPUT_CODES = [
  'usage',
  'not-found',
  'not-a-file',
  'empty',
  'too-small',
  'not-text',
  'not-a-model',
  'home-in-use',
  'no-home',
  'newer-home',
  'not-running',
  'exists',
  'port-in-use',
  'disk-full',
  'wrong-passphrase',
  'permissions',
  'not-a-member',
  'mismatch',
  'engine-missing',
  'not-acceptable',
  'audit-failed',
  'over-budget',
  'behind',
  'out-of-memory',
  'worker-ended',
  'interrupted',
  'io',
] as const

export type FormatCode = (typeof FORMAT_CODES)[number]
export type VerificationCode = (typeof VERIFICATION_CODES)[number]
export type PolicyCode = (typeof POLICY_CODES)[number]
export type ExchangeCode = (typeof EXCHANGE_CODES)[number]
export type InputCode = (typeof INPUT_CODES)[number]

/** Base class of all families. `fields` are data for logs and JSON, never secrets. */
export abstract class FlexMeshError<C extends string = string> extends Error {
  abstract readonly family: 'format' | 'verification' | 'policy' | 'exchange' | 'input'
  readonly code: C
  readonly fields: Readonly<Record<string, unknown>>

  constructor(code: C, message: string, fields: Record<string, unknown> = {}, cause?: unknown) {
    super(message, cause === undefined ? undefined : { cause })
    this.name = new.target.name
    this.code = code
    this.fields = fields
  }
}

export class FormatError extends FlexMeshError<FormatCode> {
  readonly family = 'format'
}
export class VerificationError extends FlexMeshError<VerificationCode> {
  readonly family = 'verification'
}
export class PolicyError extends FlexMeshError<PolicyCode> {
  readonly family = 'policy'
}
export class ExchangeError extends FlexMeshError<ExchangeCode> {
  readonly family = 'exchange'
}
export class InputError extends FlexMeshError<InputCode> {
  readonly family = 'input'
}

/** True for errors that Node raises with a `code` such as ENOENT. */
export function hasErrno(error: unknown, ...codes: string[]): boolean {
  return (
    error instanceof Error && 'code' in error && typeof error.code === 'string' && codes.includes(error.code)
  )
}
