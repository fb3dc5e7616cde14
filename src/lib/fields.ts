/**
 * Typed reader of an untrusted object: returns its fields after checking them, and `end()` refuses fields that were
 * not read. Knows nothing about what a field means.
 */
import { type Digest, parseDigest } from './bytes.ts'
import { FormatError } from './errors.ts'

/** Characters of a text that an error message repeats. */
const SHOWN_CHARACTERS = 40

export class Fields {
  readonly #object: Readonly<Record<string, unknown>>
  readonly #title: string
  readonly #seen = new Set<string>()

  /** @throws FormatError `bad-field` if `value` is not a plain object. */
  constructor(value: unknown, title: string) {
    if (typeof value !== 'object' || value === null || Array.isArray(value)) {
      throw new FormatError('bad-field', `${title}: expected an object, got ${found(value)}`)
    }
    this.#object = value as Record<string, unknown>
    this.#title = title
  }

  has(name: string): boolean {
    return Object.hasOwn(this.#object, name)
  }

  text(name: string, maxLength: number, pattern?: RegExp): string {
    const value = this.#take(name)
    if (typeof value !== 'string' || value.length > maxLength || value.length === 0) {
      this.#fail(name, `text of 1 to ${maxLength} characters`, value)
    }
    if (pattern !== undefined && !pattern.test(value)) this.#fail(name, `text matching ${pattern}`, value)
    return value
  }

  literal<T extends string | number>(name: string, ...allowed: readonly T[]): T {
    const value = this.#take(name)
    const found = allowed.find((item) => item === value)
    if (found === undefined) this.#fail(name, allowed.map(String).join(' or '), value)
    return found
  }

  uint(name: string, max = Number.MAX_SAFE_INTEGER, min = 0): number {
    const value = this.#take(name)
    if (typeof value !== 'number' || !Number.isSafeInteger(value) || value < min || value > max) {
      this.#fail(name, `an integer from ${min} to ${max}`, value)
    }
    return value
  }

  /** A decimal number. Statements and frames have none; files of this machine may. */
  number(name: string, min: number, max: number): number {
    const value = this.#take(name)
    if (typeof value !== 'number' || !(value >= min && value <= max)) {
      this.#fail(name, `a number from ${min} to ${max}`, value)
    }
    return value
  }

  bool(name: string): boolean {
    const value = this.#take(name)
    if (typeof value !== 'boolean') this.#fail(name, 'true or false', value)
    return value
  }

  digest(name: string): Digest {
    const value = this.#take(name)
    if (typeof value !== 'string') this.#fail(name, 'a digest', value)
    return parseDigest(value, `${this.#title}.${name}`)
  }

  bytes(name: string, length: number | { max: number }): Uint8Array {
    const value = this.#take(name)
    const fits =
      value instanceof Uint8Array &&
      (typeof length === 'number' ? value.length === length : value.length <= length.max)
    if (!fits)
      this.#fail(name, typeof length === 'number' ? `${length} bytes` : `at most ${length.max} bytes`, value)
    return value as Uint8Array
  }

  object(name: string): Fields {
    return new Fields(this.#take(name), `${this.#title}.${name}`)
  }

  list<T>(name: string, max: number, read: (item: unknown, title: string) => T, min = 0): T[] {
    const value = this.#take(name)
    if (!Array.isArray(value) || value.length > max || value.length < min) {
      this.#fail(name, `a list of ${min} to ${max} items`, value)
    }
    return value.map((item, index) => read(item, `${this.#title}.${name}[${index}]`))
  }

  /** @throws FormatError `bad-field` if the object has fields that were not read. */
  end(): void {
    const unknown = Object.keys(this.#object).filter((key) => !this.#seen.has(key))
    if (unknown.length > 0) {
      throw new FormatError('bad-field', `${this.#title}: unknown field "${unknown[0]?.slice(0, 40)}"`)
    }
  }

  #take(name: string): unknown {
    this.#seen.add(name)
    return Object.hasOwn(this.#object, name) ? this.#object[name] : undefined
  }

  #fail(name: string, expected: string, value: unknown): never {
    throw new FormatError('bad-field', `${this.#title}.${name}: expected ${expected}, got ${found(value)}`, {
      field: `${this.#title}.${name}`,
    })
  }
}

/** The size of a value, or the value itself if it is short. */
function found(value: unknown): string {
  if (value === undefined) return 'nothing'
  if (typeof value === 'string') {
    const start = `"${value.slice(0, SHOWN_CHARACTERS)}"`
    return value.length <= SHOWN_CHARACTERS
      ? start
      : `text of ${value.length} characters that begins ${start}`
  }
  if (Array.isArray(value)) return `a list of ${counted(value.length, 'item')}`
  if (value instanceof Uint8Array) return counted(value.length, 'byte')
  return value !== null && typeof value === 'object' ? 'an object' : String(value)
}

function counted(count: number, noun: string): string {
  return `${count} ${noun}${count === 1 ? '' : 's'}`
}
