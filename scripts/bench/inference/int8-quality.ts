/**
 * Measures how many bits per byte 8-bit weights cost. The generator scores the shipped public text with the shipped
 * public model and four perturbed copies of its FFNs as experts, once with each kind of weights.
 */

import { fileURLToPath } from 'node:url'
import { loadPublicModel, type PublicModel } from '../../../src/checkpoint/public-model.ts'
import { readDocuments } from '../../../src/data/readers.ts'
import { mulberry32 } from '../../../src/lib/random.ts'
import { FFN_PROJECTIONS, layerName } from '../../../src/lib/tensor-names.ts'
import type { ModelConfig } from '../../../src/model/config.ts'
import { type Expert, mixtureWeights, requireParam, zeroRows } from '../../../src/model/params.ts'
import { loadParams, type Param, type Params } from '../../../src/model/weights.ts'
import { type OurServer, startOurs } from './our-server.ts'
import { EXPERTS, routerRows, TOP_K } from './reference-models.ts'

const SEED = 3
/** Amplitude of the noise in the copies, relative to each weight. */
const PERTURBATION = 0.2

/** Bits per byte with 8-bit weights divided by those with float32, minus 1. */
export async function measureInt8Loss(say: (line: string) => void): Promise<number> {
  const model = await loadPublicModel(fileURLToPath(new URL('../../../models/small', import.meta.url)))
  const random = mulberry32(SEED)
  const publicModel = await loadParams(model.weights)
  const experts = Array.from({ length: EXPERTS - 1 }, () => perturbed(model.config, publicModel, random))
  const params = mixtureWeights(model.config, publicModel, zeroRows(model.config), experts)
  const bits: number[] = []
  for (const weights of ['fp32', 'int8'] as const) {
    const init = { E: EXPERTS, topK: TOP_K, weights, contextLength: model.config.maxPositionEmbeddings }
    const server = await startOurs(model.config, params, init)
    try {
      const scored = await bitsPerByte(server, model)
      say(`models/small with ${weights} weights: ${scored.toFixed(5)} bits per byte`)
      bits.push(scored)
    } finally {
      await server.stop()
    }
  }
  const [fp32, int8] = bits as [number, number]
  return int8 / fp32 - 1
}

async function bitsPerByte({ generator }: OurServer, model: PublicModel): Promise<number> {
  const mask = new Float32Array(EXPERTS)
  let nats = 0
  let bytes = 0
  for await (const { text } of readDocuments([model.replay])) {
    const tokens = model.tokenizer.encode(text)
    bytes += Buffer.byteLength(text)
    // Each window starts with the token before it, so that every token is predicted exactly once.
    const room = generator.contextLength - 1
    for (let start = 0; start < tokens.length; start += room) {
      const before = start === 0 ? model.tokenizer.endOfText : (tokens[start - 1] as number)
      nats += await generator.score(Int32Array.of(before, ...tokens.subarray(start, start + room)), { mask })
    }
  }
  return nats / Math.LN2 / bytes
}

/** An expert of the public FFNs with noise proportional to each weight, and random router rows. */
function perturbed(config: ModelConfig, params: Params, random: () => number): Expert<Param> {
  const ffn = new Map<string, Param>()
  for (let layer = 0; layer < config.numHiddenLayers; layer++) {
    for (const projection of FFN_PROJECTIONS) {
      const { shape, data } = requireParam(params, layerName(layer, `mlp.${projection}.weight`))
      const noisy = data.map((weight) => weight * (1 + PERTURBATION * (2 * random() - 1)))
      ffn.set(`${layer}.${projection}`, { shape, data: noisy })
    }
  }
  return { ffn, routerRows: routerRows(config, random), bias: undefined }
}
