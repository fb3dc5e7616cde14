/** The best float32 arithmetic that this machine gives, measured: a limit to state a distance to. */
import type { Tensor } from '@tensorflow/tfjs'
import { matMul } from '@tensorflow/tfjs'
import { onnxEngine } from '../../../src/tensor/onnx-engine.ts'

/** Square products of these sizes; the best counts. */
const SIZES = [1024, 1536, 2048] as const
const REPEATS = 12

/** Highest float32 rate of a large matrix product through ONNX Runtime, in floating-point operations a second. */
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
