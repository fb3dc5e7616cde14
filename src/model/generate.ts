/**
 * Token-by-token generation with a key-value cache that is updated in place. One compiled graph
 * serves every choice of experts: leaving one out is a router mask. Knows no tokenizer and no HTTP.
 */
import { gather, slice, sum, type Tensor, type Tensor1D } from '@tensorflow/tfjs'
import type { Compiled, Engine, TensorSpec, Values } from '../tensor/engine.ts'
import type { ModelConfig } from './config.ts'
import { rotaryTables } from './layers.ts'
import type { Params } from './params.ts'
import { chooseToken, type Sampling } from './sampling.ts'
import { forwardCached, head } from './transformer.ts'

/** Tokens of a prompt that are read in one run. */
const PREFILL_TOKENS = 32
/** Router mask of an expert left out; finite so that no row becomes NaN. */
export const LEFT_OUT = -1e30

export interface GenerateRequest {
  /** At least one token; longer than the context is refused by the caller. */
  readonly prompt: Int32Array
  readonly maxTokens: number
  readonly sampling: Sampling
  /** Ends generation when chosen; not yielded. */
  readonly endOfText: number
  /** Length E: 0 in use, LEFT_OUT not. The public expert is always in use. */
  readonly mask: Float32Array
}

export interface GeneratedToken {
  readonly id: number
  /** Routing weight of each expert for this token, mean over layers; sums to 1. */
  readonly shares: Float32Array
}

export interface GeneratorInit {
  readonly E: number
  readonly topK: number
  /** Longest prompt plus completion. */
  readonly contextLength: number
}

export interface Generator {
  readonly contextLength: number
  generate(request: GenerateRequest, signal?: AbortSignal): AsyncGenerator<GeneratedToken, void, void>
  dispose(): Promise<void>
}

interface Cache {
  /** Keys then values of every layer, each (1, H, P, D). */
  readonly arrays: Readonly<Record<string, Float32Array>>
  /** (1, 1, 1, P) */
  readonly pastMask: Float32Array
  length: number
}

export async function createGenerator(
  engine: Engine,
  config: ModelConfig,
  params: Params,
  init: GeneratorInit,
): Promise<Generator> {
  const prefill = await compileChunk(engine, config, params, init, PREFILL_TOKENS)
  const decode = await compileChunk(engine, config, params, init, 1)
  const tables = rotaryTables(config, init.contextLength + PREFILL_TOKENS)
  const state: Chunks = { config, init, prefill, decode, tables }
  return {
    contextLength: init.contextLength,
    generate: (request, signal) => generate(state, request, signal),
    dispose: async () => {
      await prefill.dispose()
      await decode.dispose()
    },
  }
}

interface Chunks {
  readonly config: ModelConfig
  readonly init: GeneratorInit
  readonly prefill: Compiled
  readonly decode: Compiled
  readonly tables: { cos: Float32Array; sin: Float32Array }
}

async function* generate(
  state: Chunks,
  request: GenerateRequest,
  signal?: AbortSignal,
): AsyncGenerator<GeneratedToken, void, void> {
  const { contextLength } = state.init
  const cache = emptyCache(state.config, contextLength)
  let out: ChunkResult | undefined
  for (let start = 0; start < request.prompt.length; start += PREFILL_TOKENS) {
    signal?.throwIfAborted()
    const chunk = request.prompt.subarray(start, start + PREFILL_TOKENS)
    out = await runChunk(state, chunk, cache, request.mask)
  }
  const choose = chooseToken(request.sampling)
  for (let produced = 0; produced < request.maxTokens && out !== undefined; produced++) {
    const id = choose(out.logits)
    if (id === request.endOfText) return
    yield { id, shares: out.shares }
    signal?.throwIfAborted()
    if (cache.length >= contextLength || produced + 1 === request.maxTokens) return
    out = await runChunk(state, Int32Array.of(id), cache, request.mask)
  }
}

interface ChunkResult {
  readonly logits: Float32Array
  readonly shares: Float32Array
}

async function runChunk(
  { config, tables, prefill, decode }: Chunks,
  tokens: Int32Array,
  cache: Cache,
  mask: Float32Array,
): Promise<ChunkResult> {
  const [compiled, T] = tokens.length === 1 ? [decode, 1] : [prefill, PREFILL_TOKENS]
  const D = config.hiddenSize / config.numAttentionHeads
  const ids = new Int32Array(T)
  ids.set(tokens)
  const from = cache.length * D
  const out = await compiled.run({
    ids,
    last: Int32Array.of(tokens.length - 1),
    cos: tables.cos.subarray(from, from + T * D),
    sin: tables.sin.subarray(from, from + T * D),
    pastMask: cache.pastMask,
    mask,
    ...cache.arrays,
  })
  append(config, cache, out, T, tokens.length)
  return { logits: out['logits'] as Float32Array, shares: out['shares'] as Float32Array }
}

/** Write the chunk's keys and values, (1, H, T, D), behind the past, (1, H, P, D). */
function append(
  config: ModelConfig,
  cache: Cache,
  out: Record<string, Values>,
  T: number,
  count: number,
): void {
  const H = config.numAttentionHeads
  const D = config.hiddenSize / H
  const P = cache.pastMask.length
  const room = Math.min(count, P - cache.length)
  for (const [name, past] of Object.entries(cache.arrays)) {
    const fresh = out[name.slice('past.'.length)] as Float32Array
    for (let h = 0; h < H; h++) {
      past.set(fresh.subarray(h * T * D, h * T * D + room * D), (h * P + cache.length) * D)
    }
  }
  cache.pastMask.fill(0, cache.length, cache.length + room)
  cache.length += room
}

function emptyCache(config: ModelConfig, P: number): Cache {
  const arrays: Record<string, Float32Array> = {}
  for (let layer = 0; layer < config.numHiddenLayers; layer++) {
    arrays[`past.k${layer}`] = new Float32Array(P * config.hiddenSize)
    arrays[`past.v${layer}`] = new Float32Array(P * config.hiddenSize)
  }
  return { arrays, pastMask: new Float32Array(P).fill(LEFT_OUT), length: 0 }
}

async function compileChunk(
  engine: Engine,
  config: ModelConfig,
  params: Params,
  init: GeneratorInit,
  T: number,
): Promise<Compiled> {
  const { numAttentionHeads: H, numHiddenLayers: L } = config
  const D = config.hiddenSize / H
  const P = init.contextLength
  const inputs: Record<string, TensorSpec> = {
    ids: { shape: [1, T], dtype: 'int32' },
    last: { shape: [1], dtype: 'int32' },
    cos: { shape: [T, D] },
    sin: { shape: [T, D] },
    pastMask: { shape: [1, 1, 1, P] },
    mask: { shape: [init.E] },
  }
  for (let layer = 0; layer < L; layer++) {
    inputs[`past.k${layer}`] = { shape: [1, H, P, D] }
    inputs[`past.v${layer}`] = { shape: [1, H, P, D] }
  }
  return engine.compile(
    (tensors) => {
      const weights = (name: string): Tensor => tensors[name] as Tensor
      const past = Array.from({ length: L }, (_, layer) => ({
        keys: weights(`past.k${layer}`),
        values: weights(`past.v${layer}`),
        mask: weights('pastMask'),
      }))
      const rotary = { cos: weights('cos'), sin: weights('sin') }
      const result = forwardCached(config, weights, weights('ids'), rotary, past, {
        B: 1,
        T,
        P,
        E: init.E,
        topK: init.topK,
        bias: true,
        mask: weights('mask'),
      })
      const last = weights('last') as Tensor1D
      let shares: Tensor | undefined
      for (const { weights: routed } of result.routing) {
        const row = gather(routed, last) // (1, E)
        const share = row.div(sum(row, -1, true))
        shares = shares === undefined ? share : shares.add(share)
      }
      const out: Record<string, Tensor> = {
        logits: head(weights, gather(result.hidden, last)), // (1, V)
        shares: (shares as Tensor).mul(1 / L),
      }
      result.keys.forEach((keys, layer) => {
        out[`k${layer}`] = slice(keys, [0, 0, 0, 0], [1, H, T, D])
        out[`v${layer}`] = result.values[layer] as Tensor
      })
      return out
    },
    { inputs, frozen: Object.fromEntries(params) },
  )
}
