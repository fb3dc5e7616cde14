/** Which schemas are followed, and which are refused and why. */
import { readFileSync } from 'node:fs'
import { describe, expect, it } from 'vitest'
import { Grammar } from '../../src/grammar/grammar.ts'
import { schemaProgram } from '../../src/grammar/json-program.ts'
import { limit } from '../../src/lib/limits.ts'
import { smallVocabulary, tokensOf } from '../support/grammar.ts'

const vocabulary = smallVocabulary(readFileSync('models/small/tokenizer.json'))
const tokenOfByte = new Map(
  vocabulary.bytes.flatMap((bytes, id) => (bytes.length === 1 ? [[bytes[0] as number, id] as const] : [])),
)

/** Whether a text follows a schema: every byte is allowed, and the end of the text after the last one. */
function follows(schema: unknown, text: string): boolean {
  const grammar = new Grammar(schemaProgram(schema, 'schema'), vocabulary)
  let state = grammar.start()
  for (const byte of Buffer.from(text)) {
    const next = grammar.after(state, tokenOfByte.get(byte) ?? -1)
    if (next === null) return false
    state = next
  }
  return tokensOf(grammar.mask(state)).some((id) => vocabulary.ends.includes(id))
}

function nested(depth: number): object {
  return depth === 0 ? { type: 'null' } : { type: 'array', items: nested(depth - 1), minItems: 1 }
}

describe('a schema', () => {
  it.each([
    ['one space after commas and colons', { type: 'object' }, '{"a": 1, "b":[1,2]}'],
    ['escapes and characters of several bytes', { type: 'string' }, '"\\u00e9 é \\n 😀"'],
    ['characters are counted, not bytes', { type: 'string', maxLength: 2 }, '"😀é"'],
    ['an escape is one character', { type: 'string', maxLength: 1 }, '"\\u00e9"'],
    ['a lower bound', { type: 'number', minimum: 0.5 }, '0.5'],
    ['a number without an upper bound', { type: 'number', minimum: 0.5 }, '123456789.5'],
    ['an integer beyond a bound that is a fraction', { type: 'integer', minimum: 1.5 }, '2'],
    ['a property of no schema that is required', { required: ['a'] }, '{"a":[null]}'],
    ['the first items alone', { type: 'array', prefixItems: [{ const: 1 }] }, '[1]'],
    ['no items', { type: 'array', items: { type: 'null' } }, '[]'],
    ['a further property whose name begins as a listed one', further(), '{"a":1,"abc":true}'],
    ['a reference through escapes', { $defs: { 'a/b': { const: 1 } }, $ref: '#/$defs/a~1b' }, '1'],
  ])('allows %s', (_, schema, text) => {
    expect(follows(schema, text)).toBe(true)
  })

  it.each([
    ['white space within', { type: 'object' }, '{ "a":1}'],
    ['two spaces', { type: 'object' }, '{"a":  1}'],
    ['a control character in a string', { type: 'string' }, '"\n"'],
    ['half of a surrogate pair', { type: 'string' }, '"\\ud800"'],
    ['one character too many', { type: 'string', maxLength: 2 }, '"abc"'],
    ['a leading zero', { type: 'integer' }, '01'],
    ['a number on a bound that is left out', { type: 'number', exclusiveMinimum: 0.5 }, '0.500'],
    ['a number below a bound', { type: 'number', minimum: 0.5 }, '0.499999'],
    ['a property of a listed name with another schema', further(), '{"a":1,"ab":true}'],
    ['a listed name in escapes', further(), '{"\\u0061":true}'],
    ['a property that is not listed', { properties: { a: { type: 'null' } } }, '{"b":null}'],
    ['a required property that is missing', { required: ['a'], properties: { a: true } }, '{}'],
    [
      'properties in another order',
      { required: ['a', 'b'], properties: { a: true, b: true } },
      '{"b":1,"a":1}',
    ],
    ['too few items', { type: 'array', minItems: 2, items: { const: 1 } }, '[1]'],
    ['text after the value', { type: 'null' }, 'null '],
  ])('does not allow %s', (_, schema, text) => {
    expect(follows(schema, text)).toBe(false)
  })

  function further(): object {
    const properties = { a: { type: 'integer' }, ab: { type: 'string' } }
    return { type: 'object', properties, additionalProperties: { type: 'boolean' } }
  }

  it.each([
    ['pattern', { type: 'string', pattern: 'a+' }, /at #: keyword "pattern" is not supported/],
    ['format', { properties: { a: { format: 'date' } } }, /at #\/properties\/a: keyword "format"/],
    ['multipleOf', { multipleOf: 3 }, /keyword "multipleOf"/],
    ['uniqueItems', { items: { uniqueItems: true } }, /at #\/items: keyword "uniqueItems"/],
    ['not', { not: {} }, /keyword "not"/],
    ['if', { if: {} }, /keyword "if"/],
    ['patternProperties', { patternProperties: {} }, /keyword "patternProperties"/],
    ['minProperties', { minProperties: 1 }, /keyword "minProperties"/],
    [
      'a keyword of nobody',
      { $defs: { a: { nullable: true } }, $ref: '#/$defs/a' },
      /at #\/\$defs\/a: keyword "nullable"/,
    ],
    ['a list as items', { items: [{}] }, /prefixItems/],
    ['an unknown type', { type: 'float' }, /type: expected/],
    ['a text as schema', 'string', /expected a schema/],
    ['a reference elsewhere', { $ref: 'https://example.org/a.json' }, /\$ref: expected a reference within/],
    ['a reference to nothing', { $ref: '#/$defs/a' }, /does not exist/],
    ['a reference to itself', { $ref: '#' }, /leads to itself/],
    ['allOf that leads to itself', { allOf: [{ $ref: '#' }, { type: 'null' }] }, /lead to themselves/],
    ['keywords beside a reference', { $defs: { a: {} }, $ref: '#/$defs/a', type: 'null' }, /beside \$ref/],
    [
      'alternatives that may overlap',
      { oneOf: [{ type: 'integer' }, { type: 'number' }] },
      /oneOf: a value could match two/,
    ],
    ['objects that may overlap', { oneOf: [{ required: ['a'] }, { required: ['b'] }] }, /oneOf/],
    ['nothing', false, /no finite value/],
    ['endless nesting', { type: 'array', items: { $ref: '#' }, minItems: 1 }, /no finite value/],
    ['contradictory bounds', { type: 'integer', minimum: 3, maximum: 2 }, /no finite value/],
    ['contradictory parts', { allOf: [{ const: 1 }, { const: 2 }] }, /no finite value/],
    ['deep nesting', nested(limit('grammarDepth') + 1), /nested more than/],
    ['a bound with many decimals', { type: 'number', minimum: 0.12345678 }, /six decimals/],
    ['a length below zero', { minLength: -1 }, /minLength: expected a whole number/],
    ['an empty list of alternatives', { anyOf: [] }, /anyOf: expected a list/],
    ['an empty list of values', { enum: [] }, /enum: expected a list/],
  ])('is refused for %s', (_, schema, message) => {
    expect(() => schemaProgram(schema, 'schema')).toThrow(message)
  })

  it('is refused if it is too large', () => {
    const many = { enum: Array.from({ length: 6000 }, (_, i) => `${i}`.padStart(20, 'x')) }
    expect(() => schemaProgram(many, 'schema')).toThrow(/at most \d+ characters/)
    const wide = Object.fromEntries(Array.from({ length: 2000 }, (_, i) => [`p${i}`, { minimum: i }]))
    expect(() => schemaProgram({ properties: wide }, 'schema')).toThrow(/more than \d+ nodes/)
  })

  it('whose alternatives look alike is followed with bounded work', () => {
    const schema = {
      $defs: {
        a: { anyOf: [1, 2, 3].map((n) => ({ properties: { x: { $ref: '#/$defs/a' } }, title: `${n}` })) },
      },
      $ref: '#/$defs/a',
    }
    expect(follows(schema, '{"x":{"x":{"x":{"x":{"x":{"x":{"x":{"x":{}}}}}}}}}')).toBe(true)
  })
})
