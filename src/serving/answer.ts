/**
 * One answer in OpenAI's shape, whole or as events: text up to a stop sequence, number of tokens, and attribution.
 * Knows nothing about HTTP, queues and models.
 */
import { ShareTally } from '../composition/attribution.ts'
import type { Backend, Piece, ServingEngine } from './engine.ts'
import { type InferenceRequest, MODEL_NAME, type RequestKind } from './openai.ts'

/** A request and what answers it. */
export interface Run {
  /** Held by the caller until the answer is complete. */
  readonly engine: ServingEngine
  readonly servedBy: Backend['servedBy']
  readonly request: InferenceRequest
  readonly kind: RequestKind
  readonly id: string
  /** Unix seconds. */
  readonly created: number
  /** Token ids, starting with the end of text. */
  readonly prompt: Int32Array
}

/** What is known of an answer so far. */
class Tally {
  tokens = 0
  finish: 'stop' | 'length' = 'stop'
  readonly #shares: ShareTally

  /** @param experts number of experts, the public one included */
  constructor(experts: number) {
    this.#shares = new ShareTally(experts)
  }

  add({ tokens, shares }: Piece): void {
    this.tokens = tokens ?? this.tokens + 1
    if (shares !== undefined) this.#shares.add(shares)
  }

  shares(): number[] {
    return this.#shares.shares()
  }
}

/**
 * Text up to the first stop sequence. The end of the text so far is held back while it may be the beginning of a stop
 * sequence. The tally is complete when the generator has ended.
 */
async function* textOf(
  { engine, request, prompt }: Run,
  tally: Tally,
  signal: AbortSignal,
): AsyncGenerator<string, void, void> {
  const { stop, maxTokens } = request
  const heldBack = Math.max(0, ...stop.map((sequence) => sequence.length - 1))
  let rest = ''
  let finish: Piece['finish']
  for await (const piece of engine.generate(request, prompt, signal)) {
    tally.add(piece)
    finish = piece.finish
    rest += piece.text
    const stopsAt = Math.min(...stop.map((sequence) => rest.indexOf(sequence)).filter((at) => at >= 0))
    if (Number.isFinite(stopsAt)) {
      yield rest.slice(0, stopsAt)
      return
    }
    const length = wholeCharacters(rest, rest.length - heldBack)
    if (length > 0) {
      yield rest.slice(0, length)
      rest = rest.slice(length)
    }
  }
  tally.finish = finish ?? (tally.tokens >= maxTokens ? 'length' : 'stop')
  yield rest
}

/** `length`, less one if a cut there would separate the two surrogates of a character. */
function wholeCharacters(text: string, length: number): number {
  return /[\ud800-\udbff]/.test(text.charAt(length - 1)) ? length - 1 : length
}

/** The body of a response that is not streamed. @throws ServingError; the reason of `signal`. */
export async function wholeAnswer(run: Run, signal: AbortSignal): Promise<object> {
  const tally = new Tally(run.engine.experts.length)
  let text = ''
  for await (const piece of textOf(run, tally, signal)) text += piece
  const choice =
    run.kind === 'chat'
      ? { index: 0, message: { role: 'assistant', content: text } }
      : { index: 0, text, logprobs: null }
  return {
    id: run.id,
    object: run.kind === 'chat' ? 'chat.completion' : 'text_completion',
    created: run.created,
    model: MODEL_NAME,
    choices: [{ ...choice, finish_reason: tally.finish }],
    usage: usage(run, tally),
    flexmesh: attribution(run, tally),
  }
}

/** The data of each server-sent event of an answer. @throws ServingError; the reason of `signal`. */
export async function* streamedAnswer(run: Run, signal: AbortSignal): AsyncGenerator<string, void, void> {
  const { id, created, kind } = run
  const object = kind === 'chat' ? 'chat.completion.chunk' : 'text_completion'
  const chunk = (rest: object): string => JSON.stringify({ id, object, created, model: MODEL_NAME, ...rest })
  const tally = new Tally(run.engine.experts.length)
  for await (const text of textOf(run, tally, signal)) {
    if (text === '') continue
    const choice = kind === 'chat' ? { index: 0, delta: { content: text } } : { index: 0, text }
    yield chunk({ choices: [{ ...choice, finish_reason: null }] })
  }
  const end = kind === 'chat' ? { index: 0, delta: {} } : { index: 0, text: '' }
  yield chunk({ choices: [{ ...end, finish_reason: tally.finish }], flexmesh: attribution(run, tally) })
  if (run.request.includeUsage) yield chunk({ choices: [], usage: usage(run, tally) })
  yield '[DONE]'
}

function usage({ prompt }: Run, { tokens }: Tally): Record<string, number> {
  return {
    prompt_tokens: prompt.length,
    completion_tokens: tokens,
    total_tokens: prompt.length + tokens,
  }
}

/** The composition that answered, its experts, and their shares of the answer. An upstream does not report shares. */
function attribution({ engine, servedBy }: Run, tally: Tally): object {
  const { composition, experts } = engine
  const shares = tally.shares()
  return {
    composition,
    served_by: servedBy,
    experts:
      servedBy === 'node' ? experts.map((label, e) => ({ ...label, share: shares[e] as number })) : experts,
  }
}
