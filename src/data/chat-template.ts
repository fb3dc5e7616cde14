/**
 * Renders the messages of a chat with the Jinja template that a model brings. Runs in a thread, because a template is a
 * program that may not end. Knows nothing about tokens.
 */
import { Template } from '@huggingface/jinja'
import { FormatError } from '../lib/errors.ts'
import { limit } from '../lib/limits.ts'
import { escapeUnprintable } from '../lib/printable.ts'
import type { ChatMessage, Tool, ToolCall } from './chat.ts'

/** The chat template of a model. */
export interface ChatTemplate {
  /** Jinja, as transformers renders it. */
  readonly source: string
  /** Names of special tokens that the template may write, such as `bos_token`. */
  readonly variables: Readonly<Record<string, string>>
}

/** Maximum number of characters of the reason for which a template failed. */
const MAX_REASON = 200

/**
 * The text of a chat up to the place where the assistant answers. Source of the variables: `apply_chat_template` of
 * transformers.
 * @throws FormatError `bad-field` with the reason if the template is invalid or refuses the messages; `too-large` for a
 * text above the limit `renderedChatCharacters`.
 */
export function renderChat(
  template: ChatTemplate,
  messages: readonly ChatMessage[],
  tools: readonly Tool[] = [],
): string {
  let text: string
  try {
    text = new Template(template.source).render({
      ...template.variables,
      messages: messages.map(messageForTemplate),
      add_generation_prompt: true,
      tools:
        tools.length === 0 ? null : tools.map((tool) => ({ type: 'function', function: functionOf(tool) })),
      documents: null,
    })
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message : String(cause)
    const message = `messages: the chat template of the public model refuses them or is invalid: ${escapeUnprintable(reason.slice(0, MAX_REASON))}`
    throw new FormatError('bad-field', message, { param: 'messages' }, cause)
  }
  if (text.length > limit('renderedChatCharacters')) {
    throw new FormatError(
      'too-large',
      `messages: the chat template of the public model writes more than ${limit('renderedChatCharacters')} characters; send fewer messages`,
      { param: 'messages' },
    )
  }
  return text
}

/** Whether a template presents tools itself. */
export function takesTools({ source }: ChatTemplate): boolean {
  return /\btools\b/.test(source)
}

function functionOf({ name, description, parameters }: Tool): object {
  return {
    name,
    ...(description === undefined ? {} : { description }),
    ...(parameters === undefined ? {} : { parameters }),
  }
}

/** A message with the names that templates use. */
function messageForTemplate({ role, content, toolCalls, toolCallId }: ChatMessage): object {
  return {
    role,
    content,
    ...(toolCalls === undefined ? {} : { tool_calls: toolCalls.map(callForTemplate) }),
    ...(toolCallId === undefined ? {} : { tool_call_id: toolCallId }),
  }
}

/** Templates expect arguments as an object. */
function callForTemplate({ id, name, arguments: text }: ToolCall): object {
  return { id, type: 'function', function: { name, arguments: parsedOr(text) } }
}

function parsedOr(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return text
  }
}
