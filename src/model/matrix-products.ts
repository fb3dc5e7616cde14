/**
 * Products of a large matrix with a few vectors, computed by a tensor engine in single precision. One pair of compiled
 * functions serves matrices of every shape. Does not know experts.
 */
import { matMul, type Tensor } from '@tensorflow/tfjs-core'
import type { Compiled, Engine } from '../tensor/engine.ts'

/** Products of one matrix M [m, n] with k vectors, given one after the other. */
export interface MatrixProducts {
  readonly m: number
  readonly n: number
  /** M v for k vectors [n]: k vectors [m]. */
  times(vectors: Float64Array, k: number): Promise<Float64Array>
  /** v M, that is, the transposed M times v, for k vectors [m]: k vectors [n]. */
  timesTransposed(vectors: Float64Array, k: number): Promise<Float64Array>
  /** Iterations that raise the sum of squares of the products by less than this share are not worth their time. */
  readonly tolerance: number
}

/** Far above the rounding of float32. What further iterations would add is a few times this share at most. */
const TOLERANCE = 1e-5

/** Multiplies float32 matrices of any shape. */
export class ProductEngine {
  readonly #times: Compiled
  readonly #timesTransposed: Compiled

  private constructor(times: Compiled, timesTransposed: Compiled) {
    this.#times = times
    this.#timesTransposed = timesTransposed
  }

  static async create(engine: Engine): Promise<ProductEngine> {
    const product = (width: string, transposed: boolean): Promise<Compiled> =>
      engine.compile(
        ({ vectors, matrix }) => ({
          products: matMul(vectors as never, matrix as never, false, transposed) as Tensor,
        }),
        { inputs: { vectors: { shape: ['k', width] }, matrix: { shape: ['m', 'n'] } } },
        { interleaved: true },
      )
    return new ProductEngine(await product('n', true), await product('m', false))
  }

  /** @param matrix [m, n], row-major; must not change while its products are used */
  of(matrix: Float32Array, m: number, n: number): MatrixProducts {
    const run = async (compiled: Compiled, vectors: Float64Array, k: number): Promise<Float64Array> => {
      const inputs = { vectors: Float32Array.from(vectors), matrix }
      const { products } = await compiled.run(inputs, {}, { k, m, n })
      return Float64Array.from(products as Float32Array)
    }
    return {
      m,
      n,
      times: (vectors, k) => run(this.#times, vectors, k),
      timesTransposed: (vectors, k) => run(this.#timesTransposed, vectors, k),
      tolerance: TOLERANCE,
    }
  }

  async dispose(): Promise<void> {
    await Promise.all([this.#times.dispose(), this.#timesTransposed.dispose()])
  }
}
