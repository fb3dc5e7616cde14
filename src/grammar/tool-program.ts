/**
 * Programs for answers that call tools. A call is written as `<tool_call>`, a JSON object with the name and the arguments
 * of the tool, and `</tool_call>`, as many open models do. Implements protocols/inference-api, section "Tools". Knows
 * nothing about tokens.
 */
import { limit } from '../lib/limits.ts'
import { finite, JsonRules } from './json-program.ts'
import { type Edge, type Piece, type Program, ProgramBuilder } from './program.ts'

export const CALL_BEGIN = '<tool_call>'
export const CALL_END = '</tool_call>'

/** A tool that an answer may call. */
export interface ToolShape {
  readonly name: string
  /** JSON schema of the arguments, of the type object. */
  readonly parameters: unknown
  /** Member of the request that holds the schema, for errors. */
  readonly param: string
}

export interface ToolRules {
  /** At least one. */
  readonly tools: readonly ToolShape[]
  /** What the answer is if it calls no tool: text, in which calls may follow, or JSON. Undefined if it must call one. */
  readonly otherwise:
    | { readonly kind: 'text' }
    | { readonly kind: 'object' }
    | { readonly kind: 'schema'; readonly schema: unknown; readonly param: string }
    | undefined
  /** Maximum number of calls. */
  readonly calls: number
}

/** @throws FormatError as `JsonRules.schema` */
export function toolProgram({ tools, otherwise, calls }: ToolRules): Program {
  const builder = new ProgramBuilder('tools')
  const space = builder.optional(builder.text(' '))
  const newline = builder.optional(builder.text('\n'))
  const comma = builder.sequence(builder.text(','), space)
  const colon = builder.sequence(builder.text(':'), space)
  const ways = tools.map(({ name, parameters, param }): Piece => {
    const schema = new JsonRules(builder, param).schema(parameters)
    return builder.sequence(
      builder.text(JSON.stringify(name)),
      comma,
      builder.text('"arguments"'),
      colon,
      (then) => builder.call(schema, then),
    )
  })
  const call = builder.sequence(
    newline,
    builder.text('{"name"'),
    colon,
    builder.either(...ways),
    builder.text('}'),
    newline,
    builder.text(CALL_END),
  )(builder.end)
  // Built from the last call to the first.
  let then = builder.end
  let first = then
  for (let i = 0; i < Math.min(calls, limit('toolCalls')); i++) {
    first = builder.call(call, then)
    then = builder.fork(builder.end, builder.sequence(newline, builder.text(CALL_BEGIN))(first))
  }
  const begin = builder.text(CALL_BEGIN)(first)
  return finite(builder.build(startOf(builder, otherwise, first, begin)), 'tools')
}

/** @param call the node after the beginning of a call. @param begin the node before it */
function startOf(b: ProgramBuilder, otherwise: ToolRules['otherwise'], call: number, begin: number): number {
  if (otherwise === undefined) return begin
  if (otherwise.kind === 'text') return textUntilCall(b, call)
  const json =
    otherwise.kind === 'object'
      ? new JsonRules(b, 'response_format').object()
      : new JsonRules(b, otherwise.param).schema(otherwise.schema)
  return b.fork(json, begin)
}

/** Any text. Where it has the beginning of a call, the call follows. */
function textUntilCall(b: ProgramBuilder, call: number): number {
  const mark = Buffer.from(CALL_BEGIN)
  const first = mark.readUInt8(0)
  const states = Array.from(mark, () => b.reserve())
  const [none, one] = states as [number, number]
  states.forEach((id, matched) => {
    const expected = mark[matched] as number
    const to = matched + 1 === mark.length ? call : (states[matched + 1] as number)
    const edges: Edge[] = [{ low: expected, high: expected, to }]
    const others = expected === first ? [first] : [first, expected]
    // The first byte occurs in the mark only once, so that every other byte begins anew.
    if (expected !== first) edges.push({ low: first, high: first, to: one })
    let low = 0
    for (const byte of [...others.sort((a, z) => a - z), 0x100]) {
      if (low < byte) edges.push({ low, high: byte - 1, to: none })
      low = byte + 1
    }
    b.set(id, { kind: 'fork', to: [b.add({ kind: 'bytes', edges }), b.end] })
  })
  return none
}
