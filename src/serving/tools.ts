/**
 * Tools that a chat may call: `tools`, `tool_choice` and `parallel_tool_calls`. Implements protocols/inference-api,
 * section "Tools". Knows nothing about tokens and chat templates.
 */
import type { Tool } from '../data/chat.ts'
import type { Constraint } from '../grammar/grammars.ts'
import { type ToolShape, toolProgram } from '../grammar/tool-program.ts'
import { limit } from '../lib/limits.ts'
import { bad, record, shown, text } from './request-fields.ts'
import { type ResponseFormat, readName } from './response-format.ts'

export interface ToolUse {
  /** Tools that the prompt describes, at least one. */
  readonly tools: readonly Tool[]
  /** Names of the tools that the answer may call. */
  readonly callable: readonly string[]
  readonly isForced: boolean
  /** Maximum number of calls. */
  readonly calls: number
}

/** The members of a request that concern tools, by their names. */
export interface ToolMembers {
  readonly tools: unknown
  readonly choice: unknown
  readonly parallel: unknown
}

const MAX_DESCRIPTION = 16_384
const NO_PARAMETERS = { type: 'object', properties: {}, additionalProperties: false }

/**
 * @param readTool reads an item of the list
 * @returns undefined for an answer that calls no tools
 * @throws FormatError `bad-field`
 */
export function readToolUse(
  { tools: list, choice, parallel }: ToolMembers,
  readTool: (value: unknown, param: string) => Tool = readFunctionTool,
): ToolUse | undefined {
  const tools = readTools(list, readTool)
  if (parallel !== undefined && parallel !== null && typeof parallel !== 'boolean')
    throw bad('parallel_tool_calls', 'true or false')
  const { mode, name } = readChoice(choice)
  if (tools.length === 0) {
    if (mode !== 'auto' && mode !== 'none')
      throw bad('tool_choice', 'none or auto, because there are no tools')
    return undefined
  }
  if (mode === 'none') return undefined
  const names = tools.map((tool) => tool.name)
  if (name !== undefined && !names.includes(name))
    throw bad('tool_choice', 'the name of a tool of the request')
  const isForced = mode === 'required'
  // A model that must call a tool often repeats the call until its tokens are used up.
  const isOne = name !== undefined || parallel === false || (isForced && parallel !== true)
  return {
    tools,
    callable: name === undefined ? names : [name],
    isForced,
    calls: isOne ? 1 : limit('toolCalls'),
  }
}

function readTools(list: unknown, readTool: (value: unknown, param: string) => Tool): Tool[] {
  if (list === undefined || list === null) return []
  if (!Array.isArray(list) || list.length > limit('tools'))
    throw bad('tools', `a list of at most ${limit('tools')} tools`)
  const tools = list.map((item: unknown, i) => readTool(item, `tools[${i}]`))
  const twice = tools.findIndex(({ name }, i) => tools.slice(0, i).some((other) => other.name === name))
  if (twice >= 0) throw bad(`tools[${twice}]`, 'a name that no other tool has')
  return tools
}

function readFunctionTool(value: unknown, param: string): Tool {
  const { type, function: described } = record(value, param, 'an object with type and function')
  if (type !== 'function') throw bad(`${param}.type`, 'function, because this server knows no other tools')
  return readFunction(described, `${param}.function`)
}

/** Name, description and parameters of a function. @throws FormatError `bad-field` */
export function readFunction(value: unknown, param: string): Tool {
  const { name, description, parameters } = record(value, param, 'an object with a name')
  const described =
    description === undefined || description === null
      ? {}
      : { description: text(description, `${param}.description`, [0, MAX_DESCRIPTION]) }
  if (parameters === undefined || parameters === null)
    return { name: readName(name, `${param}.name`), ...described }
  const schema = record(parameters, `${param}.parameters`, 'a JSON schema of the type object')
  if (schema['type'] !== undefined && schema['type'] !== 'object')
    throw bad(`${param}.parameters`, 'a JSON schema of the type object')
  return { name: readName(name, `${param}.name`), ...described, parameters: schema }
}

function readChoice(value: unknown): { mode: 'none' | 'auto' | 'required'; name?: string } {
  if (value === undefined || value === null) return { mode: 'auto' }
  if (value === 'none' || value === 'auto' || value === 'required') return { mode: value }
  const expected = 'none, auto, required, or {"type": "function"} with the name of a tool'
  if (typeof value === 'string') throw bad('tool_choice', expected)
  const { type, function: named, name } = record(value, 'tool_choice', expected)
  if (type !== 'function') throw bad('tool_choice.type', `function, got "${shown(String(type))}"`)
  const chosen = name ?? record(named, 'tool_choice.function', 'an object with a name')['name']
  return { mode: 'required', name: readName(chosen, 'tool_choice.function.name') }
}

/**
 * The program that an answer with calls follows.
 * @param format what the answer is if it calls no tool
 * @throws FormatError as `toolProgram`
 */
export function toolConstraint(use: ToolUse, format: ResponseFormat | undefined): Constraint {
  const { tools, callable, isForced, calls } = use
  const shapes: ToolShape[] = tools
    .map(({ name, parameters = NO_PARAMETERS }, i) => ({
      name,
      parameters: { ...(parameters as object), type: 'object' },
      param: `tools[${i}].function.parameters`,
    }))
    .filter(({ name }) => callable.includes(name))
  const otherwise = isForced ? undefined : (format ?? ({ kind: 'text' } as const))
  return {
    key: `tools ${JSON.stringify([shapes, otherwise, calls])}`,
    program: toolProgram({ tools: shapes, otherwise, calls }),
  }
}
