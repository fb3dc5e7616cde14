/**
 * What a JSON schema says about values of one type: its bounds, its properties, its items. Knows nothing about references
 * and combined schemas.
 */
import type { FormatError } from '../lib/errors.ts'
import { type Bounds, isExactBound, UNBOUNDED } from './numbers.ts'

export type JsonObject = Readonly<Record<string, unknown>>

/** What a value may be. */
export type Form =
  | { readonly kind: 'any' }
  | { readonly kind: 'never' }
  /** One of these values. */
  | { readonly kind: 'values'; readonly values: readonly unknown[] }
  | { readonly kind: 'string'; readonly min: number; readonly max: number }
  | { readonly kind: 'integer' | 'number'; readonly bounds: Bounds }
  | { readonly kind: 'boolean' | 'null' }
  | {
      readonly kind: 'object'
      /** In the order in which they are written. */
      readonly properties: readonly {
        readonly name: string
        readonly value: Schema
        readonly required: boolean
      }[]
      /** Further properties; undefined if there are none. */
      readonly more: Schema | undefined
    }
  | {
      readonly kind: 'array'
      /** The first items. All of them are written unless `max` is smaller. */
      readonly first: readonly Schema[]
      /** Further items; undefined if there are none. */
      readonly items: Schema | undefined
      readonly min: number
      readonly max: number
    }
  | { readonly kind: 'either'; readonly forms: readonly Schema[] }

/** A schema that has been checked to be an object or a boolean, and where it is. */
export interface Schema {
  readonly value: JsonObject | boolean
  /** JSON pointer (RFC 6901) within the whole schema. */
  readonly at: string
}

/** Keywords that say something about values of one type only. */
export const OF_TYPE: Readonly<Record<string, readonly string[]>> = {
  string: ['minLength', 'maxLength'],
  number: ['minimum', 'maximum', 'exclusiveMinimum', 'exclusiveMaximum'],
  object: ['properties', 'required', 'additionalProperties'],
  array: ['items', 'prefixItems', 'minItems', 'maxItems'],
}
const TYPES = ['string', 'number', 'integer', 'boolean', 'null', 'object', 'array'] as const
export type Type = (typeof TYPES)[number]

/** What a schema is read with. */
export interface SchemaContext {
  /** Checks that a value may be a schema. @throws FormatError */
  child(value: unknown, at: string): Schema
  /** A list of schemas. @throws FormatError */
  list(value: JsonObject, name: string, at: string): Schema[]
  refusal(at: string, message: string): FormatError
}

/** Reads the keywords of types. */
export class TypedForms {
  readonly #context: SchemaContext

  constructor(context: SchemaContext) {
    this.#context = context
  }

  /** Whether one of the listed values has a type, and is within the bounds of that type. */
  fits(schema: JsonObject, type: Type, value: unknown, at: string): boolean {
    if (!isOfType(value, type)) return false
    const form = this.ofType(without(schema, ['enum', 'const']), type, at)
    if (form.kind === 'string') {
      const length = Array.from(value as string).length
      return length >= form.min && length <= form.max
    }
    if (form.kind !== 'number' && form.kind !== 'integer') return true
    const { min, max, aboveMin, belowMax } = form.bounds
    const number = value as number
    return (aboveMin ? number > min : number >= min) && (belowMax ? number < max : number <= max)
  }

  /** Undefined for a schema that says nothing about types. A keyword of one type stands for this type. */
  types(value: JsonObject, at: string): readonly Type[] | undefined {
    const { type } = value
    if (type === undefined) {
      const implied = Object.entries(OF_TYPE).filter(([, keywords]) => keywords.some((name) => name in value))
      return implied.length === 0 ? undefined : implied.map(([name]) => name as Type)
    }
    const list: readonly unknown[] = Array.isArray(type) ? type : [type]
    const unknown = list.find((one) => !TYPES.includes(one as Type))
    if (unknown !== undefined || list.length === 0)
      throw this.#context.refusal(at, `type: expected one or some of ${TYPES.join(', ')}`)
    return list as readonly Type[]
  }

  ofType(value: JsonObject, type: Type, at: string): Form {
    switch (type) {
      case 'string':
        return this.#range(
          'string',
          this.#count(value, 'minLength', 0, at),
          this.#count(value, 'maxLength', Infinity, at),
        )
      case 'integer':
      case 'number':
        return { kind: type, bounds: this.#bounds(value, at) }
      case 'boolean':
      case 'null':
        return { kind: type }
      case 'object':
        return this.#object(value, at)
      case 'array':
        return this.#array(value, at)
    }
  }

  #range(kind: 'string', min: number, max: number): Form {
    return min > max ? { kind: 'never' } : { kind, min, max }
  }

  #count(value: JsonObject, name: string, absent: number, at: string): number {
    const count = value[name]
    if (count === undefined) return absent
    if (typeof count !== 'number' || !Number.isSafeInteger(count) || count < 0)
      throw this.#context.refusal(at, `${name}: expected a whole number from 0`)
    return count
  }

  #bounds(value: JsonObject, at: string): Bounds {
    const bound = (name: string): number | undefined => {
      const given = value[name]
      if (given === undefined) return undefined
      if (typeof given !== 'number') throw this.#context.refusal(at, `${name}: expected a number`)
      // Whole numbers are compared exactly up to the largest that a float holds.
      const isInteger = value['type'] === 'integer'
      if (!isInteger && !isExactBound(given))
        throw this.#context.refusal(
          at,
          `${name}: expected at most six decimals and less than 10^9, got ${given}`,
        )
      return given
    }
    const { min, max } = UNBOUNDED
    const [low, aboveLow] = [bound('minimum') ?? min, bound('exclusiveMinimum') ?? min]
    const [high, belowHigh] = [bound('maximum') ?? max, bound('exclusiveMaximum') ?? max]
    return {
      min: Math.max(low, aboveLow),
      aboveMin: aboveLow >= low && aboveLow > min,
      max: Math.min(high, belowHigh),
      belowMax: belowHigh <= high && belowHigh < max,
    }
  }

  #object(value: JsonObject, at: string): Form {
    const { properties = {}, required = [], additionalProperties: more } = value
    if (typeof properties !== 'object' || properties === null || Array.isArray(properties))
      throw this.#context.refusal(at, 'properties: expected an object')
    if (!Array.isArray(required) || !required.every((name) => typeof name === 'string'))
      throw this.#context.refusal(at, 'required: expected a list of names')
    const names = new Set<string>(required)
    const rest = more === undefined ? undefined : this.#context.child(more, `${at}/additionalProperties`)
    const listed = Object.entries(properties).map(([name, schema]) => ({
      name,
      value: this.#context.child(schema, `${at}/properties/${escaped(name)}`),
      required: names.has(name),
    }))
    const unlisted = [...names].filter((name) => !Object.hasOwn(properties, name))
    return {
      kind: 'object',
      properties: [
        ...listed,
        ...unlisted.map((name) => ({ name, value: rest ?? { value: true, at }, required: true })),
      ],
      // Objects of which nothing is known are free. To others, nothing is added that was not asked for.
      more: rest ?? (listed.length + unlisted.length === 0 ? { value: true, at } : undefined),
    }
  }

  #array(value: JsonObject, at: string): Form {
    const { items } = value
    if (Array.isArray(items))
      throw this.#context.refusal(
        at,
        'items: expected a schema; the schemas of the first items belong into prefixItems',
      )
    const first = value['prefixItems'] === undefined ? [] : this.#context.list(value, 'prefixItems', at)
    const min = this.#count(value, 'minItems', 0, at)
    const max = this.#count(value, 'maxItems', Infinity, at)
    const known = items === undefined ? undefined : this.#context.child(items, `${at}/items`)
    const isFree = known === undefined && (first.length === 0 || min > first.length)
    const rest = isFree ? { value: true, at } : known
    const isNever = min > max || (min > first.length && rest?.value === false)
    return isNever
      ? { kind: 'never' }
      : { kind: 'array', first, items: rest?.value === false ? undefined : rest, min, max }
  }
}

function isOfType(value: unknown, type: Type): boolean {
  if (type === 'null') return value === null
  if (type === 'array') return Array.isArray(value)
  if (type === 'object') return typeof value === 'object' && value !== null && !Array.isArray(value)
  if (type === 'integer') return Number.isInteger(value)
  return typeof value === type
}

export function without(value: JsonObject, names: readonly string[]): JsonObject {
  return Object.fromEntries(Object.entries(value).filter(([name]) => !names.includes(name)))
}

function escaped(name: string): string {
  return name.replaceAll('~', '~0').replaceAll('/', '~1')
}
