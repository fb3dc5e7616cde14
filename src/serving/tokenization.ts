/**
 * Texts as tokens and tokens as texts, in the shape of vLLM's `/tokenize` and `/detokenize`. Implements
 * protocols/inference-api, section "Tokens". Knows nothing about routes, keys and weights.
 */
import type { TextPrompt } from '../data/chat.ts'
import { limit } from '../lib/limits.ts'
import { readMessages } from './messages.ts'
import { readTokens } from './openai.ts'
import type { PromptEncoder } from './prompt.ts'
import { Queue } from './queue.ts'
import { bad, record, shown, text } from './request-fields.ts'
import type { Vocabulary } from './vocabulary.ts'

export interface TokenizationInit {
  readonly prompts: PromptEncoder
  readonly vocabulary: Vocabulary
  /** Maximum number of tokens of prompt and answer together. */
  readonly contextLength: number
}

export interface TokenizeRequest {
  /** Absent for the composition. */
  readonly model?: string
  readonly prompt: TextPrompt
  /** Whether the tokens of a text begin with the end of text, as they do in a completion. */
  readonly addSpecialTokens: boolean
  /** Whether the answer has the names of the tokens. */
  readonly returnNames: boolean
}

export interface DetokenizeRequest {
  readonly model?: string
  readonly tokens: Int32Array
}

const MAX_MODEL_CHARACTERS = 200

/**
 * Unknown members are refused, since the answer has no place to name them.
 * @throws FormatError `bad-field`; `fields.param` is the name of the wrong member.
 */
export function parseTokenize(body: unknown): TokenizeRequest {
  const members = record(body, 'body', 'a JSON object')
  const { prompt, messages } = members
  const isChat = messages !== undefined && messages !== null
  if (isChat === (prompt !== undefined && prompt !== null)) throw bad('prompt', 'either prompt or messages')
  const known = ['model', 'prompt', 'messages', 'add_special_tokens', 'return_token_strs']
  requireKnown(members, isChat ? [...known, 'add_generation_prompt'] : known)
  // The node has one way to render a chat, which is that of its answers.
  if (isChat && flag(members, 'add_special_tokens', false))
    throw bad('add_special_tokens', 'false, because the template of a chat writes its special tokens')
  if (isChat && !flag(members, 'add_generation_prompt', true))
    throw bad('add_generation_prompt', 'true, because chats end with the prompt for the answer')
  return {
    ...readModel(members),
    prompt: isChat
      ? readMessages(messages, (name) => {
          throw bad(name, 'no further members of a message')
        })
      : text(prompt, 'prompt', [0, limit('bodyBytes')]),
    addSpecialTokens: flag(members, 'add_special_tokens', !isChat),
    returnNames: flag(members, 'return_token_strs', false),
  }
}

/** @throws FormatError `bad-field`; `fields.param` is the name of the wrong member. */
export function parseDetokenize(body: unknown): DetokenizeRequest {
  const members = record(body, 'body', 'a JSON object')
  requireKnown(members, ['model', 'tokens'])
  if (!Array.isArray(members['tokens'])) throw bad('tokens', 'a list of token ids')
  return { ...readModel(members), tokens: readTokens(members['tokens'], 'tokens') }
}

function readModel({ model }: Record<string, unknown>): { readonly model?: string } {
  if (model === undefined || model === null) return {}
  return { model: text(model, 'model', [1, MAX_MODEL_CHARACTERS]) }
}

function flag(members: Record<string, unknown>, name: string, absent: boolean): boolean {
  const value = members[name] ?? absent
  if (typeof value !== 'boolean') throw bad(name, 'true or false')
  return value
}

function requireKnown(members: Record<string, unknown>, known: readonly string[]): void {
  const unknown = Object.keys(members).find((name) => !known.includes(name) && members[name] !== null)
  if (unknown !== undefined) throw bad(shown(unknown), `only ${known.join(', ')}`)
}

export class Tokenization {
  readonly #init: TokenizationInit
  /** One text at a time, so that long ones hold up no more than one prompt of a completion each. */
  readonly #queue = new Queue(1, limit('queuedRequests'))

  constructor(init: TokenizationInit) {
    this.#init = init
  }

  /** @throws FormatError; QueueFullError; the reason of `signal`. */
  async tokenize(request: TokenizeRequest, signal: AbortSignal): Promise<object> {
    const { prompts, vocabulary, contextLength } = this.#init
    const { prompt, addSpecialTokens, returnNames } = request
    const leave = await this.#queue.enter(signal)
    try {
      const ids = Array.from(await prompts.encode(prompt, signal))
      // The encoder puts the end of text before every text, and before a chat if the model has no template.
      const tokens = typeof prompt === 'string' && !addSpecialTokens ? ids.slice(1) : ids
      const names = returnNames ? tokens.map((id) => vocabulary.nameOf(id) ?? null) : null
      return { count: tokens.length, max_model_len: contextLength, tokens, token_strs: names }
    } finally {
      leave()
    }
  }

  /** @throws FormatError `bad-field` for an id that the vocabulary does not have. */
  detokenize({ tokens }: DetokenizeRequest): object {
    const { vocabulary } = this.#init
    const stream = vocabulary.decodeStream()
    let prompt = ''
    for (const id of tokens) {
      const name = vocabulary.nameOf(id)
      if (name === undefined) throw bad('tokens', `ids of the vocabulary, got ${id}`)
      // Special tokens have no text. Their names stand for them, as in vLLM.
      prompt += vocabulary.bytesOf(id).length === 0 ? stream.flush() + name : stream.push(id)
    }
    return { prompt: prompt + stream.flush() }
  }
}
