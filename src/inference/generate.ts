/**
 * Composed weights made ready to generate: what decodes, where the weights that it reads lie, and how many requests
 * share a step. Knows no tokenizer and no HTTP.
 */
import { totalmem } from 'node:os'
import { limit } from '../lib/limits.ts'
import type { ModelConfig } from '../model/config.ts'
import { lowRankExperts, type Params } from '../model/params.ts'
import type { Engine } from '../tensor/engine.ts'
import { Batcher, type Generator } from './batcher.ts'
import { Decoder } from './decoder.ts'
import { QuantizedParams } from './quantized-params.ts'
import { TokenDecoder } from './token-decoder.ts'
import { bitsOf, type WeightFormat } from './weight-format.ts'
import { weightLayoutBytes } from './weight-layout.ts'

const PREFILL_TOKENS = 256
/** Of the machine's memory, for the second copy of the weights that decoding reads; else the engine decodes. */
const MEMORY_SHARE = 1 / 4

export interface GeneratorInit {
  readonly E: number
  readonly topK: number
  /** Longest prompt plus completion. */
  readonly contextLength: number
  readonly weights?: WeightFormat
  /** Requests that are served at once; more wait. */
  readonly streams?: number
  /** Tokens of a prompt that are read in one run: long enough for full matrix products. */
  readonly prefillTokens?: number
  /** Memory for the beginnings of prompts seen lately; 0 keeps none. */
  readonly prefixCacheBytes?: number
  /** Threads of the vector kernels that decode; 0 leaves decoding to the engine. Default: as the engine. */
  readonly vectorThreads?: number
}

export async function createGenerator(
  engine: Engine,
  config: ModelConfig,
  params: Params,
  init: GeneratorInit,
): Promise<Generator> {
  const streams = init.streams ?? limit('servedStreams')
  const prefillTokens = Math.min(init.prefillTokens ?? PREFILL_TOKENS, init.contextLength)
  const { E, topK, contextLength, weights = 'fp32' } = init
  const bits = bitsOf(weights)
  const quantized = bits === undefined ? undefined : new QuantizedParams(params, bits)
  const decoder = await Decoder.create(engine, config, params, quantized, {
    E,
    topK,
    contextLength,
    maxRows: Math.max(streams, prefillTokens),
  })
  const threads = init.vectorThreads ?? engine.threads ?? 0
  // The vector kernels read whole weights: beside experts of low rank the engine decodes.
  const usesVectorKernels =
    threads > 0 &&
    lowRankExperts(params, E).size === 0 &&
    weightLayoutBytes(config, E, bits, streams) <= totalmem() * MEMORY_SHARE
  const tokens = usesVectorKernels
    ? await TokenDecoder.create(config, params, quantized, { E, topK, contextLength, streams, threads })
    : undefined
  return new Batcher(decoder, tokens, config, {
    E,
    contextLength,
    streams,
    prefillTokens,
    prefixCacheBytes: init.prefixCacheBytes ?? limit('prefixCacheBytes'),
  })
}
