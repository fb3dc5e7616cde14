/**
 * Programs that read the JSON texts of a schema: compact, with at most one space after each comma and colon, and with
 * properties in the order of the schema. Implements protocols/inference-api, section "JSON schemas". Knows nothing about
 * tokens.
 */
import { FormatError } from '../lib/errors.ts'
import { limit } from '../lib/limits.ts'
import { anyNumber, decimals, integers, isUnbounded } from './numbers.ts'
import { type Edge, type Piece, type Program, ProgramBuilder } from './program.ts'
import { type Form, type Schema, SchemaReader } from './schema.ts'
import { secondByte } from './token-trie.ts'

/** Number of bytes of a listed name that a further key may share with it. */
const MAX_FOLLOWED = 64

/** Adds rules for the values of schemas to a program. */
export class JsonRules {
  readonly #b: ProgramBuilder
  readonly #param: string
  readonly #rules = new Map<object, number>()
  /** Rules that many schemas need, by name. */
  readonly #shared = new Map<string, number>()
  /** Rules that have a number and no nodes yet. */
  readonly #open: { readonly id: number; readonly reader: SchemaReader; readonly schema: Schema }[] = []
  readonly #space: Piece
  readonly #colon: Piece

  constructor(builder: ProgramBuilder, param: string) {
    this.#b = builder
    this.#param = param
    this.#space = builder.optional(builder.text(' '))
    this.#colon = builder.sequence(builder.text(':'), this.#space)
  }

  /**
   * The rule for the values of a schema.
   * @throws FormatError `bad-field` for a schema that is wrong, not supported, or that no finite value follows;
   * `too-large`
   */
  schema(schema: unknown): number {
    const reader = new SchemaReader(schema, this.#param)
    const rule = this.#rule(reader, reader.root)
    for (let next = this.#open.pop(); next !== undefined; next = this.#open.pop()) {
      const start = this.#value(next.reader, next.reader.form(next.schema))
      this.#b.set(next.id, { kind: 'fork', to: [start] })
    }
    return rule
  }

  /** The rule for any object. */
  object(): number {
    return this.#object((then) => this.#b.call(this.any(), then))
  }

  /** The rule for any value. */
  any(): number {
    const known = this.#shared.get('any')
    if (known !== undefined) return known
    const b = this.#b
    const rule = b.reserve()
    this.#shared.set('any', rule)
    const item: Piece = (then) => b.call(rule, then, 'next')
    const values = [
      this.string(0, Number.POSITIVE_INFINITY),
      this.#once('number', () => anyNumber(b)(b.end)),
      b.anyText(['true', 'false', 'null'])(b.end),
      this.object(),
      this.#items(item, 0, Number.POSITIVE_INFINITY, [])(b.end),
    ]
    b.set(rule, { kind: 'fork', to: values })
    return rule
  }

  #once(name: string, build: () => number): number {
    const rule = this.#shared.get(name) ?? build()
    this.#shared.set(name, rule)
    return rule
  }

  /** The rule that nothing follows. */
  #never(): number {
    return this.#once('never', () => this.#b.add({ kind: 'fork', to: [] }))
  }

  #rule(reader: SchemaReader, schema: Schema): number {
    if (schema.value === true) return this.any()
    const key = typeof schema.value === 'object' ? schema.value : this.#b
    const known = this.#rules.get(key)
    if (known !== undefined) return known
    const id = this.#b.reserve()
    this.#rules.set(key, id)
    this.#open.push({ id, reader, schema })
    return id
  }

  /** The first node of a rule for the values of a form. */
  #value(reader: SchemaReader, form: Form): number {
    const b = this.#b
    switch (form.kind) {
      case 'any':
        return this.any()
      case 'never':
        return this.#never()
      case 'values':
        return b.anyText(form.values.map((value) => JSON.stringify(value)))(b.end)
      case 'string':
        return this.string(form.min, form.max)
      case 'integer':
      case 'number':
        return this.#number(form)
      case 'boolean':
        return this.#once('boolean', () => b.anyText(['true', 'false'])(b.end))
      case 'null':
        return this.#once('null', () => b.text('null')(b.end))
      case 'either':
        return b.add({ kind: 'fork', to: form.forms.map((one) => this.#rule(reader, one)) })
      case 'object':
        return this.#objectOf(reader, form)
      case 'array':
        return this.#array(reader, form)
    }
  }

  #number({ kind, bounds }: Extract<Form, { kind: 'integer' | 'number' }>): number {
    const b = this.#b
    if (kind === 'number' && isUnbounded(bounds)) return this.#once('number', () => anyNumber(b)(b.end))
    const { min, max, aboveMin, belowMax } = bounds
    return this.#once(`${kind} ${min} ${aboveMin} ${max} ${belowMax}`, () => {
      const piece = kind === 'integer' ? integers(b, bounds) : decimals(b, bounds)
      return piece === undefined ? this.#never() : piece(b.end)
    })
  }

  /** The rule for a string of `min` to `max` characters (code points). */
  string(min: number, max: number): number {
    return this.#once(`string ${min} ${max}`, () =>
      this.#b.text('"')(this.#characters(min, max, true, this.#b.end)),
    )
  }

  /** The characters of a string and the quote after them. */
  #characters(min: number, max: number, withEscapes: boolean, then: number): number {
    const id = this.#b.reserve()
    const edges = withEscapes ? [...this.#firstBytes(id), this.#escape(id)] : this.#firstBytes(id)
    this.#b.set(id, { kind: 'string', min, max, edges, then })
    return id
  }

  /** Edges for the first byte of every character that needs no escape (RFC 8259, section 7; RFC 3629). */
  #firstBytes(then: number): Edge[] {
    const b = this.#b
    const continued = b.oneOf([0x80, 0xbf])
    const edges: Edge[] = [
      { low: 0x20, high: 0x21, to: then },
      { low: 0x23, high: 0x5b, to: then },
      { low: 0x5d, high: 0x7f, to: then },
    ]
    const ranges = [
      [0xc2, 0xdf, 1],
      [0xe0, 0xe0, 2],
      [0xe1, 0xec, 2],
      [0xed, 0xed, 2],
      [0xee, 0xef, 2],
      [0xf0, 0xf0, 3],
      [0xf1, 0xf3, 3],
      [0xf4, 0xf4, 3],
    ] as const
    for (const [low, high, rest] of ranges) {
      const more = Array.from({ length: rest - 1 }, () => continued)
      edges.push({ low, high, to: b.sequence(b.oneOf(secondByte(low)), ...more)(then) })
    }
    return edges
  }

  /** An escape. Surrogates are left out: half of a pair is no character, and whole characters need no escape. */
  #escape(then: number): Edge {
    const b = this.#b
    const hex = b.oneOf([0x30, 0x39], [0x41, 0x46], [0x61, 0x66])
    const notD = b.oneOf([0x30, 0x39], [0x41, 0x43], [0x45, 0x46], [0x61, 0x63], [0x65, 0x66])
    const afterD = b.sequence(b.oneOf([0x44, 0x44], [0x64, 0x64]), b.oneOf([0x30, 0x37]))
    const unit = b.sequence(b.text('u'), b.either(b.sequence(notD, hex), afterD), hex, hex)
    const short = b.oneOf(...Array.from(Buffer.from('"\\/bfnrt'), (byte) => [byte, byte] as const))
    return { low: 0x5c, high: 0x5c, to: b.either(short, unit)(then) }
  }

  /** @param value reads the value of a property */
  #object(value: Piece): number {
    return this.#properties([], value)
  }

  #objectOf(reader: SchemaReader, form: Extract<Form, { kind: 'object' }>): number {
    const properties = form.properties.map((property) => ({
      ...property,
      read: (then: number) => this.#b.call(this.#rule(reader, property.value), then),
    }))
    const { more } = form
    return this.#properties(
      properties,
      more && ((then: number) => this.#b.call(this.#rule(reader, more), then)),
    )
  }

  /**
   * An object, built from its end: at each property there is a node that reads it after another one, and a node that
   * reads it as the first.
   */
  #properties(
    properties: readonly { readonly name: string; readonly required: boolean; readonly read: Piece }[],
    more: Piece | undefined,
  ): number {
    const b = this.#b
    const comma = b.sequence(b.text(','), this.#space)
    const close = b.text('}')(b.end)
    let later = close
    let first = close
    if (more !== undefined) {
      later = b.reserve()
      const another = this.#furtherKey(
        properties.map(({ name }) => name),
        more(later),
      )
      b.set(later, { kind: 'fork', to: [close, comma(another)] })
      first = b.fork(close, another)
    }
    for (const { name, required, read } of properties.toReversed()) {
      const key = b.sequence(b.text(JSON.stringify(name)), this.#colon)(read(later))
      first = required ? key : b.fork(key, first)
      later = required ? comma(key) : b.fork(comma(key), later)
    }
    return b.text('{')(first)
  }

  /**
   * A key that is none of `names`, without escapes, and the colon. Follows the names as a trie until the key differs from
   * all of them.
   */
  #furtherKey(names: readonly string[], then: number): number {
    const b = this.#b
    const after = this.#colon(then)
    const free = this.#characters(0, Number.POSITIVE_INFINITY, false, after)
    const others = this.#firstBytes(free)
    const follow = (rests: readonly Uint8Array[], isWithin: boolean, depth: number): number => {
      if (rests.length === 0) return free
      const groups = new Map<number, Uint8Array[]>()
      for (const rest of depth < MAX_FOLLOWED ? rests : []) {
        const [first] = rest
        if (first !== undefined) groups.set(first, [...(groups.get(first) ?? []), rest.subarray(1)])
      }
      const known: Edge[] = Array.from(groups, ([byte, group]) => ({
        low: byte,
        high: byte,
        to: follow(group, group.some(isContinued), depth + 1),
      }))
      // Within a character, only the names continue.
      if (isWithin) return b.add({ kind: 'bytes', edges: known })
      const isName = rests.some(({ length }) => length === 0)
      const end: Edge[] = isName ? [] : [{ low: 0x22, high: 0x22, to: after }]
      const first = [...groups.keys(), ...rests.map(([byte]) => byte).filter((byte) => byte !== undefined)]
      const differing = others.flatMap((edge) => exceptBytes(edge, [...new Set(first)]))
      return b.add({ kind: 'bytes', edges: [...known, ...differing, ...end] })
    }
    // A name that needs escapes cannot be written by a key without any.
    const plain = names.filter((name) => JSON.stringify(name) === `"${name}"`)
    return b.text('"')(
      follow(
        plain.map((name) => Buffer.from(name)),
        false,
        0,
      ),
    )
  }

  #array(reader: SchemaReader, form: Extract<Form, { kind: 'array' }>): number {
    const { first, items, min, max } = form
    const read = (schema: Schema, count: number | 'next'): Piece => {
      return (then) => this.#b.call(this.#rule(reader, schema), then, count)
    }
    const fixed = first.slice(0, max)
    const most = items === undefined ? fixed.length : max
    return this.#items(
      items && read(items, 'next'),
      min,
      most,
      fixed.map((schema, i) => read(schema, i + 1)),
    )(this.#b.end)
  }

  /**
   * An array.
   * @param item reads an item and counts it; undefined if there are only the fixed ones
   * @param fixed read the first items, and set the count
   */
  #items(item: Piece | undefined, min: number, max: number, fixed: readonly Piece[]): Piece {
    const b = this.#b
    return (then) => {
      const id = b.reserve()
      const more = item === undefined ? this.#never() : this.#space(item(id))
      b.set(id, { kind: 'items', min, max, more, end: then })
      const open = b.text('[')
      const [start, ...others] = fixed
      if (start === undefined) {
        const empty = min === 0 ? [b.text(']')(then)] : []
        const one = item === undefined || max === 0 ? [] : [item(id)]
        return open(b.add({ kind: 'fork', to: [...empty, ...one] }))
      }
      const comma = b.sequence(b.text(','), this.#space)
      return open(b.sequence(start, ...others.map((piece) => b.sequence(comma, piece)))(id))
    }
  }
}

/** Whether the next byte is not the first one of a character. */
function isContinued([byte]: Uint8Array): boolean {
  return byte !== undefined && (byte & 0xc0) === 0x80
}

/** The parts of an edge without some bytes. */
function exceptBytes(edge: Edge, bytes: readonly number[]): Edge[] {
  let parts = [edge]
  for (const byte of bytes) {
    parts = parts.flatMap((part) =>
      byte < part.low || byte > part.high
        ? [part]
        : [
            { ...part, high: byte - 1 },
            { ...part, low: byte + 1 },
          ].filter(({ low, high }) => low <= high),
    )
  }
  return parts
}

/** A program for the JSON texts of a schema. @throws FormatError as `JsonRules.schema` */
export function schemaProgram(schema: unknown, param: string): Program {
  const builder = new ProgramBuilder(param)
  return finite(builder.build(new JsonRules(builder, param).schema(schema)), param)
}

/** A program for the text of any JSON object. */
export function objectProgram(): Program {
  const builder = new ProgramBuilder('response_format')
  return builder.build(new JsonRules(builder, 'response_format').object())
}

/** @throws FormatError `bad-field` for a program without an end within the limit of depth */
export function finite(program: Program, param: string): Program {
  const depth = program.depths[program.start] as number
  if (depth <= limit('grammarDepth')) return program
  throw new FormatError(
    'bad-field',
    depth === Number.POSITIVE_INFINITY
      ? `${param}: no finite value follows the schema`
      : `${param}: every value of the schema is nested more than ${limit('grammarDepth')} deep`,
    { param },
  )
}
