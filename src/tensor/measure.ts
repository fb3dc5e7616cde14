/** Measures how fast an engine multiplies matrices, within a fraction of a second. Does not know engines. */
import { matMul, sum, type Tensor } from '@tensorflow/tfjs-core'
import type { Engine } from './engine.ts'

/** Widths of square matrices: the first is small enough for plain JavaScript, the last keeps a GPU busy. */
const SIZES = [128, 256, 512, 1024, 2048] as const
/** Products per run, so that the overhead of a run is small beside the arithmetic. */
const CHAIN = 4
/** Milliseconds: while a run is shorter than this, the next larger size is tried. */
const SHORT_MS = 40

/**
 * Best float32 rate of chained square products through the engine's `compile` and `run`, in 10^9 floating-point
 * operations per second. Uses larger matrices on faster engines.
 * @param budgetMs approximate duration; the last run may exceed it
 */
export async function measureGflops(engine: Engine, budgetMs = 300): Promise<number> {
  const deadline = performance.now() + budgetMs
  let best = 0
  for (const n of SIZES) {
    const values = Float32Array.from(
      { length: n * n },
      (_, i) => (((i * 7919) % 1009) / 1009 - 0.5) / Math.sqrt(n),
    )
    const compiled = await engine.compile(
      ({ x, w }) => {
        let y = x as Tensor
        for (let i = 0; i < CHAIN; i++) y = matMul(y as never, w as never)
        return { total: sum(y) }
      },
      { inputs: { x: { shape: [n, n], constant: true } }, frozen: { w: { shape: [n, n], data: values } } },
    )
    try {
      await compiled.run({ x: values }) // the first run allocates
      let ms: number
      do {
        const started = performance.now()
        await compiled.run({ x: values })
        ms = performance.now() - started
        best = Math.max(best, (2 * n ** 3 * CHAIN) / ms / 1e6)
      } while (performance.now() < deadline && (ms > SHORT_MS || n === SIZES.at(-1)))
      if (ms > SHORT_MS || performance.now() > deadline) break
    } finally {
      await compiled.dispose()
    }
  }
  return best
}
