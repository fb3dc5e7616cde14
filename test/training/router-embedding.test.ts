import type { Tensor } from '@tensorflow/tfjs'
import { describe, expect, it } from 'vitest'
import { denseName } from '../../src/lib/tensor-names.ts'
import { forward } from '../../src/model/transformer.ts'
import { EMBEDDING_WINDOW, embedForRouter } from '../../src/training/router-embedding.ts'
import { onnx } from '../support/engines.ts'
import { goldenConfig, goldenPublic } from '../support/golden.ts'

const { hiddenSize: C, numHiddenLayers: L, vocabSize: V } = goldenConfig
const publicModel = goldenPublic()
const windowsOf = (count: number, factor: number): Int32Array[] =>
  Array.from({ length: count }, (_, i) =>
    Int32Array.from({ length: EMBEDDING_WINDOW }, (_, t) => (factor * t * t + 5 * i) % V),
  )
const source = { own: windowsOf(8, 3), public: windowsOf(8, 7) }

/** What each layer's router reads for these windows, by the whole graph. */
async function routerInputs(windows: readonly Int32Array[]): Promise<Float32Array[]> {
  const B = windows.length
  const compiled = await onnx.compile(
    (tensors) => {
      const weights = (name: string): Tensor => tensors[denseName(name)] as Tensor
      const init = { B, T: EMBEDDING_WINDOW, E: 1, topK: 1, bias: false }
      const { routerInputs } = forward(goldenConfig, weights, weights('ids'), init)
      return Object.fromEntries(routerInputs.map((u, layer) => [String(layer), u]))
    },
    {
      inputs: { ids: { shape: [B, EMBEDDING_WINDOW], dtype: 'int32' } },
      frozen: {
        ...Object.fromEntries(publicModel),
        // With one expert, its router row does not matter.
        ...Object.fromEntries(
          Array.from({ length: L }, (_, layer) => [
            `model.layers.${layer}.mlp.gate.weight`,
            { shape: [1, C], data: new Float32Array(C) },
          ]),
        ),
      },
    },
  )
  const ids = Int32Array.from(windows.flatMap((window) => [...window]))
  const out = await compiled.run({ ids })
  await compiled.dispose()
  return Array.from({ length: L }, (_, layer) => out[String(layer)] as Float32Array)
}

/** Mean product of a row with the rows of u (N, C). */
function meanLogit(row: Float32Array, u: Float32Array): number {
  let sum = 0
  u.forEach((x, i) => {
    sum += x * (row[i % C] as number)
  })
  return (sum * C) / u.length
}

describe('router rows before training', () => {
  it('prefer the own text to public text in every layer, and constant rows are about 1 on both', async () => {
    const { rows, constantRows } = await embedForRouter(onnx, goldenConfig, publicModel, source)
    const own = await routerInputs(source.own)
    const shared = await routerInputs(source.public)
    for (let layer = 0; layer < L; layer++) {
      const logit = (of: readonly Float32Array[], u: readonly Float32Array[]): number =>
        meanLogit(of[layer] as Float32Array, u[layer] as Float32Array)
      expect(logit(rows, own)).toBeGreaterThan(1 + logit(rows, shared))
      expect(logit(constantRows, own)).toBeGreaterThan(0.5)
      expect(logit(constantRows, shared)).toBeGreaterThan(0.5)
    }
  })

  it('ignore windows beyond whole batches of eight', async () => {
    const more = { own: [...source.own, ...windowsOf(3, 11)], public: source.public }
    expect(await embedForRouter(onnx, goldenConfig, publicModel, more)).toEqual(
      await embedForRouter(onnx, goldenConfig, publicModel, source),
    )
  })

  it('stop when they are asked to', async () => {
    const stopped = AbortSignal.abort(new Error('stopped'))
    const embedding = embedForRouter(onnx, goldenConfig, publicModel, source, { signal: stopped })
    await expect(embedding).rejects.toThrow('stopped')
  })
})
