/** A decoder of single tokens on weights that are held for the vector kernels. */
import { HeldWeights } from '../../src/inference/held-weights.ts'
import { ranksOf } from '../../src/inference/serving-way.ts'
import { longestList, TokenDecoder, type TokenDecoderInit } from '../../src/inference/token-decoder.ts'
import type { WeightFormat } from '../../src/inference/weight-format.ts'
import { fillWeights } from '../../src/inference/weight-loader.ts'
import { VectorThreads } from '../../src/kernels/vector-threads.ts'
import type { ModelConfig } from '../../src/model/config.ts'
import { requireParam } from '../../src/model/params.ts'
import type { Params } from '../../src/model/weights.ts'

export async function heldDecoder(
  config: ModelConfig,
  params: Params,
  format: WeightFormat,
  init: Omit<TokenDecoderInit, 'embed'>,
): Promise<{ decoder: TokenDecoder; dispose: () => Promise<void> }> {
  const { E, streams } = init
  const { hiddenSize: C } = config
  const threads = await VectorThreads.create(init.threads, longestList(E))
  const shape = { config, ranks: ranksOf(params, E) }
  const held = new HeldWeights(threads, { shape, format, capacity: streams, withEmbedding: false })
  await fillWeights(threads, held, params)
  const { data } = requireParam(params, 'model.embed_tokens.weight')
  const decoder = await TokenDecoder.create(threads, held, params, {
    ...init,
    embed: (token, into) => into.set(data.subarray(token * C, (token + 1) * C)),
  })
  return { decoder, dispose: () => threads.dispose() }
}
