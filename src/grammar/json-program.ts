/**
 * Programs that read the JSON texts of a schema: compact, with at most one space after each comma and colon, and with
 * properties in the order of the schema. Implements protocols/inference-api, section "JSON schemas". Knows nothing about
 * tokens.
 */
import { FormatError } from '../lib/errors.ts'
import { limit } from '../lib/limits.ts'
import { anyNumber, decimals, integers, isUnbounded } from './numbers.ts'
import { type Piece, type Program, ProgramBuilder } from './program.ts'
import { SchemaReader } from './schema.ts'
import { characters, furtherKey } from './strings.ts'
import type { Form, Schema } from './typed-forms.ts'

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
      this.#b.text('"')(characters(this.#b, { min, max, withEscapes: true }, this.#b.end)),
    )
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
      const names = properties.map(({ name }) => name)
      const another = furtherKey(b, names, this.#colon(more(later)))
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
