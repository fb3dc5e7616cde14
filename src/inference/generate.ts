/**
 * Builds a generator from composed weights: creates the decoders and the batcher for one way of serving. Does not know
 * tokenizers or HTTP.
 */
import { VectorThreads } from '../kernels/vector-threads.ts'
import { limit } from '../lib/limits.ts'
import type { ModelConfig } from '../model/config.ts'
import { loadParams, type Params, type WeightMap } from '../model/weights.ts'
import type { Engine } from '../tensor/engine.ts'
import { Batcher, type Generator } from './batcher.ts'
import { Decoder } from './decoder.ts'
import { HeldWeights } from './held-weights.ts'
import { PromptDecoder } from './prompt-decoder.ts'
import { FEW_VECTORS } from './prompt-products.ts'
import type { PromptReader } from './prompt-reader.ts'
import { QuantizedParams } from './quantized-params.ts'
import { ranksOf, type ServingWay, servingWay } from './serving-way.ts'
import { longestList, TokenDecoder } from './token-decoder.ts'
import { bitsOf, type WeightFormat } from './weight-format.ts'
import { fillWeights, type KeptCodes } from './weight-loader.ts'

/** Default of `GeneratorInit.prefillTokens`. */
const PREFILL_TOKENS = 256
/** The same for held weights while no other request is active: their expansion is shared by more tokens. */
const HELD_PREFILL_TOKENS = 512

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
  /** Memory for keys and values. Default: unlimited. */
  readonly keysValuesBytes?: number
  /**
   * Number of threads of the vector kernels that decode; 0 decodes through the engine. Default: as many as the engine
   * has.
   */
  readonly vectorThreads?: number
  /** Default: `servingWay`. */
  readonly way?: ServingWay
  /** Maximum bytes of the matrices of one block of memory. Default: as many as its addresses allow. */
  readonly blockBytes?: number
  /** Places for codes, by expert. Default: codes are not kept. */
  readonly kept?: readonly (KeptCodes | undefined)[]
  /** Ends the creation. */
  readonly signal?: AbortSignal
}

/** What a generator is created from. */
interface Task {
  readonly engine: Engine
  readonly config: ModelConfig
  readonly weights: WeightMap
  readonly init: GeneratorInit
  readonly format: WeightFormat
  readonly streams: number
  readonly prefillTokens: number
  readonly threads: number
}

interface Decoders {
  readonly prompts: PromptReader
  /** Undefined where the engine decodes. */
  readonly tokens?: TokenDecoder
  dispose(): Promise<void>
}

/**
 * Creates a generator. `weights` are those of `mixtureWeights`.
 * @throws RangeError if the system cannot provide the memory for the weights; as `WeightSource.read`.
 */
export async function createGenerator(
  engine: Engine,
  config: ModelConfig,
  weights: WeightMap,
  init: GeneratorInit,
): Promise<Generator> {
  const { E, contextLength, weights: format = 'fp32' } = init
  const streams = init.streams ?? limit('servedStreams')
  const prefillTokens = Math.min(init.prefillTokens ?? PREFILL_TOKENS, contextLength)
  const threads = init.vectorThreads ?? engine.threads ?? 0
  const way = init.way ?? servingWay(config, weights, format, threads)
  const task = { engine, config, weights, init, format, streams, prefillTokens, threads }
  const decoders = way === 'engine' ? await withEngine(task) : await withKernels(task, way)
  return new Batcher(decoders.prompts, decoders.tokens, config, {
    E,
    contextLength,
    streams,
    prefillTokens,
    prefillTokensAlone:
      way === 'held' && init.prefillTokens === undefined ? HELD_PREFILL_TOKENS : prefillTokens,
    keysValuesBytes: init.keysValuesBytes ?? Number.POSITIVE_INFINITY,
    prefixCacheBytes: init.prefixCacheBytes ?? limit('prefixCacheBytes'),
    dispose: () => decoders.dispose(),
  })
}

/** The engine reads prompts and decodes. */
async function withEngine(task: Task): Promise<Decoders> {
  const { weights, format } = task
  const params = await loadParams(weights, task.init.signal)
  const prompts = await engineDecoder(task, params, quantizedOf(params, format))
  return { prompts, dispose: () => prompts.dispose() }
}

function quantizedOf(params: Params, format: WeightFormat): QuantizedParams | undefined {
  const bits = bitsOf(format)
  return bits === undefined ? undefined : new QuantizedParams(params, bits)
}

function engineDecoder(task: Task, params: Params, quantized: QuantizedParams | undefined): Promise<Decoder> {
  const { engine, config, init, streams, prefillTokens } = task
  const maxRows = Math.max(streams, prefillTokens)
  return Decoder.create(engine, config, params, quantized, { ...init, maxRows })
}

/** The vector kernels decode. Prompts are read by the engine from another copy, or from the held weights. */
async function withKernels(task: Task, way: Exclude<ServingWay, 'engine'>): Promise<Decoders> {
  const { engine, config, init, format, streams, prefillTokens, threads: count } = task
  const { E, blockBytes, signal, kept = [] } = init
  const threads = await VectorThreads.create(count, longestList(E))
  const cleanups: (() => Promise<void>)[] = [() => threads.dispose()]
  const dispose = async (): Promise<void> => {
    for (const cleanup of cleanups.splice(0).reverse()) await cleanup()
  }
  try {
    const params = way === 'copy' ? await loadParams(task.weights, signal) : undefined
    const weights = params ?? task.weights
    const held = new HeldWeights(threads, {
      shape: { config, ranks: ranksOf(weights, E) },
      format,
      capacity: Math.max(streams, FEW_VECTORS),
      withEmbedding: params === undefined,
      ...(blockBytes === undefined ? {} : { blockBytes }),
    })
    await fillWeights(threads, held, weights, { kept, signal })
    const embed = params === undefined ? held.embed.bind(held) : embeddingOf(params, config)
    const tokens = await TokenDecoder.create(threads, held, weights, {
      ...{ ...init, streams: Math.max(streams, FEW_VECTORS), threads: count, embed },
    })
    const prompts =
      params === undefined
        ? await PromptDecoder.create(engine, threads, held, weights, {
            ...init,
            maxRows: prefillTokens,
            tokens,
          })
        : await engineDecoder(task, params, quantizedOf(params, format))
    cleanups.push(() => prompts.dispose())
    return { prompts, tokens, dispose }
  } catch (error) {
    await dispose()
    throw error
  }
}

/** Writes the embedding of a token, (C). */
function embeddingOf(
  params: Params,
  { hiddenSize: C }: ModelConfig,
): (token: number, into: Float32Array) => void {
  const table = params.get('model.embed_tokens.weight')?.data as Float32Array
  return (token, into) => into.set(table.subarray(token * C, (token + 1) * C))
}
