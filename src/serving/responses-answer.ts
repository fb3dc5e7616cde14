/**
 * Answers of `/v1/responses`, whole or as events. Implements protocols/inference-api, section "Responses". Knows nothing
 * about HTTP, queues and models.
 */
import { type AnswerPart, ToolCallReader } from '../grammar/tool-call-reader.ts'
import { attribution, Choices, type Run } from './answer.ts'
import type { InferenceRequest } from './openai.ts'
import type { RepeatedMembers } from './responses-request.ts'

/** What is known of a response from its beginning. */
interface ResponseFacts {
  readonly id: string
  /** Unix seconds. */
  readonly created: number
  readonly request: InferenceRequest
  readonly repeated: RepeatedMembers
}

/** What is known when the answer is complete. */
interface ResponseEnd {
  readonly finish: 'stop' | 'length'
  readonly completed: number
  readonly inputTokens: number
  readonly cachedTokens: number
  readonly outputTokens: number
  /** The member `flexmesh` of the answer. */
  readonly attribution: object
}

interface ResponseEvent {
  readonly type: string
  readonly [member: string]: unknown
}

interface MessageItem {
  readonly type: 'message'
  readonly id: string
  status: string
  text: string
}

interface CallItem {
  readonly type: 'function_call'
  readonly id: string
  readonly callId: string
  readonly name: string
  status: string
  text: string
}

type Item = MessageItem | CallItem

/** The response of a request that is not streamed. @throws ServingError; the reason of `signal`. */
export async function wholeResponse(run: Run, now: () => number, signal: AbortSignal): Promise<object> {
  let last: ResponseEvent | undefined
  for await (const event of streamedResponse(run, now, signal)) last = event
  return last?.['response'] as object
}

/** The events of a response; the last one has the whole response. @throws ServingError; the reason of `signal`. */
export async function* streamedResponse(
  run: Run,
  now: () => number,
  signal: AbortSignal,
): AsyncGenerator<ResponseEvent, void, void> {
  const { id, created, request, prompts } = run
  const { repeated } = request
  if (repeated === undefined) throw new Error('expected a request of /v1/responses')
  const builder = new ResponseBuilder({ id, created, request, repeated })
  const choices = new Choices(run)
  yield* builder.begin()
  for await (const { part } of choices.steps(signal)) yield* builder.push(part?.text ?? '')
  yield* builder.end({
    finish: choices.all[0]?.finish ?? 'stop',
    completed: now(),
    inputTokens: prompts.reduce((sum, { tokens }) => sum + tokens.length, 0),
    cachedTokens: choices.cachedTokens,
    outputTokens: choices.tokens,
    attribution: attribution(run, choices),
  })
}

/** Builds one response from the text of its answer, and the events that say so. */
class ResponseBuilder {
  readonly #facts: ResponseFacts
  readonly #reader: ToolCallReader | undefined
  readonly #items: Item[] = []
  #sequence = 0

  constructor(facts: ResponseFacts) {
    this.#facts = facts
    this.#reader = facts.request.toolUse !== undefined ? new ToolCallReader() : undefined
  }

  begin(): ResponseEvent[] {
    const response = this.#response('in_progress')
    return [this.#event('response.created', { response }), this.#event('response.in_progress', { response })]
  }

  /** More text of the answer. */
  push(text: string): ResponseEvent[] {
    if (text === '') return []
    return this.#parts(this.#reader?.push(text) ?? [{ kind: 'text', text }])
  }

  /** The last events; the last of them has the whole response. */
  end(end: ResponseEnd): ResponseEvent[] {
    const events = this.#parts(this.#reader?.flush() ?? [])
    // An answer without any text is an empty message.
    if (this.#items.length === 0) events.push(...this.#open(this.#newMessage()))
    const status = end.finish === 'length' ? 'incomplete' : 'completed'
    events.push(...this.#close(status))
    events.push(this.#event(`response.${status}`, { response: this.#response(status, end) }))
    return events
  }

  #parts(parts: readonly AnswerPart[]): ResponseEvent[] {
    return parts.flatMap((part) => {
      if (part.kind === 'text') return this.#text(part.text)
      if (part.kind === 'call') return [...this.#close('completed'), ...this.#open(this.#newCall(part.name))]
      if (part.kind === 'end') return this.#close('completed')
      return this.#delta('response.function_call_arguments.delta', part.text, {})
    })
  }

  #text(text: string): ResponseEvent[] {
    const begin = this.#current?.type === 'message' ? [] : this.#open(this.#newMessage())
    const place = { content_index: 0, logprobs: [] }
    return [...begin, ...this.#delta('response.output_text.delta', text, place)]
  }

  /** The item that is not complete yet. */
  get #current(): Item | undefined {
    const last = this.#items.at(-1)
    return last?.status === 'in_progress' ? last : undefined
  }

  #newMessage(): Item {
    return { type: 'message', id: `msg_${crypto.randomUUID()}`, status: 'in_progress', text: '' }
  }

  #newCall(name: string): Item {
    const [id, callId] = [`fc_${crypto.randomUUID()}`, `call_${crypto.randomUUID()}`]
    return { type: 'function_call', id, callId, name, status: 'in_progress', text: '' }
  }

  #open(item: Item): ResponseEvent[] {
    this.#items.push(item)
    const place = { output_index: this.#items.length - 1 }
    const shown =
      item.type === 'message' ? { ...itemOf(item), content: [] } : { ...itemOf(item), arguments: '' }
    const added = this.#event('response.output_item.added', { ...place, item: shown })
    if (item.type !== 'message') return [added]
    const part = { item_id: item.id, ...place, content_index: 0, part: outputText('') }
    return [added, this.#event('response.content_part.added', part)]
  }

  #delta(type: string, delta: string, members: object): ResponseEvent[] {
    const item = this.#current
    if (item === undefined) return []
    item.text += delta
    return [this.#event(type, { item_id: item.id, output_index: this.#items.length - 1, ...members, delta })]
  }

  #close(status: string): ResponseEvent[] {
    const item = this.#current
    if (item === undefined) return []
    item.status = status
    const place = { item_id: item.id, output_index: this.#items.length - 1 }
    const done = this.#done(item, place)
    const { output_index: index } = place
    return [...done, this.#event('response.output_item.done', { output_index: index, item: itemOf(item) })]
  }

  #done(item: Item, place: object): ResponseEvent[] {
    const { text } = item
    if (item.type === 'function_call')
      return [
        this.#event('response.function_call_arguments.done', { ...place, name: item.name, arguments: text }),
      ]
    const inPart = { ...place, content_index: 0 }
    return [
      this.#event('response.output_text.done', { ...inPart, text, logprobs: [] }),
      this.#event('response.content_part.done', { ...inPart, part: outputText(text) }),
    ]
  }

  #event(type: string, members: object): ResponseEvent {
    return { type, sequence_number: this.#sequence++, ...members }
  }

  #response(status: string, end?: ResponseEnd): object {
    const { id, created, request, repeated } = this.#facts
    return {
      id,
      object: 'response',
      created_at: created,
      completed_at: status === 'completed' ? (end?.completed ?? null) : null,
      status,
      error: null,
      incomplete_details: status === 'incomplete' ? { reason: 'max_output_tokens' } : null,
      model: request.model,
      output: this.#items.map(itemOf),
      previous_response_id: null,
      ...repeated,
      temperature: request.temperature,
      top_p: request.topP,
      presence_penalty: request.presencePenalty,
      frequency_penalty: request.frequencyPenalty,
      top_logprobs: 0,
      reasoning: { effort: null, summary: null },
      truncation: 'disabled',
      max_tool_calls: null,
      store: false,
      background: false,
      service_tier: 'default',
      usage: end === undefined ? null : usage(end),
      ...(end === undefined ? {} : { flexmesh: end.attribution }),
    }
  }
}

function outputText(text: string): object {
  return { type: 'output_text', text, annotations: [], logprobs: [] }
}

function itemOf(item: Item): object {
  const { type, id, status, text } = item
  if (type === 'message') return { type, id, status, role: 'assistant', content: [outputText(text)] }
  return { type, id, status, call_id: item.callId, name: item.name, arguments: text }
}

function usage({ inputTokens, cachedTokens, outputTokens }: ResponseEnd): object {
  return {
    input_tokens: inputTokens,
    input_tokens_details: { cached_tokens: cachedTokens },
    output_tokens: outputTokens,
    output_tokens_details: { reasoning_tokens: 0 },
    total_tokens: inputTokens + outputTokens,
  }
}
