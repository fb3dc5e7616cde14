/** Sizes of prompts before they are encoded. Knows nothing about HTTP, queues and weights. */
import { type ChatMessage, chatOf, type TextPrompt } from '../data/chat.ts'
import { isTokenPrompt, type Prompt } from './openai.ts'

/** Encodes prompts without holding the event loop. */
export interface PromptEncoder {
  /** Maximum number of characters (UTF-16 code units) of a text that one token stands for. */
  readonly longestToken: number
  /** One more than the largest token id. */
  readonly vocabularySize: number
  /** Texts before which the answer to a chat ends; none if the public model has a chat template. */
  readonly turnEnds: readonly string[]
  /**
   * Token ids of a prompt, at least one: a text after the end of text, or a chat as the public model's template renders
   * it. @throws FormatError for a chat that cannot be rendered; the reason of `signal`.
   */
  encode(prompt: TextPrompt, signal: AbortSignal): Promise<Int32Array>
}

/**
 * Maximum number of characters (UTF-16 code units) of a text whose tokens fit into a context. A longer prompt is refused
 * without encoding it.
 * @param contextLength number of tokens; one of them is the end of text before the prompt, another one the answer
 */
export function maxPromptCharacters(
  { longestToken }: Pick<PromptEncoder, 'longestToken'>,
  contextLength: number,
): number {
  return Math.max(0, contextLength - 2) * longestToken
}

/** Number of characters (UTF-16 code units) of the texts of a prompt. */
export function promptCharacters(prompt: Prompt): number {
  if (isTokenPrompt(prompt)) return 0
  if (typeof prompt === 'string') return prompt.length
  const { messages, tools } = chatOf(prompt)
  const ofTools = tools.length === 0 ? 0 : JSON.stringify(tools).length
  return messages.reduce((sum, message) => sum + messageCharacters(message), ofTools)
}

function messageCharacters({ content, toolCalls = [] }: ChatMessage): number {
  return toolCalls.reduce((sum, call) => sum + call.name.length + call.arguments.length, content.length)
}
