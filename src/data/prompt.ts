/**
 * From a prompt to token ids. Special tokens come from the chat template of the model alone: their names in the text of
 * a user are characters. Knows nothing about threads and requests.
 */
import { FormatError } from '../lib/errors.ts'
import { type ChatMessage, chatOf, type TextPrompt, type Tool, type ToolChat } from './chat.ts'
import type { Tokenizer } from './tokenizer.ts'
import { withToolsAsText } from './tools-as-text.ts'

/** The model's own way of rendering chats up to the place where the assistant answers. */
export interface ChatRenderer {
  /** Whether it presents tools, calls and their results itself. */
  readonly takesTools: boolean
  render(messages: readonly ChatMessage[], tools: readonly Tool[]): string
}

/**
 * Token ids of a prompt, at least one. They begin with the end of text, unless the model renders chats by itself.
 * @param renderer without one, a message is a line
 * @throws FormatError `bad-field`, `too-large` if it fails.
 */
export function encodePrompt(
  tokenizer: Tokenizer,
  renderer: ChatRenderer | undefined,
  prompt: TextPrompt,
): Int32Array {
  if (typeof prompt !== 'string' && renderer !== undefined) {
    const chat = chatOf(prompt)
    return encodeRendered(tokenizer, renderer, renderer.takesTools ? chat : withToolsAsText(chat))
  }
  const ids = tokenizer.encode(
    typeof prompt === 'string' ? prompt : plainChat(withToolsAsText(chatOf(prompt)).messages),
  )
  const framed = new Int32Array(ids.length + 1)
  framed[0] = tokenizer.endOfText
  framed.set(ids, 1)
  return framed
}

const NAMES = { system: 'System', user: 'User', assistant: 'Assistant', tool: 'User' }

/**
 * Texts before which the answer to a chat ends if the model has no template. Such a model would go on and write the turns
 * of others; one with a template ends its turn with a special token.
 */
export const PLAIN_TURN_ENDS: readonly string[] = [...new Set(Object.values(NAMES))].map(
  (name) => `\n${name}:`,
)

/** One line per message, then the beginning of the assistant's line: the form for models without a template. */
function plainChat(messages: readonly ChatMessage[]): string {
  return `${messages.map(({ role, content }) => `${NAMES[role]}: ${content}`).join('\n')}\nAssistant:`
}

function encodeRendered(
  tokenizer: Tokenizer,
  renderer: ChatRenderer,
  { messages, tools }: ToolChat,
): Int32Array {
  const mark = unusedMark(JSON.stringify([messages, tools]))
  const marked = (text: string): string => tokenizer.markSpecial(text, mark)
  const text = renderer.render(mapTexts(messages, marked), mapTexts(tools, marked))
  const ids = tokenizer.encode(text, { controlTokens: true, mark })
  if (ids.length > 0) return ids
  throw new FormatError('bad-field', 'messages: the chat template of the public model writes nothing', {
    param: 'messages',
  })
}

/** A copy of a JSON value with other texts. Roles and the names of members of messages have no special tokens. */
function mapTexts<T>(value: T, change: (text: string) => string): T
function mapTexts(value: unknown, change: (text: string) => string): unknown {
  if (typeof value === 'string') return change(value)
  if (Array.isArray(value)) return value.map((item: unknown) => mapTexts(item, change))
  if (typeof value !== 'object' || value === null) return value
  return Object.fromEntries(
    Object.entries(value).map(([name, item]) => [change(name), mapTexts<unknown>(item, change)]),
  )
}

/** Noncharacters: Unicode reserves them for use within a program. */
const MARKS = Array.from({ length: 32 }, (_, i) => String.fromCodePoint(0xfdd0 + i))

/** A character that a text does not have. */
function unusedMark(text: string): string {
  const mark = MARKS.find((candidate) => !text.includes(candidate))
  if (mark !== undefined) return mark
  throw new FormatError('bad-field', 'messages: expected text without noncharacters such as U+FDD0', {
    param: 'messages',
  })
}
