/**
 * Readers for the members of a request body. Each returns the value of a member, or refuses it by its name. `null` is
 * the same as an absent member. Knows nothing about which members a request has.
 */
import { FormatError } from '../lib/errors.ts'

/** Maximum number of characters of a name that an error message or an answer repeats. */
const MAX_SHOWN = 40

type Range = readonly [min: number, max: number]

/** The members of an object. @throws FormatError `bad-field` */
export function record(value: unknown, param: string, expected: string): Record<string, unknown> {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) throw bad(param, expected)
  return value as Record<string, unknown>
}

/**
 * A text without halves of characters, which no text of a client's file or keyboard has.
 * @throws FormatError `bad-field`
 */
export function text(value: unknown, param: string, [min, max]: Range): string {
  if (typeof value !== 'string' || value.length < min || value.length > max)
    throw bad(param, `text of ${min} to ${max} characters`)
  if (!value.isWellFormed()) throw bad(param, 'text in Unicode, got half of a surrogate pair')
  return value
}

/** @throws FormatError `bad-field` */
export function number(value: unknown, param: string, [min, max]: Range, absent: number): number {
  if (value === undefined || value === null) return absent
  if (typeof value === 'number' && value >= min && value <= max) return value
  throw bad(param, `a number from ${min} to ${max}`)
}

/** @throws FormatError `bad-field` */
export function integer(value: unknown, param: string, [min, max]: Range): number | undefined {
  if (value === undefined || value === null) return undefined
  if (typeof value === 'number' && Number.isSafeInteger(value) && value >= min && value <= max) return value
  throw bad(param, `a whole number from ${min} to ${max}`)
}

/** @throws FormatError `bad-field` */
export function boolean(value: unknown, param: string): boolean {
  if (value === undefined || value === null) return false
  if (typeof value !== 'boolean') throw bad(param, 'true or false')
  return value
}

/** A name that a client chose, short enough to repeat. */
export function shown(name: string): string {
  return name.slice(0, MAX_SHOWN).toWellFormed()
}

/** @param param name of the wrong member, which the error repeats in `fields.param` */
export function bad(param: string, expected: string): FormatError {
  return new FormatError('bad-field', `${param}: expected ${expected}`, { param })
}
