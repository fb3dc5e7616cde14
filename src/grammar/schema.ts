/**
 * A JSON schema as the grammar can follow it: a tree of simple forms. Every keyword of a schema is either followed or
 * refused by its name, never ignored. Implements protocols/inference-api, section "JSON schemas". Does not know tokens
 * and automata.
 */
import { FormatError } from '../lib/errors.ts'
import { limit } from '../lib/limits.ts'
import { isDisjoint } from './disjoint.ts'
import { mergeSchemas } from './merge.ts'
import { type Form, type JsonObject, OF_TYPE, type Schema, TypedForms, without } from './typed-forms.ts'

const ANNOTATIONS = new Set([
  ...[
    'title',
    'description',
    'default',
    'examples',
    'deprecated',
    'readOnly',
    'writeOnly',
    '$comment',
    '$schema',
  ],
  ...['$defs', 'definitions', '$id'],
])
const COMBINING = ['anyOf', 'oneOf', 'allOf', '$ref', 'enum', 'const', 'type'] as const
const SUPPORTED = new Set<string>([...ANNOTATIONS, ...Object.values(OF_TYPE).flat(), ...COMBINING])
/** Maximum number of schemas of `oneOf`, each of which is compared with all others. */
const MAX_ONE_OF = 256
/** Maximum number of times that `allOf` may lead to another one. */
const MAX_STEPS = 64

/** Why some keywords are refused, for people. */
const INSTEAD: Readonly<Record<string, string>> = {
  pattern: 'describe the text in words, or list the texts in enum',
  format: 'describe the format in words in description',
  patternProperties: 'use additionalProperties',
  multipleOf: 'list the numbers in enum',
  uniqueItems: 'ask for different items in words',
  not: 'list what is allowed in anyOf',
}

/** Reads one schema document. Schemas that refer to one another are read as often as they are needed. */
export class SchemaReader {
  readonly #root: JsonObject | boolean
  readonly #param: string
  readonly #typed: TypedForms
  readonly #perKey = new Map<object, Map<string, JsonObject>>()
  readonly #merged = new Map<object, Map<object, JsonObject>>()

  /**
   * @param param member of the request that holds the schema, for errors
   * @throws FormatError `bad-field`, `too-large`
   */
  constructor(root: unknown, param: string) {
    this.#param = param
    this.#typed = new TypedForms({
      child: (value, at) => this.#child(value, at),
      list: (value, name, at) => this.#list(value, name, at),
      refusal: (at, message) => this.#refusal(at, message),
    })
    const size = JSON.stringify(root)?.length ?? 0
    if (size > limit('schemaCharacters'))
      throw new FormatError(
        'too-large',
        `${param}: expected a schema of at most ${limit('schemaCharacters')} characters, got ${size}`,
        { param },
      )
    this.#root = this.#check(root, '#')
  }

  get root(): Schema {
    return { value: this.#root, at: '#' }
  }

  /**
   * What a schema allows. Alternatives and references are resolved, so equal schemas of a recursion are one object.
   * @throws FormatError `bad-field` for a schema that is wrong or not supported
   */
  form(schema: Schema, steps = 0): Form {
    const { value, at } = schema
    if (value === true) return { kind: 'any' }
    if (value === false) return { kind: 'never' }
    this.#checkKeywords(value, at)
    if ('$ref' in value) return this.form(this.#resolved(schema))
    if ('allOf' in value) {
      if (steps > MAX_STEPS)
        throw this.#refusal(at, 'allOf: the schemas lead to themselves or are nested too deep')
      return this.form(this.#all(value, at), steps + 1)
    }
    for (const name of ['anyOf', 'oneOf'] as const) if (name in value) return this.#either(value, name, at)
    if ('enum' in value || 'const' in value) return this.#values(value, at)
    const types = this.#typed.types(value, at)
    if (types === undefined) return { kind: 'any' }
    const forms = types.map((type) => this.#typed.ofType(value, type, at))
    const [only] = forms
    if (forms.length === 1 && only !== undefined) return only
    return {
      kind: 'either',
      forms: types.map((type) => this.#derived(value, type, { ...without(value, ['type']), type }, at)),
    }
  }

  /** A schema that is computed from another one, once, so that recursion meets the same object again. */
  #derived(from: object, key: string, value: JsonObject, at: string): Schema {
    const known = this.#perKey.get(from) ?? new Map<string, JsonObject>()
    this.#perKey.set(from, known)
    const result = known.get(key) ?? value
    known.set(key, result)
    return { value: result, at }
  }

  #check(value: unknown, at: string): JsonObject | boolean {
    if (typeof value === 'boolean') return value
    if (typeof value !== 'object' || value === null || Array.isArray(value))
      throw this.#refusal(at, 'expected a schema, which is an object or a boolean')
    return value as JsonObject
  }

  #child(value: unknown, at: string): Schema {
    return { value: this.#check(value, at), at }
  }

  #checkKeywords(value: JsonObject, at: string): void {
    for (const keyword of Object.keys(value)) {
      if (!SUPPORTED.has(keyword)) {
        const instead = Object.hasOwn(INSTEAD, keyword) ? `; ${INSTEAD[keyword]}` : '; leave it out'
        throw this.#refusal(at, `keyword "${keyword.slice(0, 40).toWellFormed()}" is not supported${instead}`)
      }
      if (keyword === '$id' && at !== '#')
        throw this.#refusal(at, 'keyword "$id" is supported at the root only')
    }
  }

  #refusal(at: string, message: string): FormatError {
    const place = at.length > 200 ? `${at.slice(0, 200)}...` : at
    return new FormatError('bad-field', `${this.#param} at ${place.toWellFormed()}: ${message}`, {
      param: this.#param,
    })
  }

  /** The one schema that says what all of `allOf` and its neighbours say. */
  #all(value: JsonObject, at: string): Schema {
    const list = this.#list(value, 'allOf', at)
    const rest = without(value, ['allOf'])
    const isAlone = Object.keys(rest).every((keyword) => ANNOTATIONS.has(keyword))
    const parts = list.map((part) => this.#resolved(part))
    const all = isAlone ? parts : [this.#derived(value, 'rest of allOf', rest, at), ...parts]
    const [first, ...others] = all
    return others.reduce((merged, part) => this.#merge(merged, part), first as Schema)
  }

  #merge(a: Schema, b: Schema): Schema {
    if (typeof a.value === 'boolean') return a.value ? b : a
    if (typeof b.value === 'boolean') return b.value ? a : b
    const known = this.#merged.get(a.value) ?? new Map<object, JsonObject>()
    this.#merged.set(a.value, known)
    const merged =
      known.get(b.value) ??
      mergeSchemas(a.value, b.value, ANNOTATIONS, (message) => this.#refusal(b.at, `allOf: ${message}`))
    known.set(b.value, merged)
    return { value: merged, at: a.at }
  }

  /** A schema in place of references to it. */
  #resolved(schema: Schema): Schema {
    let current = schema
    for (let steps = 0; typeof current.value === 'object' && '$ref' in current.value; steps++) {
      this.#checkKeywords(current.value, current.at)
      if (steps > limit('grammarDepth')) throw this.#refusal(schema.at, '$ref: the reference leads to itself')
      current = this.#referred(current.value, current.at)
    }
    return current
  }

  #referred(value: JsonObject, at: string): Schema {
    const other = Object.keys(value).find((keyword) => keyword !== '$ref' && !ANNOTATIONS.has(keyword))
    if (other !== undefined)
      throw this.#refusal(at, `keyword "${other}" is not supported beside $ref; put both into allOf`)
    const { $ref: reference } = value
    if (typeof reference !== 'string' || !reference.startsWith('#'))
      throw this.#refusal(at, '$ref: expected a reference within the schema, such as "#/$defs/name"')
    let target: unknown = this.#root
    for (const step of pointerSteps(reference)) {
      const has = typeof target === 'object' && target !== null && Object.hasOwn(target, step)
      if (!has) throw this.#refusal(at, `$ref: "${reference.slice(0, 100).toWellFormed()}" does not exist`)
      target = (target as Record<string, unknown>)[step]
    }
    return this.#child(target, reference)
  }

  #either(value: JsonObject, name: 'anyOf' | 'oneOf', at: string): Form {
    const list = this.#list(value, name, at)
    const rest = without(value, [name])
    const isAlone = Object.keys(rest).every((keyword) => ANNOTATIONS.has(keyword))
    const forms = list.map((part, i) =>
      isAlone
        ? part
        : this.#merge(
            this.#derived(value, `rest of ${name}`, rest, at),
            this.#resolved({ ...part, at: `${at}/${name}/${i}` }),
          ),
    )
    if (name === 'oneOf') this.#requireDisjoint(forms, at)
    const resolved = forms.map((form) => this.#resolved(form))
    const areValues = resolved.every(
      ({ value: part }) =>
        typeof part === 'object' && ('enum' in part || 'const' in part) && !('anyOf' in part),
    )
    if (!areValues) return { kind: 'either', forms }
    // Listed texts share their beginnings in the automaton, alternatives do not.
    const simple = resolved.map((part) => this.form(part))
    return { kind: 'values', values: simple.flatMap((form) => (form.kind === 'values' ? form.values : [])) }
  }

  #requireDisjoint(forms: readonly Schema[], at: string): void {
    if (forms.length > MAX_ONE_OF) throw this.#refusal(at, `oneOf: expected at most ${MAX_ONE_OF} schemas`)
    forms.forEach((a, i) => {
      for (const b of forms.slice(i + 1)) {
        if (
          !isDisjoint(
            this.#resolved(a).value,
            this.#resolved(b).value,
            (part) => this.#resolved({ value: part, at }).value,
          )
        )
          throw this.#refusal(
            at,
            'oneOf: a value could match two of the schemas; use anyOf, or give each a required property with a const of its own',
          )
      }
    })
  }

  #list(value: JsonObject, name: string, at: string): Schema[] {
    const list = value[name]
    if (!Array.isArray(list) || list.length === 0)
      throw this.#refusal(at, `${name}: expected a list of schemas`)
    return list.map((part: unknown, i) => this.#child(part, `${at}/${name}/${i}`))
  }

  #values(value: JsonObject, at: string): Form {
    const { enum: list } = value
    if ('enum' in value && (!Array.isArray(list) || list.length === 0))
      throw this.#refusal(at, 'enum: expected a list of values')
    const constant = 'const' in value ? [value['const']] : undefined
    const values = (list as unknown[] | undefined) ?? (constant as unknown[])
    const types = this.#typed.types(without(value, ['enum', 'const']), at)
    const unfit = Object.keys(value).find(
      (keyword) => OF_TYPE['object']?.includes(keyword) || OF_TYPE['array']?.includes(keyword),
    )
    if (unfit !== undefined)
      throw this.#refusal(at, `keyword "${unfit}" is not supported beside enum and const`)
    const fitting = values.filter(
      (one) =>
        (types === undefined || types.some((type) => this.#typed.fits(value, type, one, at))) &&
        (constant === undefined || JSON.stringify(one) === JSON.stringify(constant[0])),
    )
    return fitting.length === 0 ? { kind: 'never' } : { kind: 'values', values: fitting }
  }
}

/** The steps of a reference such as `#/$defs/a~1b` (RFC 6901, section 6). */
function pointerSteps(reference: string): string[] {
  return reference
    .slice(1)
    .split('/')
    .slice(1)
    .map((step) => safelyDecoded(step).replaceAll('~1', '/').replaceAll('~0', '~'))
}

function safelyDecoded(step: string): string {
  try {
    return decodeURIComponent(step)
  } catch {
    return step
  }
}
