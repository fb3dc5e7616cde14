/**
 * Where a router row starts: the mean embedding of the owner's documents minus that of public text,
 * both in the stream that routers see (flexolmo 3.1). Subtracting the public mean is the same as
 * keeping both rows and fixing the public one, because softmax sees differences only.
 */
import { mul, reshape, rsqrt, square, sum, type Tensor, zeros } from '@tensorflow/tfjs'
import type { ModelConfig } from '../model/config.ts'
import { denseName, type Params } from '../model/params.ts'
import { forward } from '../model/transformer.ts'
import type { Engine } from '../tensor/engine.ts'

/** Norm of the row: published domain embeddings lie between 0.41 and 0.55 (flexolmo 3.1). */
const ROW_NORM = 0.5
const B = 8
const T = 64

export interface EmbeddingSource {
  /** Windows of T ids each. */
  readonly own: readonly Int32Array[]
  readonly public: readonly Int32Array[]
}

export const EMBEDDING_WINDOW = T

/** @returns one router row [C]. */
export async function initialRouterRow(
  engine: Engine,
  config: ModelConfig,
  publicModel: Params,
  source: EmbeddingSource,
): Promise<Float32Array> {
  const { hiddenSize: C } = config
  const compiled = await engine.compile(
    (tensors) => {
      const weights = (name: string): Tensor => tensors[denseName(name)] ?? (zeros([1, C]) as Tensor)
      const { routerInputs } = forward(config, weights, weights('ids'), { B, T, E: 1, topK: 1, bias: false })
      const u = routerInputs[0] as Tensor // (N, C)
      const unit = mul(u, rsqrt(sum(square(u), -1, true)))
      return { sums: sum(reshape(unit, [B, T, C]), 1) } // (B, C)
    },
    { inputs: { ids: { shape: [B, T], dtype: 'int32' } }, frozen: Object.fromEntries(publicModel) },
  )
  const meanOf = async (windows: readonly Int32Array[]): Promise<Float64Array> => {
    const mean = new Float64Array(C)
    for (let at = 0; at < windows.length; at += B) {
      const ids = new Int32Array(B * T)
      const rows = windows.slice(at, at + B)
      rows.forEach((window, row) => {
        ids.set(window.subarray(0, T), row * T)
      })
      const { sums } = await compiled.run({ ids })
      for (let i = 0; i < rows.length * C; i++) {
        mean[i % C] = (mean[i % C] as number) + (sums?.[i] as number) / (windows.length * T)
      }
    }
    return mean
  }
  const own = await meanOf(source.own)
  const base = await meanOf(source.public)
  await compiled.dispose()
  const row = Float32Array.from(own, (x, i) => x - (base[i] as number))
  const norm = Math.sqrt(row.reduce((total, x) => total + x * x, 0))
  return norm === 0 ? row : row.map((x) => (x * ROW_NORM) / norm)
}
