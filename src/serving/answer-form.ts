/**
 * The members of a request that decide which form an answer has: `response_format` and tools. Implements
 * protocols/inference-api, sections "Response formats" and "Tools". Knows nothing about prompts and engines.
 */
import type { Constraint } from '../grammar/grammars.ts'
import type { RequestKind } from './openai.ts'
import { bad } from './request-fields.ts'
import { formatConstraint, readResponseFormat } from './response-format.ts'
import { readToolUse, type ToolUse, toolConstraint } from './tools.ts'

export interface AnswerForm {
  /** What the text of the answer follows; absent if it is free. */
  readonly constraint?: Constraint
  /** Absent if the answer calls no tools. */
  readonly toolUse?: ToolUse
}

/** Names of the members that `readAnswerForm` reads. */
export const FORM_FIELDS: Readonly<Record<RequestKind, readonly string[]>> = {
  completion: ['response_format'],
  chat: ['response_format', 'tools', 'tool_choice', 'parallel_tool_calls'],
}

/** @throws FormatError `bad-field`, `too-large` */
export function readAnswerForm(body: Readonly<Record<string, unknown>>, kind: RequestKind): AnswerForm {
  const format = readResponseFormat(body['response_format'])
  const toolUse =
    kind === 'completion'
      ? undefined
      : readToolUse({
          tools: body['tools'],
          choice: body['tool_choice'],
          parallel: body['parallel_tool_calls'],
        })
  if (format !== undefined && body['echo'] === true)
    throw bad('response_format', 'text, because echo puts the prompt before the answer')
  if (toolUse !== undefined) return { toolUse, constraint: toolConstraint(toolUse, format) }
  return format === undefined ? {} : { constraint: formatConstraint(format) }
}
