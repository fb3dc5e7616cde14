/**
 * `response_format`: the form that an answer must have. Implements protocols/inference-api, section "Response formats".
 * Knows nothing about tokens.
 */
import type { Constraint } from '../grammar/grammars.ts'
import { objectProgram, schemaProgram } from '../grammar/json-program.ts'
import { bad, record, shown, text } from './request-fields.ts'

/** A form other than text. */
export type ResponseFormat =
  | { readonly kind: 'object' }
  /** @param param member of the request that holds the schema, for errors */
  | { readonly kind: 'schema'; readonly schema: unknown; readonly param: string }

const NAME = /^[a-zA-Z0-9_-]{1,64}$/
const SCHEMA_MEMBERS = ['name', 'schema', 'strict', 'description']

/** @returns undefined for text. @throws FormatError `bad-field` */
export function readResponseFormat(value: unknown, param = 'response_format'): ResponseFormat | undefined {
  if (value === undefined || value === null) return undefined
  const { type, ...rest } = record(value, param, 'an object with a type')
  if (type === 'json_schema' && param === 'response_format')
    return readJsonSchema(without(rest, ['json_schema'], param)['json_schema'], `${param}.json_schema`)
  if (type === 'json_schema') return readJsonSchema(rest, param)
  without(rest, [], param)
  if (type === 'text') return undefined
  if (type === 'json_object') return { kind: 'object' }
  throw bad(`${param}.type`, 'text, json_object or json_schema')
}

function readJsonSchema(value: unknown, param: string): ResponseFormat {
  const members = without(record(value, param, 'an object with name and schema'), SCHEMA_MEMBERS, param)
  readName(members['name'], `${param}.name`)
  // A schema is always followed strictly.
  if (members['strict'] !== undefined && members['strict'] !== null && typeof members['strict'] !== 'boolean')
    throw bad(`${param}.strict`, 'true or false')
  const { schema } = members
  if (schema === undefined || schema === null) throw bad(`${param}.schema`, 'a JSON schema')
  return { kind: 'schema', schema, param: `${param}.schema` }
}

/** @throws FormatError `bad-field` for a member that is not known */
function without(
  members: Record<string, unknown>,
  known: readonly string[],
  param: string,
): Record<string, unknown> {
  const unknown = Object.keys(members).find((name) => !known.includes(name))
  if (unknown === undefined) return members
  throw bad(`${param}.${shown(unknown)}`, 'nothing, because this server does not know this member')
}

/** A name of a schema or a tool. @throws FormatError `bad-field` */
export function readName(value: unknown, param: string): string {
  const name = text(value, param, [1, 64])
  if (!NAME.test(name)) throw bad(param, 'letters, digits, _ and - only')
  return name
}

/** The program that an answer of a format follows. @throws FormatError as `schemaProgram` */
export function formatConstraint(format: ResponseFormat): Constraint {
  if (format.kind === 'object') return { key: 'object', program: objectProgram() }
  const { schema, param } = format
  return { key: `schema ${JSON.stringify(schema)}`, program: schemaProgram(schema, param) }
}
