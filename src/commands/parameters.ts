/**
 * Parameters of commands. A parameter is declared once, with its help and its range: the command line reads it from
 * text, and the node checks it again when it arrives through the control socket. Does not know any command.
 */
import { resolve } from 'node:path'
import { FormatError, InputError } from '../lib/errors.ts'
import { Fields } from '../lib/fields.ts'
import { gigabytes, parseBytes } from '../lib/memory.ts'

const MAX_PATH = 4096

/** A command line after parsing. */
export interface Invocation {
  readonly command: string
  readonly positionals: readonly string[]
  /** Values of the options by name, without the leading "--". */
  readonly values: Readonly<Record<string, string | boolean | string[] | undefined>>
  /** Names of the options whose values come from a configuration file or a variable. Absent: none. */
  readonly configured?: ReadonlySet<string>
}

/** How an option is written on the command line. */
export interface Option {
  /** Without the leading "--". */
  readonly name: string
  readonly type: 'string' | 'boolean'
  /** May be given several times. */
  readonly multiple?: true
  /** Whether the values are paths, which are relative to the place where they are written. */
  readonly isPath?: true
  readonly help: string
}

export interface Parameter<T> {
  /** Undefined for a positional argument. */
  readonly option?: Option
  /** Maximum number of positional arguments that it reads; default: none. */
  readonly positionals?: number
  /**
   * The value on the command line as JSON, possibly as a promise; undefined if it was not given.
   * @throws InputError `usage`.
   */
  read(invocation: Invocation): unknown
  /** The value in a request. @throws FormatError `bad-field`. */
  decode(fields: Fields, key: string): T
}

/** Parameters of a command by the names that they have in a request. */
export type ParameterTable = Readonly<Record<string, Parameter<unknown>>>

/** The request that a table of parameters describes. */
export type RequestOf<T extends ParameterTable> = {
  readonly [K in keyof T]: T[K] extends Parameter<infer V> ? V : never
}

/** @throws InputError `usage`, and whatever a parameter reads from disk. */
export async function readRequest(
  parameters: ParameterTable,
  invocation: Invocation,
): Promise<Record<string, unknown>> {
  const request: Record<string, unknown> = {}
  for (const [key, parameter] of Object.entries(parameters)) {
    const value = await parameter.read(invocation)
    if (value !== undefined) request[key] = value
  }
  return request
}

/** @param title the command, for messages. @throws FormatError `bad-field`. */
export function decodeRequest<T extends ParameterTable>(
  parameters: T,
  request: unknown,
  title: string,
): RequestOf<T> {
  const fields = new Fields(request, title)
  const entries = Object.entries(parameters).map(([key, parameter]) => [key, parameter.decode(fields, key)])
  return Object.fromEntries(entries) as RequestOf<T>
}

/** A type of value with its range. */
export interface Kind<T> {
  /** @param title the option, for messages. @throws InputError `usage`. */
  parse(text: string, title: string): T
  /** @throws FormatError `bad-field`. */
  decode(fields: Fields, key: string): T
}

/** Text of 1 to `max` characters. */
export function text(max: number): Kind<string> {
  return {
    parse: (given, title) => {
      if (given.length === 0 || given.length > max) {
        throw usage(`${title}: expected text of 1 to ${max} characters, got ${given.length}`)
      }
      return given
    },
    decode: (fields, key) => fields.text(key, max),
  }
}

/** A whole number from `min` to `max`. */
export function whole(min: number, max: number): Kind<number> {
  return {
    parse: (given, title) => {
      const value = numberOf(given)
      if (!Number.isSafeInteger(value) || value < min || value > max) {
        throw usage(`${title}: expected a whole number from ${min} to ${max}, got "${given}"`)
      }
      return value
    },
    decode: (fields, key) => fields.uint(key, max, min),
  }
}

/** A decimal number, which a request holds as a whole number of thousandths from `min` to `max`. */
export function thousandths(min: number, max: number): Kind<number> {
  return parts(1000, min, max)
}

/** A decimal number, which a request holds as a whole number of parts from `min` to `max`; `scale` parts are 1. */
export function parts(scale: number, min: number, max: number): Kind<number> {
  return {
    parse: (given, title) => {
      const value = Math.round(numberOf(given) * scale)
      if (!Number.isSafeInteger(value) || value < min || value > max) {
        throw usage(`${title}: expected a number from ${min / scale} to ${max / scale}, got "${given}"`)
      }
      return value
    },
    decode: (fields, key) => fields.uint(key, max, min),
  }
}

/** As `thousandths` from 1 to `max`; the word `none` is 0. */
export function thousandthsOrNone(max: number): Kind<number> {
  const number = thousandths(1, max)
  return {
    parse: (given, title) => (given === 'none' ? 0 : number.parse(given, title)),
    decode: (fields, key) => fields.uint(key, max),
  }
}

/** A number of bytes from `min` to `max`, as in `12GB`, `12GiB` or `12000000000`. */
export function byteSize(min: number, max: number): Kind<number> {
  return {
    parse: (given, title) => {
      const value = parseBytes(given)
      if (value === undefined || value < min || value > max) {
        throw usage(
          `${title}: expected ${gigabytes(min)} to ${gigabytes(max)}, as in 12GB or 12GiB, got "${given}"`,
        )
      }
      return value
    },
    decode: (fields, key) => fields.uint(key, max, min),
  }
}

/** One of several words. */
export function oneOf<T extends string>(...words: readonly T[]): Kind<T> {
  return {
    parse: (given, title) => {
      const word = words.find((known) => known === given)
      if (word === undefined) throw usage(`${title}: expected ${alternatives(words)}, got "${given}"`)
      return word
    },
    decode: (fields, key) => fields.literal(key, ...words),
  }
}

/** A path; relative to the working directory of the command line, absolute in a request. */
export const path: Kind<string> = {
  parse: (given) => resolve(given),
  decode: (fields, key) => fields.text(key, MAX_PATH),
}

export function option<T>(name: string, help: string, kind: Kind<T>): Parameter<T | undefined> {
  return {
    option: { name, type: 'string', help, ...(isPath(kind) ? { isPath: true } : {}) },
    read: (invocation) => {
      const given = invocation.values[name]
      return typeof given === 'string' ? kind.parse(given, `--${name}`) : undefined
    },
    decode: (fields, key) => (fields.has(key) ? kind.decode(fields, key) : undefined),
  }
}

export function requiredOption<T>(name: string, help: string, kind: Kind<T>): Parameter<T> {
  const optional = option(name, help, kind)
  return {
    ...optional,
    read: (invocation) => {
      const value = optional.read(invocation)
      if (value !== undefined) return value
      throw usage(`--${name} is missing; "flexmesh ${invocation.command} --help" lists the options`)
    },
    decode: (fields, key) => kind.decode(fields, key),
  }
}

/** An option without a value: true if it was given. */
export function flag(name: string, help: string): Parameter<boolean> {
  return {
    option: { name, type: 'boolean', help },
    read: ({ values }) => (values[name] === true ? true : undefined),
    decode: (fields, key) => fields.has(key) && fields.bool(key),
  }
}

/** An option that may be given up to `most` times, each time with text of 1 to `max` characters. */
export function repeated(
  name: string,
  help: string,
  max: number,
  most: number,
): Parameter<string[] | undefined> {
  const kind = text(max)
  return {
    option: { name, type: 'string', multiple: true, help },
    read: ({ values }) => {
      const given = values[name]
      if (!Array.isArray(given)) return undefined
      if (given.length > most) throw usage(`--${name}: expected at most ${most}, got ${given.length}`)
      return given.map((one) => kind.parse(one, `--${name}`))
    },
    decode: (fields, key) =>
      fields.has(key) ? fields.list(key, most, (item, title) => textItem(item, title, max)) : undefined,
  }
}

/** Paths given with an option or after the options: `--data A B` means `--data A --data B`. */
export function paths(name: string, help: string, most: number): Parameter<string[]> {
  return {
    option: { name, type: 'string', multiple: true, help, isPath: true },
    positionals: most,
    read: (invocation) => {
      const given = givenPaths(invocation, name)
      if (given.length > most) throw usage(`--${name}: expected at most ${most} paths, got ${given.length}`)
      return given.map((one) => resolve(one))
    },
    decode: (fields, key) => fields.list(key, most, (item, title) => textItem(item, title, MAX_PATH)),
  }
}

export function givenPaths({ values, positionals }: Invocation, name: string): string[] {
  const given = values[name]
  return [...(Array.isArray(given) ? given : []), ...positionals]
}

/** The first positional argument. @param missing what to do if it was not given. */
export function positional<T>(kind: Kind<T>, missing: string): Parameter<T> {
  const optional = optionalPositional(kind)
  return {
    positionals: 1,
    read: (invocation) => {
      const value = optional.read(invocation)
      if (value === undefined) throw usage(`${invocation.command}: ${missing}`)
      return value
    },
    decode: (fields, key) => kind.decode(fields, key),
  }
}

export function optionalPositional<T>(kind: Kind<T>): Parameter<T | undefined> {
  return {
    positionals: 1,
    read: ({ command, positionals: [first] }) =>
      first === undefined ? undefined : kind.parse(first, command),
    decode: (fields, key) => (fields.has(key) ? kind.decode(fields, key) : undefined),
  }
}

/** `value` if the request does not have the parameter. */
export function withDefault<T>(parameter: Parameter<T | undefined>, value: T): Parameter<T> {
  return { ...parameter, decode: (fields, key) => parameter.decode(fields, key) ?? value }
}

export function usage(message: string): InputError {
  return new InputError('usage', message)
}

function isPath(kind: Kind<unknown>): boolean {
  return kind === path
}

/** NaN for text that is empty or not a number. */
function numberOf(given: string): number {
  return given.trim() === '' ? Number.NaN : Number(given)
}

function alternatives(words: readonly string[]): string {
  return `${words.slice(0, -1).join(', ')} or ${words.at(-1)}`
}

function textItem(item: unknown, title: string, max: number): string {
  if (typeof item === 'string' && item.length > 0 && item.length <= max) return item
  throw new FormatError('bad-field', `${title}: expected text of 1 to ${max} characters, got ${typeof item}`)
}
