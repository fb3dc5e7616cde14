/**
 * Implements protocols/expert-package (v1.0.0), section "File": the JSON header of a safetensors file. Has its own
 * parser, because JSON.parse hides a repeated key by keeping the last one. Does not know the file
 * behind the offsets or which tensors are expected.
 */
import { fromUtf8 } from '../lib/bytes.ts'
import { FormatError } from '../lib/errors.ts'
import { limit } from '../lib/limits.ts'

/** Bytes per element. */
export const DTYPE_BYTES = {
  F64: 8,
  I64: 8,
  U64: 8,
  F32: 4,
  I32: 4,
  U32: 4,
  F16: 2,
  BF16: 2,
  I16: 2,
  U16: 2,
  I8: 1,
  U8: 1,
  BOOL: 1,
} as const
export type Dtype = keyof typeof DTYPE_BYTES

/** The header's entry for one tensor; offsets count from the end of the header. */
export interface HeaderEntry {
  readonly dtype: Dtype
  readonly shape: readonly number[]
  readonly begin: number
  readonly end: number
}

export interface Header {
  readonly tensors: ReadonlyMap<string, HeaderEntry>
  readonly metadata: ReadonlyMap<string, string>
}

export const METADATA_KEY = '__metadata__'

/** @throws FormatError `bad-safetensors`; `too-large` for more tensors than the limit. */
export function parseHeader(bytes: Uint8Array): Header {
  if (bytes[0] !== 0x7b) throw bad('header: expected "{" as its first byte')
  let text: string
  try {
    text = fromUtf8(bytes)
  } catch (cause) {
    throw new FormatError('bad-safetensors', 'header: expected UTF-8', {}, cause)
  }
  return new HeaderParser(text).parse()
}

function bad(message: string): FormatError {
  return new FormatError('bad-safetensors', message)
}

function isDtype(text: string): text is Dtype {
  return Object.hasOwn(DTYPE_BYTES, text)
}

/** Recursive descent parser of exactly the grammar that the format allows, whose depth is fixed. */
class HeaderParser {
  readonly #text: string
  #at = 0

  constructor(text: string) {
    this.#text = text
  }

  parse(): Header {
    const tensors = new Map<string, HeaderEntry>()
    let metadata: Map<string, string> | undefined
    this.#members('header', (key) => {
      if (key === METADATA_KEY) {
        if (metadata !== undefined) throw bad(`header: ${METADATA_KEY} appears twice`)
        metadata = this.#metadata()
        return
      }
      if (tensors.has(key)) throw bad(`header: tensor "${show(key)}" appears twice`)
      if (tensors.size >= limit('tensorsPerFile')) {
        throw new FormatError(
          'too-large',
          `header: expected at most ${limit('tensorsPerFile')} tensors, got more`,
        )
      }
      tensors.set(key, this.#entry(key))
    })
    // The format allows only spaces as padding.
    while (this.#text[this.#at] === ' ') this.#at++
    if (this.#at !== this.#text.length) throw bad('header: expected only spaces after the closing "}"')
    return { tensors, metadata: metadata ?? new Map() }
  }

  #metadata(): Map<string, string> {
    const metadata = new Map<string, string>()
    this.#members(METADATA_KEY, (key) => {
      if (metadata.has(key)) throw bad(`${METADATA_KEY}: "${show(key)}" appears twice`)
      metadata.set(key, this.#string(METADATA_KEY))
    })
    return metadata
  }

  #entry(name: string): HeaderEntry {
    const title = `tensor "${show(name)}"`
    let dtype: Dtype | undefined
    let shape: number[] | undefined
    let offsets: number[] | undefined
    this.#members(title, (key) => {
      if (key === 'dtype' && dtype === undefined) {
        const text = this.#string(title)
        if (!isDtype(text)) throw bad(`${title}: unknown dtype "${show(text)}"`)
        dtype = text
      } else if (key === 'shape' && shape === undefined) shape = this.#integers(title)
      else if (key === 'data_offsets' && offsets === undefined) offsets = this.#integers(title)
      else throw bad(`${title}: unknown or repeated member "${show(key)}"`)
    })
    if (dtype === undefined || shape === undefined || offsets === undefined) {
      throw bad(`${title}: expected dtype, shape and data_offsets`)
    }
    const [begin, end, ...rest] = offsets as readonly number[]
    if (begin === undefined || end === undefined || rest.length > 0) {
      throw bad(`${title}: expected two data_offsets`)
    }
    return { dtype, shape, begin, end }
  }

  /** Parse one object; `member` is called after each colon and must consume the value. */
  #members(title: string, member: (key: string) => void): void {
    this.#expect('{', title)
    if (this.#accept('}')) return
    do {
      const key = this.#string(title)
      this.#expect(':', title)
      member(key)
    } while (this.#accept(','))
    this.#expect('}', title)
  }

  #integers(title: string): number[] {
    const out: number[] = []
    this.#expect('[', title)
    if (this.#accept(']')) return out
    do out.push(this.#integer(title))
    while (this.#accept(','))
    this.#expect(']', title)
    return out
  }

  #integer(title: string): number {
    this.#space()
    const start = this.#at
    for (let code = this.#code(); code >= 0x30 && code <= 0x39; code = this.#code()) this.#at++
    const digits = this.#text.slice(start, this.#at)
    const value = Number(digits)
    if (digits.length === 0 || (digits.length > 1 && digits[0] === '0') || !Number.isSafeInteger(value)) {
      throw bad(`${title}: expected a non-negative safe integer`)
    }
    return value
  }

  #string(title: string): string {
    this.#space()
    const start = this.#at
    this.#expect('"', title)
    for (let code = this.#code(); code !== 0x22; code = this.#code()) {
      if (Number.isNaN(code)) throw bad(`${title}: expected a closing quote`)
      this.#at += code === 0x5c ? 2 : 1
    }
    this.#at++
    let value: unknown
    try {
      // A single string literal has no keys to repeat, and JSON.parse has the exact rules for escapes.
      value = JSON.parse(this.#text.slice(start, this.#at))
    } catch (cause) {
      throw new FormatError('bad-safetensors', `${title}: expected a JSON string`, {}, cause)
    }
    if (typeof value !== 'string' || !value.isWellFormed()) throw bad(`${title}: lone surrogate in text`)
    return value
  }

  #expect(char: string, title: string): void {
    if (!this.#accept(char)) throw bad(`${title}: expected "${char}" at character ${this.#at} of the header`)
  }

  #accept(char: string): boolean {
    this.#space()
    if (this.#text[this.#at] !== char) return false
    this.#at++
    return true
  }

  #space(): void {
    for (let code = this.#code(); code === 0x20 || (code >= 0x09 && code <= 0x0d); code = this.#code()) {
      if (code === 0x0b || code === 0x0c) return
      this.#at++
    }
  }

  #code(): number {
    return this.#text.charCodeAt(this.#at)
  }
}

function show(text: string): string {
  return text.slice(0, 80)
}
