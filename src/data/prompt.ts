/**
 * From a prompt to token ids. Special tokens come from the chat template of the model alone: their names in the text of
 * a user are characters. Knows nothing about threads and requests.
 */
import { FormatError } from '../lib/errors.ts'
import type { Tokenizer } from './tokenizer.ts'

export interface ChatMessage {
  readonly role: 'system' | 'user' | 'assistant'
  readonly content: string
}

/** The text of a completion, or the messages of a chat. */
export type Prompt = string | readonly ChatMessage[]

/** Renders the messages of a chat up to the place where the assistant answers. */
export type ChatRenderer = (messages: readonly ChatMessage[]) => string

/**
 * Token ids of a prompt, at least one. They begin with the end of text, unless the model renders chats by itself.
 * @param render the model's own way of rendering; without one, a message is a line
 * @throws FormatError `bad-field`, `too-large` if it fails.
 */
export function encodePrompt(
  tokenizer: Tokenizer,
  render: ChatRenderer | undefined,
  prompt: Prompt,
): Int32Array {
  if (typeof prompt !== 'string' && render !== undefined) return encodeRendered(tokenizer, render, prompt)
  const ids = tokenizer.encode(typeof prompt === 'string' ? prompt : plainChat(prompt))
  const framed = new Int32Array(ids.length + 1)
  framed[0] = tokenizer.endOfText
  framed.set(ids, 1)
  return framed
}

const NAMES = { system: 'System', user: 'User', assistant: 'Assistant' }

/** One line per message, then the beginning of the assistant's line: the form for models without a template. */
function plainChat(messages: readonly ChatMessage[]): string {
  return `${messages.map(({ role, content }) => `${NAMES[role]}: ${content}`).join('\n')}\nAssistant:`
}

function encodeRendered(
  tokenizer: Tokenizer,
  render: ChatRenderer,
  messages: readonly ChatMessage[],
): Int32Array {
  const mark = unusedMark(messages.map(({ content }) => content))
  const marked = messages.map(({ role, content }) => ({
    role,
    content: tokenizer.markSpecial(content, mark),
  }))
  const ids = tokenizer.encode(render(marked), { controlTokens: true, mark })
  if (ids.length > 0) return ids
  throw new FormatError('bad-field', 'messages: the chat template of the public model writes nothing', {
    param: 'messages',
  })
}

/** Noncharacters: Unicode reserves them for use within a program. */
const MARKS = Array.from({ length: 32 }, (_, i) => String.fromCodePoint(0xfdd0 + i))

/** A character that none of the texts has. */
function unusedMark(texts: readonly string[]): string {
  const mark = MARKS.find((candidate) => !texts.some((text) => text.includes(candidate)))
  if (mark !== undefined) return mark
  throw new FormatError('bad-field', 'messages: expected text without noncharacters such as U+FDD0', {
    param: 'messages',
  })
}
