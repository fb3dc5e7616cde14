/** Two JSON schemas as one that says what both say, for `allOf`. Knows nothing about references and grammars. */

type JsonObject = Readonly<Record<string, unknown>>

/** Keywords of which the larger value says what both say. */
const LARGER = ['minimum', 'exclusiveMinimum', 'minLength', 'minItems']
const SMALLER = ['maximum', 'exclusiveMaximum', 'maxLength', 'maxItems']
const OF_OBJECTS = ['properties', 'required', 'additionalProperties']

/**
 * @param annotations keywords that say nothing about values; the result has none of them
 * @param refusal makes an error from a reason
 * @throws the error, if the two cannot be written as one schema
 */
export function mergeSchemas(
  a: JsonObject,
  b: JsonObject,
  annotations: ReadonlySet<string>,
  refusal: (message: string) => Error,
): JsonObject {
  const merged: Record<string, unknown> = {}
  const keywords = new Set([...Object.keys(a), ...Object.keys(b)])
  for (const keyword of keywords) {
    if (annotations.has(keyword) || OF_OBJECTS.includes(keyword)) continue
    const [one, other] = [a[keyword], b[keyword]]
    if (one === undefined || other === undefined) merged[keyword] = one ?? other
    else if (keyword === 'type') merged[keyword] = commonTypes(one, other)
    else if (LARGER.includes(keyword)) merged[keyword] = Math.max(Number(one), Number(other))
    else if (SMALLER.includes(keyword)) merged[keyword] = Math.min(Number(one), Number(other))
    else if (keyword === 'items') merged[keyword] = { allOf: [one, other] }
    else if (keyword === 'enum') merged[keyword] = common(one, other)
    else if (keyword !== 'const') throw refusal(`two schemas with "${keyword}" cannot be merged`)
    else if (JSON.stringify(one) === JSON.stringify(other)) merged[keyword] = one
    else return { anyOf: [false] }
  }
  if (isEmptyList(merged['type']) || isEmptyList(merged['enum'])) return { anyOf: [false] }
  if ('prefixItems' in merged && 'items' in a !== 'items' in b)
    throw refusal('"prefixItems" of one schema and "items" of another cannot be merged')
  return { ...merged, ...mergeObjects(a, b, refusal) }
}

/** A property that one of the schemas does not list follows what that schema says about further properties. */
function mergeObjects(a: JsonObject, b: JsonObject, refusal: (message: string) => Error): JsonObject {
  if (!OF_OBJECTS.some((keyword) => keyword in a || keyword in b)) return {}
  const [first, second] = [listed(a, refusal), listed(b, refusal)]
  const properties: [string, unknown][] = []
  for (const name of new Set([...Object.keys(first), ...Object.keys(second)])) {
    const parts = [memberOf(first, name, a), memberOf(second, name, b)].filter((part) => part !== undefined)
    properties.push([name, parts.length === 1 ? parts[0] : { allOf: parts }])
  }
  const further = [a['additionalProperties'], b['additionalProperties']].filter((part) => part !== undefined)
  const required = [a['required'], b['required']].flatMap((list) => (Array.isArray(list) ? list : []))
  return {
    ...('properties' in a || 'properties' in b ? { properties: Object.fromEntries(properties) } : {}),
    ...(required.length === 0 ? {} : { required: [...new Set(required)] }),
    ...(further.length === 0
      ? {}
      : { additionalProperties: further.length === 1 ? further[0] : { allOf: further } }),
  }
}

function listed({ properties = {} }: JsonObject, refusal: (message: string) => Error): JsonObject {
  if (typeof properties === 'object' && properties !== null && !Array.isArray(properties))
    return properties as JsonObject
  throw refusal('properties: expected an object')
}

function memberOf(properties: JsonObject, name: string, schema: JsonObject): unknown {
  return Object.hasOwn(properties, name) ? properties[name] : schema['additionalProperties']
}

function commonTypes(one: unknown, other: unknown): unknown[] {
  const [a, b] = [listOf(one), listOf(other)]
  const both = a.filter((type) => b.includes(type))
  // An integer is a number.
  const narrower = (from: unknown[], to: unknown[]): boolean =>
    from.includes('integer') && to.includes('number') && !both.includes('integer') && !both.includes('number')
  return narrower(a, b) || narrower(b, a) ? [...both, 'integer'] : both
}

function common(one: unknown, other: unknown): unknown[] {
  const texts = new Set(listOf(other).map((value) => JSON.stringify(value)))
  return listOf(one).filter((value) => texts.has(JSON.stringify(value)))
}

function listOf(value: unknown): unknown[] {
  return Array.isArray(value) ? value : [value]
}

function isEmptyList(value: unknown): boolean {
  return Array.isArray(value) && value.length === 0
}
