/**
 * Attention of a prompt that prompt-decoder.ts reads, in pieces: ONNX Runtime for Node computes in the thread that calls
 * it, so one long run would hold up everything else that a node does. Does not know weights and requests.
 */
import { keyValueWidth, type ModelConfig } from '../model/config.ts'
import type { KvCache } from './kv-cache.ts'
import type { PromptLayers } from './prompt-layers.ts'
import type { Turns } from './turns.ts'

/**
 * Multiplications and additions of the queries with the keys, and of the scores with the values, in one run. Twice as many
 * took up to 57 ms of one thread on two busy cores.
 */
const WORK_PER_RUN = 5e8
/** Minimum number of tokens of a run: each run copies the whole cache of its layer, which must stay the smaller part. */
const MIN_TOKENS = 64

/** Tokens of one sequence whose queries, keys and values are known. Widths: C of the stream, K of the keys. */
export interface PromptQueries {
  /** Slot of the sequence in the cache, and number of its positions that are filled. */
  readonly slot: number
  readonly length: number
  /** Number of new tokens. */
  readonly T: number
  /** (C, T) before norm and rotary embedding. */
  readonly qT: Float32Array
  /** (K, T) before norm and rotary embedding. */
  readonly kT: Float32Array
  /** (K, T). */
  readonly vT: Float32Array
  readonly qGain: Float32Array
  readonly kGain: Float32Array
}

export class PromptAttention {
  readonly #layers: Pick<PromptLayers, 'attend'>
  readonly #rotary: { readonly cos: Float32Array; readonly sin: Float32Array }
  readonly #C: number
  readonly #K: number
  readonly #work: number
  readonly #minTokens: number

  /**
   * @param rotary tables (R, D / 2), with R greater than every position
   * @param work multiplications and additions of one run, unless it has only `minTokens` tokens
   */
  constructor(
    config: ModelConfig,
    layers: Pick<PromptLayers, 'attend'>,
    rotary: { readonly cos: Float32Array; readonly sin: Float32Array },
    { work = WORK_PER_RUN, minTokens = MIN_TOKENS } = {},
  ) {
    this.#layers = layers
    this.#rotary = rotary
    this.#C = config.hiddenSize
    this.#K = keyValueWidth(config)
    this.#work = work
    this.#minTokens = minTokens
  }

  /**
   * Computes the attention of a layer and appends the keys and values of the new tokens to the cache.
   * @returns (T, C), before the output projection
   */
  async run(cache: KvCache, layer: number, tokens: PromptQueries, turns: Turns): Promise<Float32Array> {
    const { T, length } = tokens
    const perToken = 4 * this.#C * (length + T)
    const most = Math.max(this.#minTokens, Math.floor(this.#work / perToken))
    const mixed = new Float32Array(T * this.#C)
    for (let from = 0; from < T; from += most) {
      const n = Math.min(most, T - from)
      const part = mixed.subarray(from * this.#C, (from + n) * this.#C)
      await this.#attend(cache, layer, { ...tokens, ...this.#columns(tokens, from, n) }, part)
      await turns.next()
    }
    return mixed
  }

  async #attend(cache: KvCache, layer: number, tokens: PromptQueries, mixed: Float32Array): Promise<void> {
    const { slot, length, T, qT, kT, vT, qGain, kGain } = tokens
    const total = length + T
    const keys = new Float32Array(T * this.#K)
    const values = new Float32Array(T * this.#K)
    await this.#layers.attend.run(
      {
        ...{ qT, kT, vT, qGain, kGain, ...this.#rotary },
        positions: Int32Array.from({ length: T }, (_, t) => length + t),
        lastPositions: Int32Array.of(total - 1),
        total: Int32Array.of(total),
        pastKeys: cache.keys(layer, slot, 1),
        pastValues: cache.values(layer, slot, 1),
      },
      { mixed, keys, values },
      { T, P: cache.positions },
    )
    cache.write(layer, slot, [length], T, keys, values)
  }

  /** `n` of the tokens, after the `from` ones before them. */
  #columns(
    { T, length, qT, kT, vT }: PromptQueries,
    from: number,
    n: number,
  ): Pick<PromptQueries, 'T' | 'length' | 'qT' | 'kT' | 'vT'> {
    if (n === T) return { T, length, qT, kT, vT }
    const of = (matrix: Float32Array): Float32Array => columnsOf(matrix, T, from, n)
    return { T: n, length: length + from, qT: of(qT), kT: of(kT), vT: of(vT) }
  }
}

/** Columns `from` to `from + n` of a matrix with T columns, as a matrix. */
function columnsOf(matrix: Float32Array, T: number, from: number, n: number): Float32Array {
  const rows = matrix.length / T
  const out = new Float32Array(rows * n)
  for (let row = 0; row < rows; row++) {
    out.set(matrix.subarray(row * T + from, row * T + from + n), row * n)
  }
  return out
}
