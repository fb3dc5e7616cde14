/**
 * The messages of a chat: roles, texts and parts. Implements protocols/inference-api, section "Messages". Knows nothing
 * about chat templates.
 */
import type { ChatMessage, ToolCall } from '../data/chat.ts'
import { limit } from '../lib/limits.ts'
import { bad, record, shown, text } from './request-fields.ts'

const ROLES: Readonly<Record<string, ChatMessage['role']>> = {
  system: 'system',
  developer: 'system',
  user: 'user',
  assistant: 'assistant',
  tool: 'tool',
}
const MAX_MESSAGES = 1024
/** Members that a message may have, but only empty, because they would change the prompt. */
const EMPTY_ONLY = ['function_call', 'audio'] as const
const MAX_ID_CHARACTERS = 200

/**
 * @param ignored receives the name of every member that has no effect
 * @throws FormatError `bad-field`
 */
export function readMessages(value: unknown, ignored: (name: string) => void): ChatMessage[] {
  if (!Array.isArray(value) || value.length === 0 || value.length > MAX_MESSAGES)
    throw bad('messages', `a list of 1 to ${MAX_MESSAGES} messages`)
  return value.map((item: unknown, i) => readMessage(item, `messages[${i}]`, ignored))
}

function readMessage(value: unknown, at: string, ignored: (name: string) => void): ChatMessage {
  const members = record(value, at, 'an object with role and content')
  const { role: name, content, refusal } = members
  const role = typeof name === 'string' && Object.hasOwn(ROLES, name) ? ROLES[name] : undefined
  if (role === undefined) throw bad(`${at}.role`, 'system, developer, user, assistant or tool')
  for (const member of EMPTY_ONLY) {
    if (!isEmpty(members[member]))
      throw bad(`${at}.${member}`, 'nothing, because this server does not support it')
  }
  const known: readonly string[] = ['role', 'content', 'refusal', 'tool_calls', 'tool_call_id', ...EMPTY_ONLY]
  for (const [member, given] of Object.entries(members)) {
    if (!known.includes(member) && !isEmpty(given)) ignored(`${at}.${shown(member)}`)
  }
  // An assistant's turn may be empty, for example a refusal alone or a turn that was cut off.
  const turn = content ?? (role === 'assistant' ? (refusal ?? '') : undefined)
  return {
    role,
    content: Array.isArray(turn) ? readParts(turn, role, at) : readText(turn, `${at}.content`),
    ...readCalls(members, role, at),
  }
}

/** The calls of an assistant, or the call that a tool answers. */
function readCalls(
  members: Record<string, unknown>,
  role: ChatMessage['role'],
  at: string,
): Pick<ChatMessage, 'toolCalls' | 'toolCallId'> {
  const { tool_calls: calls, tool_call_id: id } = members
  if (role === 'tool') {
    if (!isEmpty(calls)) throw bad(`${at}.tool_calls`, 'nothing, because only the assistant calls tools')
    return { toolCallId: text(id, `${at}.tool_call_id`, [1, MAX_ID_CHARACTERS]) }
  }
  if (!isEmpty(id)) throw bad(`${at}.tool_call_id`, 'nothing, because only a tool answers a call')
  if (isEmpty(calls)) return {}
  if (role !== 'assistant') throw bad(`${at}.tool_calls`, 'nothing, because only the assistant calls tools')
  if (!Array.isArray(calls) || calls.length > limit('tools'))
    throw bad(`${at}.tool_calls`, `a list of at most ${limit('tools')} calls`)
  return { toolCalls: calls.map((call: unknown, i) => readCall(call, `${at}.tool_calls[${i}]`)) }
}

function readCall(value: unknown, at: string): ToolCall {
  const { id, type, function: called } = record(value, at, 'an object with id, type and function')
  if (type !== 'function' && !isEmpty(type)) throw bad(`${at}.type`, 'function')
  const members = record(called, `${at}.function`, 'an object with name and arguments')
  return {
    id: text(id, `${at}.id`, [1, MAX_ID_CHARACTERS]),
    name: text(members['name'], `${at}.function.name`, [1, MAX_ID_CHARACTERS]),
    arguments: text(members['arguments'], `${at}.function.arguments`, [0, limit('bodyBytes')]),
  }
}

/** The texts of a list of parts, joined by newlines. */
function readParts(parts: readonly unknown[], role: ChatMessage['role'], at: string): string {
  return parts
    .map((part, i) => {
      const name = `${at}.content[${i}]`
      const { type, text: value, refusal } = record(part, name, 'an object with type and text')
      if (type === 'refusal' && role === 'assistant') return readText(refusal, `${name}.refusal`)
      if (type !== 'text') throw bad(`${name}.type`, 'text, because this server reads no other parts')
      return readText(value, `${name}.text`)
    })
    .join('\n')
}

function readText(value: unknown, param: string): string {
  return text(value, param, [0, limit('bodyBytes')])
}

/** Whether a member says nothing. */
function isEmpty(value: unknown): boolean {
  return value === undefined || value === null || (Array.isArray(value) && value.length === 0)
}
