/**
 * One answer in OpenAI's shape, whole or as events: its choices, number of tokens, and attribution. Knows nothing about
 * HTTP, queues and models.
 */
import { ShareTally } from '../composition/attribution.ts'
import { MAX_SEED } from '../lib/random.ts'
import type { AnswerMeter } from '../telemetry/metrics.ts'
import { ChatMessageBuilder } from './chat-message.ts'
import { Choice, type Part, type TokenShares } from './choice.ts'
import { concurrently } from './concurrently.ts'
import type { Backend, ServingEngine } from './engine.ts'
import { chatLogprobs, completionLogprobs, type PlacedScore } from './logprobs.ts'
import type { InferenceRequest, Prompt, RequestKind } from './openai.ts'

/** A prompt of a request, with its token ids. Those of texts start with the end of text. */
export interface EncodedPrompt {
  readonly prompt: Prompt
  readonly tokens: Int32Array
}

/** A request, and the engine that answers it. */
export interface Run {
  /** Held by the caller until the answer is complete. */
  readonly engine: ServingEngine
  readonly servedBy: Backend['servedBy']
  readonly request: InferenceRequest
  readonly kind: RequestKind
  readonly id: string
  /** Unix seconds. */
  readonly created: number
  /** Each gets `request.choices` choices. */
  readonly prompts: readonly EncodedPrompt[]
  /** Name of the caller, who shares no keys and values of prompts with others. */
  readonly scope: string
  readonly meter: AnswerMeter
  /** Takes a free place of the engine for another choice; undefined if there is none. */
  readonly anotherPlace: () => (() => void) | undefined
  /**
   * Called once, when the generation has ended, with the number of its tokens and the share of each expert of the
   * engine; the shares are 0 if the engine does not report them.
   */
  readonly onGenerated?: (tokens: number, shares: readonly number[]) => void
}

/** A part of a choice, or its end if there is none. */
interface Step {
  readonly choice: Choice
  readonly part?: Part
}

/** The choices of an answer, and their totals, which are complete when `steps` has ended. */
export class Choices {
  readonly #run: Run
  readonly #shares: ShareTally
  readonly all: readonly Choice[]

  constructor(run: Run) {
    const { engine, request, prompts, scope } = run
    this.#run = run
    this.#shares = new ShareTally(engine.experts.length)
    this.all = prompts.flatMap(({ prompt, tokens }, p) =>
      Array.from({ length: request.choices }, (_, k) => {
        const own = { ...request, prompt, seed: (request.seed + k) % (MAX_SEED + 1) }
        const index = p * request.choices + k
        return new Choice({
          ...{ engine, request: own, prompt: tokens, index, scope },
          onPiece: ({ shares }) => {
            if (shares !== undefined) this.#shares.add(shares)
            run.meter.produced(this.tokens)
          },
        })
      }),
    )
  }

  /** Number of generated tokens of all choices. */
  get tokens(): number {
    return this.all.reduce((sum, { tokens }) => sum + tokens, 0)
  }

  /** Number of tokens of the prompts whose keys and values were known. Choices of one prompt after the first share it. */
  get cachedTokens(): number {
    const { choices } = this.#run.request
    return this.all
      .filter((_, i) => i % choices === 0)
      .reduce((sum, { cachedTokens }) => sum + cachedTokens, 0)
  }

  shares(): number[] {
    return this.#shares.shares()
  }

  /** What the choices produce, as it comes. @throws ServingError; the reason of `signal`. */
  async *steps(signal: AbortSignal): AsyncGenerator<Step, void, void> {
    const { meter, onGenerated, anotherPlace } = this.#run
    let outcome: Parameters<AnswerMeter['ended']>[0] = 'abort'
    const tasks = this.all.map(
      (choice) =>
        async function* (inner: AbortSignal): AsyncGenerator<Step, void, void> {
          for await (const part of choice.parts(inner)) yield { choice, part }
          yield { choice }
        },
    )
    try {
      yield* concurrently(tasks, anotherPlace, signal)
      outcome = this.all.some(({ finish }) => finish === 'length') ? 'length' : 'stop'
    } catch (error) {
      outcome = signal.aborted ? 'abort' : 'error'
      throw error
    } finally {
      onGenerated?.(this.tokens, this.shares())
      meter.ended(outcome)
    }
  }
}

/** The members that an answer and every chunk of a stream begin with. */
function head({ id, created, engine, request }: Run, object: string): object {
  return { id, object, created, model: request.model, system_fingerprint: engine.composition }
}

/** The log-probabilities of a choice or a chunk in the shape of its route; null if there are none. */
function logprobsOf({ kind, engine, request }: Run, scores: readonly PlacedScore[]): object | null {
  if (request.logprobs === undefined) return null
  if (kind === 'completion') return completionLogprobs(scores, engine.vocabulary)
  return chatLogprobs(scores, engine.vocabulary)
}

/** The body of a response that is not streamed. @throws ServingError; the reason of `signal`. */
export async function wholeAnswer(run: Run, signal: AbortSignal): Promise<object> {
  const choices = new Choices(run)
  const parts: Part[][] = choices.all.map(() => [])
  for await (const { choice, part } of choices.steps(signal)) {
    if (part !== undefined) parts[choice.index]?.push(part)
  }
  const isChat = run.kind === 'chat'
  const listed = parts.flatMap((of, index) => of.flatMap((part) => withIndex(run, index, part.listed)))
  return {
    ...head(run, isChat ? 'chat.completion' : 'text_completion'),
    choices: choices.all.map(({ index, finish }) => {
      const own = parts[index] ?? []
      const text = own.map((part) => part.text).join('')
      const logprobs = logprobsOf(
        run,
        own.flatMap(({ scores }) => scores),
      )
      if (!isChat) return { index, text, logprobs, finish_reason: finish }
      const builder = new ChatMessageBuilder(run.request.toolUse !== undefined)
      builder.push(text)
      builder.end()
      const { message } = builder
      return { index, message, logprobs, finish_reason: builder.finishReason(finish) }
    }),
    usage: usage(run, choices),
    flexmesh: attribution(run, choices, listed),
  }
}

/**
 * The data of each server-sent event of an answer. The first one of each choice of a chat has the role and no text.
 * @throws ServingError; the reason of `signal`.
 */
export async function* streamedAnswer(run: Run, signal: AbortSignal): AsyncGenerator<string, void, void> {
  const isChat = run.kind === 'chat'
  const { includeUsage, tokenShares } = run.request
  const first = head(run, isChat ? 'chat.completion.chunk' : 'text_completion')
  const choices = new Choices(run)
  const chunk = (choice: object, more: object = {}): string =>
    JSON.stringify({ ...first, choices: [choice], ...(includeUsage ? { usage: null } : {}), ...more })
  const messages = new Map<Choice, ChatMessageBuilder>()
  let open = choices.all.length
  for await (const { choice, part } of choices.steps(signal)) {
    const { index } = choice
    const message = messages.get(choice) ?? new ChatMessageBuilder(run.request.toolUse !== undefined)
    if (isChat && !messages.has(choice)) {
      const delta = { role: 'assistant', content: '' }
      yield chunk({ index, delta, logprobs: null, finish_reason: null })
    }
    messages.set(choice, message)
    if (part === undefined) {
      for (const delta of isChat ? message.end() : [])
        yield chunk({ index, delta, logprobs: null, finish_reason: null })
      const end = isChat ? { delta: {} } : { text: '' }
      const reason = message.finishReason(choice.finish)
      // The shares of the answer are known when the last choice has ended.
      const more = --open === 0 ? { flexmesh: attribution(run, choices) } : {}
      yield chunk({ index, ...end, logprobs: null, finish_reason: reason }, more)
      continue
    }
    const { text, scores, listed } = part
    // A token whose text is held back, because it may begin a stop sequence, is listed as soon as it is computed.
    if (text === '' && listed.length === 0 && scores.length === 0) continue
    const tokens = withIndex(run, index, listed)
    const more = tokenShares ? { flexmesh: { experts: run.engine.experts, tokens } } : {}
    const logprobs = scores.length === 0 ? null : logprobsOf(run, scores)
    if (!isChat) {
      yield chunk({ index, text, logprobs, finish_reason: null }, more)
      continue
    }
    const [delta, ...others] = message.push(text)
    // Text that may begin a call is held back.
    if (delta === undefined && scores.length === 0 && listed.length === 0) continue
    yield chunk({ index, delta: delta ?? { content: '' }, logprobs, finish_reason: null }, more)
    for (const other of others) yield chunk({ index, delta: other, logprobs: null, finish_reason: null })
  }
  if (includeUsage) yield JSON.stringify({ ...first, choices: [], usage: usage(run, choices) })
  yield '[DONE]'
}

/** Tokens with the index of their choice, if the answer has several. */
function withIndex(
  { prompts, request }: Run,
  index: number,
  listed: readonly TokenShares[],
): readonly object[] {
  return prompts.length * request.choices === 1 ? listed : listed.map((token) => ({ index, ...token }))
}

function usage({ prompts }: Run, { tokens, cachedTokens }: Choices): object {
  const promptTokens = prompts.reduce((sum, prompt) => sum + prompt.tokens.length, 0)
  return {
    prompt_tokens: promptTokens,
    completion_tokens: tokens,
    total_tokens: promptTokens + tokens,
    prompt_tokens_details: { cached_tokens: cachedTokens },
    completion_tokens_details: { reasoning_tokens: 0 },
  }
}

/**
 * The composition that answered, its experts, and their shares of the answer. An upstream does not report shares. Also
 * what the caller may not know of the request: its seed, and the members that had no effect.
 */
export function attribution(
  { engine, servedBy, request }: Run,
  choices: Choices,
  tokens?: readonly object[],
): object {
  const { composition, experts } = engine
  const { seed, ignored, tokenShares } = request
  const shares = choices.shares()
  return {
    composition,
    served_by: servedBy,
    seed,
    ...(ignored.length === 0 ? {} : { ignored }),
    ...(tokenShares && tokens !== undefined ? { tokens } : {}),
    experts:
      servedBy === 'node' ? experts.map((label, e) => ({ ...label, share: shares[e] as number })) : experts,
  }
}
