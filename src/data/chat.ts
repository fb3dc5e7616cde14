/**
 * Chats as the tokenizer and the API share them: messages, calls of tools, tools. Does not know how they are read from a
 * request or rendered for a model.
 */

export interface ChatMessage {
  readonly role: 'system' | 'user' | 'assistant' | 'tool'
  readonly content: string
  /** Tools that the assistant called. */
  readonly toolCalls?: readonly ToolCall[]
  /** Id of the call that a message of a tool answers. */
  readonly toolCallId?: string
}

export interface ToolCall {
  readonly id: string
  readonly name: string
  /** JSON text. */
  readonly arguments: string
}

/** A tool that the assistant may call. */
export interface Tool {
  readonly name: string
  readonly description?: string
  /** JSON schema of the arguments. */
  readonly parameters?: unknown
}

/** A chat whose assistant may call tools. */
export interface ToolChat {
  readonly messages: readonly ChatMessage[]
  readonly tools: readonly Tool[]
}

/** The text of a completion, or the messages of a chat. */
export type TextPrompt = string | readonly ChatMessage[] | ToolChat

/** The messages and tools of a chat. */
export function chatOf(prompt: readonly ChatMessage[] | ToolChat): ToolChat {
  return 'messages' in prompt ? prompt : { messages: prompt, tools: [] }
}
