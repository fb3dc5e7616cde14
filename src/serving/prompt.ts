/**
 * From the prompt of a request to token ids: renders the messages of a chat and encodes the text. Knows nothing about
 * HTTP, queues and weights.
 */
import type { ChatMessage } from './messages.ts'
import type { Prompt } from './openai.ts'

/** The part of a tokenizer that encodes prompts. */
export interface PromptTokenizer {
  /** Id of the token that separates texts. */
  readonly endOfText: number
  /** Number of bytes of the longest token. */
  readonly longestToken: number
  encode(text: string): Int32Array
}

/**
 * Maximum number of characters (UTF-16 code units) of a text whose tokens fit into a context. A longer prompt is refused
 * without encoding it. A token of n bytes stands for at most n characters.
 * @param contextLength number of tokens; one of them is the end of text before the prompt, another one the answer
 */
export function maxPromptCharacters(
  { longestToken }: Pick<PromptTokenizer, 'longestToken'>,
  contextLength: number,
): number {
  return Math.max(0, contextLength - 2) * longestToken
}

/** Number of characters (UTF-16 code units) of the texts of a prompt. */
export function promptCharacters(prompt: Prompt): number {
  if (typeof prompt === 'string') return prompt.length
  return prompt.reduce((sum, { content }) => sum + content.length, 0)
}

/** Token ids of a prompt, after the end of text. */
export function encodePrompt(tokenizer: PromptTokenizer, prompt: Prompt): Int32Array {
  const text = typeof prompt === 'string' ? prompt : renderChat(prompt)
  return Int32Array.from([tokenizer.endOfText, ...tokenizer.encode(text)])
}

/** The chat template: one line per message, then the beginning of the assistant's line. */
function renderChat(messages: readonly ChatMessage[]): string {
  const names = { system: 'System', user: 'User', assistant: 'Assistant' }
  return `${messages.map(({ role, content }) => `${names[role]}: ${content}`).join('\n')}\nAssistant:`
}
