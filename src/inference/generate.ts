/**
 * Builds a generator from composed weights: chooses whether the engine or the vector kernels decode, and creates the
 * decoders and the batcher. Does not know tokenizers or HTTP.
 */
import { totalmem } from 'node:os'
import { limit } from '../lib/limits.ts'
import type { ModelConfig } from '../model/config.ts'
import { lowRankExperts } from '../model/params.ts'
import { loadParams, type WeightMap } from '../model/weights.ts'
import type { Engine } from '../tensor/engine.ts'
import { Batcher, type Generator } from './batcher.ts'
import { Decoder } from './decoder.ts'
import { QuantizedParams } from './quantized-params.ts'
import { TokenDecoder } from './token-decoder.ts'
import { bitsOf, type WeightFormat } from './weight-format.ts'
import { weightLayoutBytes } from './weight-layout.ts'

/** Default of `GeneratorInit.prefillTokens`. */
const PREFILL_TOKENS = 256
/** Share of RAM that the kernels' copy of the weights may take. Larger models decode through the engine. */
const MEMORY_SHARE = 1 / 4

export interface GeneratorInit {
  /** Number of experts, the public one included. */
  readonly E: number
  readonly topK: number
  /** Maximum number of tokens of a prompt and its completion together. */
  readonly contextLength: number
  /** Default: fp32. */
  readonly weights?: WeightFormat
  /** Maximum number of requests that are served at the same time; others wait. */
  readonly streams?: number
  /** Maximum number of prompt tokens read in one run: enough for efficient matrix products. */
  readonly prefillTokens?: number
  /**
   * Memory for the keys and values of recent prompts, which speeds up prompts with the same beginning; 0 disables it.
   */
  readonly prefixCacheBytes?: number
  /**
   * Number of threads of the vector kernels that decode; 0 decodes through the engine. Default: as many as the engine
   * has.
   */
  readonly vectorThreads?: number
}

/**
 * Creates a generator. `weights` are those of `mixtureWeights`.
 * @throws RangeError if the system cannot provide the memory for the weights.
 */
export async function createGenerator(
  engine: Engine,
  config: ModelConfig,
  weights: WeightMap,
  init: GeneratorInit,
): Promise<Generator> {
  const streams = init.streams ?? limit('servedStreams')
  const prefillTokens = Math.min(init.prefillTokens ?? PREFILL_TOKENS, init.contextLength)
  const { E, topK, contextLength, weights: format = 'fp32' } = init
  const params = await loadParams(weights)
  const bits = bitsOf(format)
  const quantized = bits === undefined ? undefined : new QuantizedParams(params, bits)
  const decoder = await Decoder.create(engine, config, params, quantized, {
    E,
    topK,
    contextLength,
    maxRows: Math.max(streams, prefillTokens),
  })
  try {
    const tokens = await createTokenDecoder()
    return new Batcher(decoder, tokens, config, {
      E,
      contextLength,
      streams,
      prefillTokens,
      prefixCacheBytes: init.prefixCacheBytes ?? limit('prefixCacheBytes'),
    })
  } catch (error) {
    await decoder.dispose()
    throw error
  }

  /** Undefined where decoding goes through the engine. */
  async function createTokenDecoder(): Promise<TokenDecoder | undefined> {
    const threads = init.vectorThreads ?? engine.threads ?? 0
    // The vector kernels support only experts of full rank, so a mixture with a low-rank expert decodes through the
    // engine.
    const usesVectorKernels =
      threads > 0 &&
      lowRankExperts(params, E).size === 0 &&
      weightLayoutBytes(config, E, bits, streams) <= totalmem() * MEMORY_SHARE
    if (!usesVectorKernels) return undefined
    return TokenDecoder.create(config, params, quantized, { E, topK, contextLength, streams, threads })
  }
}
