/** Measures the best float32 rate of this machine, with which a benchmark compares its own. */
import type { Tensor } from '@tensorflow/tfjs'
import { matMul } from '@tensorflow/tfjs'
import { onnxEngine } from '../../../src/tensor/onnx-engine.ts'

/** Sizes of the square products that are tried; the best counts. */
const SIZES = [1024, 1536, 2048] as const
const REPEATS = 12

/** Highest float32 rate of a large matrix product in ONNX Runtime, floating-point operations/s. */
export async function peakSgemm(threads: number): Promise<number> {
  let best = 0
  for (const n of SIZES) {
    const compiled = await onnxEngine({ threads }).compile(
      ({ a, b }) => ({ c: matMul(a as never, b as never) as Tensor }),
      { inputs: { a: { shape: [n, n] }, b: { shape: [n, n] } } },
    )
    const a = new Float32Array(n * n).fill(0.5)
    const c = new Float32Array(n * n)
    for (let i = 0; i < REPEATS; i++) {
      const started = performance.now()
      await compiled.run({ a, b: a }, { c })
      best = Math.max(best, (2 * n ** 3 * 1000) / (performance.now() - started))
    }
    await compiled.dispose()
  }
  return best
}
