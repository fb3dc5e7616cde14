import type { Tensor } from '@tensorflow/tfjs'
import { zeros } from '@tensorflow/tfjs'
import { describe, expect, it } from 'vitest'
import { mulberry32 } from '../../src/lib/random.ts'
import { denseName } from '../../src/lib/tensor-names.ts'
import type { Expert } from '../../src/model/params.ts'
import { forward } from '../../src/model/transformer.ts'
import { onnxEngine } from '../../src/tensor/onnx-engine.ts'
import { foldBias, initialTrainables, releasedExpert } from '../../src/training/pair.ts'
import { EMBEDDING_WINDOW, embedForRouter } from '../../src/training/router-embedding.ts'
import { goldenConfig, goldenPublic } from '../support/golden.ts'

const engine = onnxEngine({ threads: 1 })
const { hiddenSize: C, numHiddenLayers: L, vocabSize: V } = goldenConfig
const random = mulberry32(5)
const windows = Array.from({ length: 16 }, () =>
  Int32Array.from({ length: EMBEDDING_WINDOW }, () => Math.floor(random() * V)),
)

describe('a released expert', () => {
  it('has its bias folded into its rows by constant rows, whose product with tokens is about 1', async () => {
    const { rows, constantRows } = await embedForRouter(engine, goldenConfig, goldenPublic(), {
      own: windows,
      public: windows,
    })
    const trainables = await initialTrainables(goldenConfig, goldenPublic(), rows)
    const released = releasedExpert(goldenConfig, trainables, constantRows)
    expect(released.bias).toBeUndefined()

    const compiled = await engine.compile(
      (tensors) => {
        const weights = (name: string): Tensor => tensors[denseName(name)] ?? (zeros([1, C]) as Tensor)
        const init = { B: 1, T: EMBEDDING_WINDOW, E: 1, topK: 1, bias: false }
        const { routerInputs } = forward(goldenConfig, weights, weights('ids'), init)
        return Object.fromEntries(routerInputs.map((u, layer) => [`u${layer}`, u]))
      },
      {
        inputs: { ids: { shape: [1, EMBEDDING_WINDOW], dtype: 'int32' } },
        frozen: Object.fromEntries(goldenPublic()),
      },
    )
    const out = await compiled.run({ ids: windows[0] as Int32Array })
    await compiled.dispose()
    for (let layer = 0; layer < L; layer++) {
      const u = out[`u${layer}`] as Float32Array
      const product = (row: Float32Array | undefined, n: number): number =>
        (row as Float32Array).reduce((sum, x, c) => sum + x * (u[n * C + c] as number), 0)
      const errors = { constantRow: 0, zeroRow: EMBEDDING_WINDOW }
      for (let n = 0; n < EMBEDDING_WINDOW; n++) {
        errors.constantRow += (product(constantRows[layer], n) - 1) ** 2
        // The logit shifts by the bias times the product of the constant row.
        const shift = product(released.routerRows[layer], n) - product(rows[layer], n)
        expect(shift / product(constantRows[layer], n)).toBeCloseTo(-2.05, 3)
      }
      expect(errors.constantRow).toBeLessThan(errors.zeroRow)
    }
  })

  it('ignores a bias of zero or more, and does not change without a bias', () => {
    const expert: Expert = { ffn: new Map(), routerRows: [Float32Array.of(1, 2)], bias: Float32Array.of(0.5) }
    const constantRows = [Float32Array.of(3, 4)]
    expect(foldBias(expert, constantRows).routerRows).toEqual([Float32Array.of(1, 2)])
    expect(foldBias({ ...expert, bias: Float32Array.of(-2) }, constantRows).routerRows).toEqual([
      Float32Array.of(-5, -6),
    ])
    const plain = { ...expert, bias: undefined }
    expect(foldBias(plain, constantRows)).toBe(plain)
  })
})
