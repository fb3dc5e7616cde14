/**
 * Whether two JSON schemas provably have no value in common, for `oneOf`: by type, by listed values, or by a required
 * property. Knows nothing about grammars.
 */

type JsonObject = Readonly<Record<string, unknown>>

/** Maximum number of nested properties that are compared. */
const MAX_DEPTH = 4

/** @param resolve the schema to which a reference leads */
export function isDisjoint(
  a: JsonObject | boolean,
  b: JsonObject | boolean,
  resolve: (schema: JsonObject | boolean) => JsonObject | boolean,
  depth = 0,
): boolean {
  if (typeof a === 'boolean' || typeof b === 'boolean') return a === false || b === false
  const [valuesOfA, valuesOfB] = [valuesOf(a), valuesOf(b)]
  if (valuesOfA !== undefined && valuesOfB !== undefined) {
    const texts = new Set(valuesOfA.map((value) => JSON.stringify(value)))
    return !valuesOfB.some((value) => texts.has(JSON.stringify(value)))
  }
  const [typesOfA, typesOfB] = [typesOf(a, valuesOfA), typesOf(b, valuesOfB)]
  if (typesOfA === undefined || typesOfB === undefined) return false
  if (![...typesOfA].some((type) => typesOfB.has(type))) return true
  const areObjects =
    typesOfA.size === 1 && typesOfB.size === 1 && typesOfA.has('object') && typesOfB.has('object')
  if (!areObjects || depth === MAX_DEPTH) return false
  return requiredOf(a).some((name) => {
    const [inA, inB] = [propertyOf(a, name), propertyOf(b, name)]
    if (inA === undefined || inB === undefined || !requiredOf(b).includes(name)) return false
    return isDisjoint(resolve(inA), resolve(inB), resolve, depth + 1)
  })
}

function valuesOf(schema: JsonObject): readonly unknown[] | undefined {
  if ('const' in schema) return [schema['const']]
  return Array.isArray(schema['enum']) ? schema['enum'] : undefined
}

/** Types that a schema states; undefined if it states none. An integer is a number. */
function typesOf({ type }: JsonObject, values: readonly unknown[] | undefined): Set<string> | undefined {
  if (values !== undefined) return new Set(values.map(typeOf))
  if (type === undefined) return undefined
  const list: readonly unknown[] = Array.isArray(type) ? type : [type]
  return new Set(list.map((one) => (one === 'integer' ? 'number' : String(one))))
}

function typeOf(value: unknown): string {
  if (value === null) return 'null'
  return Array.isArray(value) ? 'array' : typeof value
}

function requiredOf({ required }: JsonObject): readonly string[] {
  return Array.isArray(required) ? required.filter((name) => typeof name === 'string') : []
}

function propertyOf({ properties }: JsonObject, name: string): JsonObject | boolean | undefined {
  if (typeof properties !== 'object' || properties === null || !Object.hasOwn(properties, name))
    return undefined
  const value: unknown = (properties as JsonObject)[name]
  if (typeof value === 'boolean') return value
  return typeof value === 'object' && value !== null && !Array.isArray(value)
    ? (value as JsonObject)
    : undefined
}
