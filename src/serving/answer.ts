/**
 * One answer in OpenAI's shape, whole or as events: text up to a stop sequence, number of tokens, and attribution.
 * Knows nothing about HTTP, queues and models.
 */
import { ShareTally } from '../composition/attribution.ts'
import type { AnswerMeter } from '../telemetry/metrics.ts'
import type { Backend, Piece, ServingEngine } from './engine.ts'
import type { InferenceRequest, RequestKind } from './openai.ts'

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
  /** Token ids, starting with the end of text. */
  readonly prompt: Int32Array
  readonly meter: AnswerMeter
  /** Called once, when the generation has ended, with the number of its tokens. */
  readonly onGenerated?: (tokens: number) => void
}

/** A token of an answer, with the routing weight of each expert in the order of the composition, public model first. */
interface TokenShares {
  readonly text: string
  readonly shares: readonly number[]
}

/** Decimals of a routing weight in an answer: enough for a picture, and a third of the bytes of a double. */
const SHARE_DECIMALS = 4

/** Running totals of an answer: its tokens, its routing shares, and why it ends. */
class Tally {
  tokens = 0
  finish: 'stop' | 'length' = 'stop'
  readonly #shares: ShareTally
  /** Tokens that no chunk has listed yet. Only filled if the request asks for them. */
  #listed: TokenShares[] = []

  /** @param experts number of experts, the public one included */
  constructor(experts: number) {
    this.#shares = new ShareTally(experts)
  }

  add({ text, tokens, shares }: Piece, isListed: boolean): void {
    this.tokens = tokens ?? this.tokens + 1
    if (shares === undefined) return
    this.#shares.add(shares)
    if (isListed) this.#listed.push({ text: text.toWellFormed(), shares: Array.from(shares, roundedShare) })
  }

  /** The tokens since the last call. */
  takeTokens(): TokenShares[] {
    const tokens = this.#listed
    this.#listed = []
    return tokens
  }

  shares(): number[] {
    return this.#shares.shares()
  }
}

function roundedShare(weight: number): number {
  return Number(weight.toFixed(SHARE_DECIMALS))
}

/**
 * Text up to the first stop sequence, in whole characters. The end of the text so far is held back while it may be the
 * beginning of a stop sequence or of a character. The tally is complete when the generator has ended.
 */
async function* textOf(run: Run, tally: Tally, signal: AbortSignal): AsyncGenerator<string, void, void> {
  let outcome: Parameters<AnswerMeter['ended']>[0] = 'abort'
  try {
    yield* generatedText(run, tally, signal)
    outcome = tally.finish
  } catch (error) {
    outcome = signal.aborted ? 'abort' : 'error'
    throw error
  } finally {
    run.onGenerated?.(tally.tokens)
    run.meter.ended(outcome)
  }
}

async function* generatedText(
  { engine, request, prompt, meter }: Run,
  tally: Tally,
  signal: AbortSignal,
): AsyncGenerator<string, void, void> {
  const { stop, maxTokens, tokenShares } = request
  const heldBack = Math.max(0, ...stop.map((sequence) => sequence.length - 1))
  let rest = ''
  let finish: Piece['finish']
  for await (const piece of engine.generate(request, prompt, signal)) {
    tally.add(piece, tokenShares)
    meter.produced(tally.tokens)
    finish = piece.finish
    rest += piece.text
    const stopsAt = Math.min(...stop.map((sequence) => rest.indexOf(sequence)).filter((at) => at >= 0))
    if (Number.isFinite(stopsAt)) {
      yield rest.slice(0, stopsAt).toWellFormed()
      return
    }
    const length = wholeCharacters(rest, rest.length - heldBack)
    if (length > 0) {
      yield rest.slice(0, length).toWellFormed()
      rest = rest.slice(length)
    }
  }
  tally.finish = finish ?? (tally.tokens >= maxTokens ? 'length' : 'stop')
  yield rest.toWellFormed()
}

/** Returns `length`, or one less if a cut there would separate the two surrogates of a character. */
function wholeCharacters(text: string, length: number): number {
  return /[\ud800-\udbff]/.test(text.charAt(length - 1)) ? length - 1 : length
}

/** The members that an answer and every chunk of a stream begin with. */
function head({ id, created, engine, request }: Run, object: string): object {
  return { id, object, created, model: request.model, system_fingerprint: engine.composition }
}

/** The body of a response that is not streamed. @throws ServingError; the reason of `signal`. */
export async function wholeAnswer(run: Run, signal: AbortSignal): Promise<object> {
  const tally = new Tally(run.engine.experts.length)
  let text = ''
  for await (const piece of textOf(run, tally, signal)) text += piece
  const choice =
    run.kind === 'chat' ? { message: { role: 'assistant', content: text, refusal: null } } : { text }
  return {
    ...head(run, run.kind === 'chat' ? 'chat.completion' : 'text_completion'),
    choices: [{ index: 0, ...choice, logprobs: null, finish_reason: tally.finish }],
    usage: usage(run, tally),
    flexmesh: attribution(run, tally),
  }
}

/**
 * The data of each server-sent event of an answer. The first one of a chat has the role and no text.
 * @throws ServingError; the reason of `signal`.
 */
export async function* streamedAnswer(run: Run, signal: AbortSignal): AsyncGenerator<string, void, void> {
  const isChat = run.kind === 'chat'
  const { includeUsage, tokenShares } = run.request
  const first = head(run, isChat ? 'chat.completion.chunk' : 'text_completion')
  const tally = new Tally(run.engine.experts.length)
  const chunk = (choice: object, finish: string | null, more: object = {}): string => {
    const choices = [{ index: 0, ...choice, logprobs: null, finish_reason: finish }]
    return JSON.stringify({ ...first, choices, ...(includeUsage ? { usage: null } : {}), ...more })
  }
  const role = chunk({ delta: { role: 'assistant', content: '' } }, null)
  let hasBegun = !isChat
  for await (const text of textOf(run, tally, signal)) {
    if (!hasBegun) yield role
    hasBegun = true
    const tokens = tally.takeTokens()
    // A token whose text is held back, because it may begin a stop sequence, is listed as soon as it is computed.
    if (text === '' && tokens.length === 0) continue
    const more = tokenShares ? { flexmesh: { experts: run.engine.experts, tokens } } : {}
    yield chunk(isChat ? { delta: { content: text } } : { text }, null, more)
  }
  const end = isChat ? { delta: {} } : { text: '' }
  yield chunk(end, tally.finish, { flexmesh: attribution(run, tally) })
  if (includeUsage) yield JSON.stringify({ ...first, choices: [], usage: usage(run, tally) })
  yield '[DONE]'
}

function usage({ prompt }: Run, { tokens }: Tally): Record<string, number> {
  return {
    prompt_tokens: prompt.length,
    completion_tokens: tokens,
    total_tokens: prompt.length + tokens,
  }
}

/**
 * The composition that answered, its experts, and their shares of the answer. An upstream does not report shares. Also
 * what the caller may not know of the request: its seed, and the members that had no effect.
 */
function attribution({ engine, servedBy, request }: Run, tally: Tally): object {
  const { composition, experts } = engine
  const { seed, ignored, stream, tokenShares } = request
  const shares = tally.shares()
  return {
    composition,
    served_by: servedBy,
    seed,
    ...(ignored.length === 0 ? {} : { ignored }),
    ...(tokenShares && !stream ? { tokens: tally.takeTokens() } : {}),
    experts:
      servedBy === 'node' ? experts.map((label, e) => ({ ...label, share: shares[e] as number })) : experts,
  }
}
