/**
 * JSON schemas with prompts, for tests of answers that follow a schema: some as programs write them, and others drawn
 * from the supported keywords with a fixed seed. Knows nothing about grammars.
 */
import { mulberry32 } from '../../../src/lib/random.ts'

export interface Entry {
  readonly prompt: string
  readonly schema: object | boolean
}

const SEED = 19
/** Number of drawn schemas. */
const DRAWN = 170

const text = (min: number, max: number) => ({ type: 'string', minLength: min, maxLength: max })
const closed = (properties: object, required = Object.keys(properties)) => ({
  type: 'object',
  properties,
  required,
  additionalProperties: false,
})

const WRITTEN: readonly Entry[] = [
  {
    prompt: 'Describe a person.',
    schema: closed({ name: text(1, 20), age: { type: 'integer', minimum: 0, maximum: 130 } }),
  },
  { prompt: 'Is the claim valid?', schema: closed({ valid: { type: 'boolean' } }) },
  {
    prompt: 'Classify the ruling.',
    schema: closed({ label: { enum: ['civil', 'criminal', 'administrative'] } }),
  },
  { prompt: 'List the articles.', schema: { type: 'array', items: text(1, 8), minItems: 1, maxItems: 3 } },
  { prompt: 'Give a number.', schema: { type: 'number', minimum: -10, maximum: 10 } },
  { prompt: 'Give a share.', schema: { type: 'number', exclusiveMinimum: 0, exclusiveMaximum: 1 } },
  { prompt: 'Give a grade.', schema: { type: 'integer', minimum: 1, maximum: 6 } },
  { prompt: 'Give a year.', schema: { type: 'integer', minimum: 1900, maximum: 2026 } },
  { prompt: 'Give a code.', schema: { const: 'OK' } },
  { prompt: 'Nothing or a text.', schema: { type: ['null', 'string'], maxLength: 6 } },
  {
    prompt: 'A point.',
    schema: { type: 'array', prefixItems: [{ type: 'integer' }, { type: 'integer' }], items: false },
  },
  {
    prompt: 'A row.',
    schema: {
      type: 'array',
      prefixItems: [text(1, 3), { type: 'boolean' }],
      items: { type: 'integer', minimum: 0, maximum: 9 },
      minItems: 3,
      maxItems: 4,
    },
  },
  {
    prompt: 'A list of lists.',
    schema: { type: 'array', items: { type: 'array', items: { type: 'boolean' }, maxItems: 2 }, maxItems: 2 },
  },
  {
    prompt: 'A linked list.',
    schema: {
      $defs: {
        node: closed({
          value: { type: 'integer', minimum: 0, maximum: 9 },
          next: { anyOf: [{ type: 'null' }, { $ref: '#/$defs/node' }] },
        }),
      },
      $ref: '#/$defs/node',
    },
  },
  {
    prompt: 'A tree.',
    schema: {
      definitions: {
        tree: closed({
          name: text(1, 4),
          children: { type: 'array', items: { $ref: '#/definitions/tree' }, maxItems: 2 },
        }),
      },
      $ref: '#/definitions/tree',
    },
  },
  {
    prompt: 'An expression.',
    schema: {
      anyOf: [
        { type: 'integer', minimum: 0, maximum: 99 },
        closed({ op: { enum: ['+', '-'] }, left: { $ref: '#' }, right: { $ref: '#' } }),
      ],
    },
  },
  {
    prompt: 'A shape.',
    schema: {
      oneOf: [
        closed({ kind: { const: 'circle' }, r: { type: 'number', minimum: 0, maximum: 5 } }),
        closed({ kind: { const: 'square' }, side: { type: 'integer', minimum: 1, maximum: 5 } }),
      ],
    },
  },
  {
    prompt: 'A number or a text.',
    schema: {
      oneOf: [
        { type: 'string', maxLength: 4 },
        { type: 'number', minimum: 0, maximum: 1 },
      ],
    },
  },
  {
    prompt: 'Two parts.',
    schema: {
      allOf: [
        { type: 'object', properties: { a: { type: 'boolean' } }, required: ['a'] },
        { type: 'object', properties: { b: text(0, 3) }, required: ['b'] },
      ],
    },
  },
  {
    prompt: 'A narrower part.',
    schema: {
      allOf: [
        { type: 'object', properties: { n: { type: 'integer', minimum: 3 } }, required: ['n'] },
        { type: 'object', properties: { n: { type: 'number', maximum: 8 } } },
      ],
    },
  },
  {
    prompt: 'A reference with words.',
    schema: {
      $defs: { n: { type: 'integer', minimum: 1, maximum: 3 } },
      type: 'object',
      properties: { a: { $ref: '#/$defs/n', description: 'the first' } },
      required: ['a'],
      additionalProperties: false,
    },
  },
  {
    prompt: 'Optional members.',
    schema: closed(
      { a: { type: 'boolean' }, b: { type: 'null' }, c: { type: 'integer', minimum: 0, maximum: 1 } },
      ['b'],
    ),
  },
  { prompt: 'Only optional members.', schema: closed({ a: { type: 'boolean' }, b: { type: 'null' } }, []) },
  {
    prompt: 'A map of numbers.',
    schema: { type: 'object', additionalProperties: { type: 'integer', minimum: 0, maximum: 9 } },
  },
  {
    prompt: 'A map beside members.',
    schema: {
      type: 'object',
      properties: { a: { type: 'string', maxLength: 2 }, ab: { type: 'boolean' } },
      required: ['a'],
      additionalProperties: { type: 'integer', minimum: 0, maximum: 9 },
    },
  },
  {
    prompt: 'Names with signs.',
    schema: closed({
      'a"b': { type: 'boolean' },
      'c\\d': { type: 'boolean' },
      'é/~ü': { type: 'boolean' },
      '': { type: 'boolean' },
    }),
  },
  {
    prompt: 'Listed values of every type.',
    schema: { enum: ['a', 'aa', 'é"\n', 1, -2.5, null, true, [1, 'x'], { x: { y: [] } }] },
  },
  {
    prompt: 'Listed texts within bounds.',
    schema: { type: 'string', enum: ['a', 'bbb', 'cc', 'dddddd'], minLength: 2, maxLength: 3 },
  },
  {
    prompt: 'Alternatives that are listed.',
    schema: { anyOf: [{ const: 'red' }, { const: 'green', description: 'go' }, { enum: ['blue', 'black'] }] },
  },
  { prompt: 'An empty object.', schema: closed({}) },
  { prompt: 'An empty list.', schema: { type: 'array', maxItems: 0 } },
  { prompt: 'Six digits.', schema: { type: 'number', minimum: 0.000001, maximum: 0.5 } },
  { prompt: 'Below zero.', schema: { type: 'number', minimum: -3.5, exclusiveMaximum: -0.25 } },
  {
    prompt: 'A large range.',
    schema: { type: 'integer', minimum: -1_000_000_000_000, maximum: 1_000_000_000_000 },
  },
  { prompt: 'An exact text length.', schema: text(5, 5) },
  {
    prompt: 'Exactly two items.',
    schema: { type: 'array', items: { enum: ['x', 'y'] }, minItems: 2, maxItems: 2 },
  },
  {
    prompt: 'A required member without a schema.',
    schema: {
      type: 'object',
      properties: { a: { type: 'boolean' } },
      required: ['a', 'b'],
      additionalProperties: { type: 'boolean' },
    },
  },
  {
    prompt: 'Bounds that are left out.',
    schema: { type: 'integer', exclusiveMinimum: 4, exclusiveMaximum: 6 },
  },
  {
    prompt: 'Alternatives with common members.',
    schema: {
      type: 'object',
      properties: { id: { type: 'integer', minimum: 0, maximum: 9 } },
      required: ['id'],
      anyOf: [
        { properties: { a: { type: 'boolean' } }, required: ['a'] },
        { properties: { b: { type: 'null' } }, required: ['b'] },
      ],
    },
  },
]

/** All schemas, in a fixed order. */
export function corpus(): Entry[] {
  const random = mulberry32(SEED)
  const drawn = Array.from({ length: DRAWN }, (_, i) => ({
    prompt: `Fill in form ${i + 1}.`,
    schema: draw(random, 0),
  }))
  return [...WRITTEN, ...drawn]
}

function draw(random: () => number, depth: number): object {
  const below = (n: number): number => Math.floor(random() * n)
  const scalars: (() => object)[] = [
    () => {
      const min = below(4)
      return text(min, min + below(8))
    },
    () => {
      const min = below(2000) - 1000
      return { type: 'integer', minimum: min, maximum: min + below(3000) }
    },
    () => {
      const min = (below(4000) - 2000) / 100
      const isOpen = random() < 0.5
      const max = min + (1 + below(1000)) / 100
      return isOpen
        ? { type: 'number', exclusiveMinimum: min, exclusiveMaximum: Number(max.toFixed(2)) }
        : { type: 'number', minimum: min, maximum: Number(max.toFixed(2)) }
    },
    () => ({ type: 'boolean' }),
    () => ({ type: 'null' }),
    () => ({
      enum: Array.from({ length: 1 + below(4) }, (_, i) =>
        random() < 0.7 ? `v${i}${below(30)}` : below(99) - i,
      ),
    }),
    () => ({ const: `c${below(100)}` }),
    () => ({ type: ['integer', 'null'], minimum: 0, maximum: below(20) }),
  ]
  const nested: (() => object)[] = [
    () => {
      const names = Array.from({ length: 1 + below(4) }, (_, i) => `${'abcdefgh'[below(8)]}${i}`)
      const properties = Object.fromEntries(names.map((name) => [name, draw(random, depth + 1)]))
      return {
        type: 'object',
        properties,
        required: names.filter(() => random() < 0.7),
        ...(random() < 0.8 ? { additionalProperties: false } : {}),
      }
    },
    () => {
      const min = below(2)
      return { type: 'array', items: draw(random, depth + 1), minItems: min, maxItems: min + below(3) }
    },
    () => ({ anyOf: Array.from({ length: 2 + below(2) }, () => draw(random, depth + 1)) }),
    () => ({
      type: 'array',
      prefixItems: Array.from({ length: 1 + below(2) }, () => draw(random, depth + 1)),
      items: random() < 0.5 ? false : { type: 'boolean' },
      maxItems: 3,
    }),
  ]
  const choices = depth < 3 && random() < (depth === 0 ? 1 : 0.45) ? nested : scalars
  return (choices[below(choices.length)] as () => object)()
}
