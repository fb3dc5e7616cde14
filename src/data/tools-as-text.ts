/**
 * Tools, calls and their results as texts of a chat, for models whose template knows nothing about them. Implements
 * protocols/inference-api, section "Tools". Knows nothing about tokens.
 */
import type { ChatMessage, Tool, ToolCall, ToolChat } from './chat.ts'

/** The same chat with messages of the system, the user and the assistant only, and without tools. */
export function withToolsAsText({ messages, tools }: ToolChat): ToolChat {
  const texts = messages.map(asText)
  if (tools.length === 0) return { messages: texts, tools: [] }
  const [first, ...others] = texts
  const description = describeTools(tools)
  return {
    messages:
      first?.role === 'system'
        ? [{ role: 'system', content: `${first.content}\n\n${description}` }, ...others]
        : [{ role: 'system', content: description }, ...texts],
    tools: [],
  }
}

function describeTools(tools: readonly Tool[]): string {
  return [
    'You may call these tools:',
    ...tools.map(({ name, description, parameters }) => JSON.stringify({ name, description, parameters })),
    'To call a tool, write <tool_call>{"name": NAME, "arguments": {...}}</tool_call>.',
  ].join('\n')
}

function asText({ role, content, toolCalls = [] }: ChatMessage): ChatMessage {
  if (role === 'tool') return { role: 'user', content: `<tool_response>${content}</tool_response>` }
  const calls = toolCalls.map(callText)
  return { role, content: [...(content === '' && calls.length > 0 ? [] : [content]), ...calls].join('\n') }
}

function callText({ name, arguments: text }: ToolCall): string {
  return `<tool_call>{"name": ${JSON.stringify(name)}, "arguments": ${text}}</tool_call>`
}
