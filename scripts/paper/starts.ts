/** Start values of router rows, in the ways that the table compares. Knows nothing about training. */

import { mean as meanOf, type Tensor, zeros } from '@tensorflow/tfjs'
import { mulberry32 } from '../../src/lib/random.ts'
import { denseName } from '../../src/lib/tensor-names.ts'
import { forward } from '../../src/model/transformer.ts'
import type { Params } from '../../src/model/weights.ts'
import {
  EMBEDDING_WINDOW,
  embedForRouter,
  type RouterEmbedding,
} from '../../src/training/router-embedding.ts'
import { PUBLIC_DOMAIN, sampler } from './text.ts'
import type { Laboratory } from './trainings.ts'

const WINDOWS = 128
/** Length of a domain embedding, similar to those of the paper (0.41 to 0.55). */
const NORM = 0.5

function windows(ids: Int32Array, seed: number): Promise<Int32Array[]> {
  const source = sampler(ids, EMBEDDING_WINDOW - 1, seed)
  return Promise.all(Array.from({ length: WINDOWS }, (_, i) => source(-1 - i)))
}

/** The product's start: mean stream of the owner's text relative to public text and background, whitened. */
export async function whitenedStart(
  { engine, settings, text }: Laboratory,
  publicModel: Params,
  domain: string,
  seed: number,
): Promise<RouterEmbedding> {
  return embedForRouter(engine, settings.config, publicModel, {
    own: await windows(text.train(domain), seed),
    public: await windows(text.train(PUBLIC_DOMAIN), seed + 1),
  })
}

/** The public model's mean hidden state before each router, scaled to the length of an embedding. */
export async function hiddenStateRows(
  { engine, settings, text }: Laboratory,
  publicModel: Params,
  domain: string,
  seed: number,
): Promise<Float32Array[]> {
  const { hiddenSize: C, numHiddenLayers } = settings.config
  const all = await windows(text.train(domain), seed)
  const B = WINDOWS
  const T = EMBEDDING_WINDOW
  const compiled = await engine.compile(
    (tensors) => {
      const weights = (name: string): Tensor => tensors[denseName(name)] ?? (zeros([1, C]) as Tensor)
      const init = { B, T, E: 1, topK: 1, bias: false }
      const { routerInputs } = forward(settings.config, weights, weights('ids'), init)
      return Object.fromEntries(routerInputs.map((u, layer) => [String(layer), meanOf(u, 0)]))
    },
    { inputs: { ids: { shape: [B, T], dtype: 'int32' } }, frozen: Object.fromEntries(publicModel) },
  )
  const ids = new Int32Array(B * T)
  all.forEach((window, b) => {
    ids.set(window, b * T)
  })
  const means = await compiled.run({ ids })
  await compiled.dispose()
  return Array.from({ length: numHiddenLayers }, (_, layer) => scaled(means[String(layer)] as Float32Array))
}

/** Truncated normal values of deviation 0.02, as OLMo-core initializes a router without embeddings. */
export function randomRows({ settings }: Laboratory, seed: number): Float32Array[] {
  const random = mulberry32(seed)
  const normal = (): number => Math.sqrt(-2 * Math.log(1 - random())) * Math.cos(2 * Math.PI * random())
  return Array.from({ length: settings.config.numHiddenLayers }, () =>
    Float32Array.from(
      { length: settings.config.hiddenSize },
      () => 0.02 * Math.max(-3, Math.min(3, normal())),
    ),
  )
}

function scaled(row: Float32Array): Float32Array {
  const norm = Math.sqrt(row.reduce((sum, x) => sum + x * x, 0))
  return row.map((x) => (NORM * x) / norm)
}
