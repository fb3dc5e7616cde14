/**
 * One text of an answer: the echo of its prompt, then the generated text up to a stop sequence, in whole characters, with
 * the tokens whose text is complete. Knows nothing about the shapes of OpenAI and HTTP.
 */
import type { TokenScore } from '../composition/composed-model.ts'
import type { Piece, ServingEngine } from './engine.ts'
import type { PlacedScore } from './logprobs.ts'
import type { InferenceRequest } from './openai.ts'

export interface ChoiceInit {
  readonly engine: ServingEngine
  /** With the prompt and the seed of this choice. */
  readonly request: InferenceRequest
  /** Token ids. */
  readonly prompt: Int32Array
  /** Place in the list of choices. */
  readonly index: number
  /** Name of the caller, who shares no keys and values of prompts with others. */
  readonly scope: string
  /** Receives each piece before its text is looked at. */
  readonly onPiece: (piece: Piece) => void
}

/** A token with the routing weight of each expert in the order of the composition, public model first. */
export interface TokenShares {
  readonly text: string
  readonly shares: readonly number[]
}

export interface Part {
  readonly text: string
  /** Tokens whose text is in the parts so far; empty unless the request asks for log-probabilities. */
  readonly scores: readonly PlacedScore[]
  /** Tokens that no part has listed yet; empty unless the request asks for their shares. */
  readonly listed: readonly TokenShares[]
}

/** Decimals of a routing weight in an answer: enough for a picture, and a third of the bytes of a double. */
const SHARE_DECIMALS = 4

export class Choice {
  readonly #init: ChoiceInit
  readonly #placement: Placement
  #listed: TokenShares[] = []
  tokens = 0
  /** Number of tokens of the prompt whose keys and values were known. */
  cachedTokens = 0
  finish: 'stop' | 'length' = 'stop'

  constructor(init: ChoiceInit) {
    this.#init = init
    this.#placement = new Placement(init)
  }

  get index(): number {
    return this.#init.index
  }

  /**
   * The end of the text so far is held back while it may be the beginning of a stop sequence or of a character.
   * @throws ServingError; the reason of `signal`.
   */
  async *parts(signal: AbortSignal): AsyncGenerator<Part, void, void> {
    const { engine, request, prompt, scope, onPiece } = this.#init
    const { stop, maxTokens, echo, logprobs } = request
    if (echo && logprobs === undefined) {
      yield this.#part(this.#placement.echo())
      if (maxTokens === 0) {
        this.finish = 'length'
        return
      }
    }
    let rest = ''
    let finish: Piece['finish']
    for await (const piece of engine.generate(request, prompt, signal, scope)) {
      this.#add(piece)
      onPiece(piece)
      finish = piece.finish
      if (echo && piece.prompt?.scores !== undefined)
        yield this.#part(this.#placement.echo(piece.prompt.scores))
      this.#placement.add(piece)
      rest += piece.text
      const stopsAt = Math.min(...stop.map((sequence) => rest.indexOf(sequence)).filter((at) => at >= 0))
      if (Number.isFinite(stopsAt)) {
        yield this.#part(rest.slice(0, stopsAt), 'stop sequence')
        return
      }
      const heldBack = Math.max(0, ...stop.map((sequence) => begunLength(rest, sequence)))
      const length = wholeCharacters(rest, rest.length - heldBack)
      if (length > 0) {
        yield this.#part(rest.slice(0, length))
        rest = rest.slice(length)
      }
    }
    this.finish = finish ?? (this.tokens >= maxTokens ? 'length' : 'stop')
    yield this.#part(rest, 'end')
  }

  #add({ text, tokens, shares, prompt }: Piece): void {
    this.tokens = tokens ?? this.tokens + 1
    this.cachedTokens = prompt?.cachedTokens ?? this.cachedTokens
    if (shares === undefined || !this.#init.request.tokenShares) return
    const rounded = Array.from(shares, (weight) => Number(weight.toFixed(SHARE_DECIMALS)))
    this.#listed.push({ text: text.toWellFormed(), shares: rounded })
  }

  #part(text: string, until?: 'stop sequence' | 'end'): Part {
    const listed = this.#listed
    this.#listed = []
    return { text: text.toWellFormed(), scores: this.#placement.take(text, until), listed }
  }
}

/** Length of the longest end of a text with which a sequence begins. The text does not contain the sequence. */
function begunLength(text: string, sequence: string): number {
  for (let length = Math.min(text.length, sequence.length - 1); length > 0; length--)
    if (text.endsWith(sequence.slice(0, length))) return length
  return 0
}

/** Returns `length`, or one less if a cut there would separate the two surrogates of a character. */
function wholeCharacters(text: string, length: number): number {
  return /[\ud800-\udbff]/.test(text.charAt(length - 1)) ? length - 1 : length
}

/** A token, and where its text begins and ends in the whole text of its choice, in UTF-16 code units. */
interface Span {
  readonly start: number
  readonly end: number
  readonly score: PlacedScore
}

/** Holds the scores of tokens until their text is part of the answer. */
class Placement {
  readonly #init: ChoiceInit
  /** In the order of the text. */
  readonly #spans: Span[] = []
  /** Length of the text of all tokens, in UTF-16 code units and in characters. */
  #end = 0
  #characters = 0
  /** Length of the parts that were taken. */
  #taken = 0

  constructor(init: ChoiceInit) {
    this.#init = init
  }

  /** The text of the prompt. @param scores of its tokens after the first; absent if they are not asked for */
  echo(scores?: readonly TokenScore[]): string {
    const { request, prompt, engine } = this.#init
    const given = request.prompt
    const text = typeof given === 'string' ? given : engine.vocabulary.decode(prompt)
    if (scores === undefined) this.#place(text)
    else {
      const stream = engine.vocabulary.decodeStream()
      prompt.forEach((id, t) => {
        this.#place(stream.push(id), t === 0 ? { id, top: [] } : scores[t - 1])
      })
      // Ends within a character, and texts that the tokenizer normalizes, are longer or shorter than their tokens.
      this.#end = text.length
      this.#characters = charactersOf(text)
    }
    return text
  }

  add({ text, score }: Piece): void {
    if (score !== undefined) this.#place(text, score)
  }

  #place(text: string, score?: Omit<PlacedScore, 'offset'>): void {
    const start = this.#end
    this.#end += text.length
    if (score !== undefined)
      this.#spans.push({ start, end: this.#end, score: { ...score, offset: this.#characters } })
    this.#characters += charactersOf(text)
  }

  /**
   * The scores of the tokens in the next part of the text, each once.
   * @param until why no other part follows: tokens after a stop sequence have no text in the answer
   */
  take(text: string, until?: 'stop sequence' | 'end'): PlacedScore[] {
    this.#taken += text.length
    const isIn = ({ start, end }: Span): boolean =>
      until === 'end' || (until === 'stop sequence' ? start < this.#taken : end <= this.#taken)
    const next = this.#spans.findIndex((span) => !isIn(span))
    return this.#spans.splice(0, next === -1 ? this.#spans.length : next).map(({ score }) => score)
  }
}

function charactersOf(text: string): number {
  let count = 0
  for (const _ of text) count++
  return count
}
