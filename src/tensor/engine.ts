/**
 * What every tensor engine offers: a function written once in TensorFlow.js operations, compiled to
 * run over typed arrays. Knows no model.
 */
import type { Tensor } from '@tensorflow/tfjs'

export type Values = Float32Array | Int32Array
export type EngineName = 'onnx' | 'tensorflow' | 'cpu'

/** A number, or the name of a size that every run chooses anew. */
export type Size = number | string
export type Sizes = Readonly<Record<string, number>>

export interface TensorSpec {
  readonly shape: readonly Size[]
  readonly dtype?: 'float32' | 'int32'
}

export interface FrozenTensor {
  readonly shape: readonly number[]
  /** Bytes are codes of a quantized matrix; see quantized.ts. */
  readonly data: Float32Array | Uint8Array
}

export interface Signature {
  /** Fed on every run. */
  readonly inputs: Readonly<Record<string, TensorSpec>>
  /** Bound once; an engine may repack them, so later changes of `data` are not seen. */
  readonly frozen?: Readonly<Record<string, FrozenTensor>>
}

export interface CompileOptions {
  /**
   * Spare memory: frozen tensors are read where they lie at every run, so their arrays must stay as they
   * are, and buffers are taken as they are needed. Costs no time where a batch has thousands of rows;
   * for a few rows packing frozen tensors once is faster. Engines that copy anyway ignore it.
   */
  readonly lean?: boolean
  /** It runs in turn with other functions, so its threads must not spin while those run. */
  readonly interleaved?: boolean
}

/** Inputs and frozen tensors by name in, results by name out. Called once per compilation or run. */
export type TensorFunction = (tensors: Readonly<Record<string, Tensor>>) => Record<string, Tensor>

export interface Compiled {
  /**
   * Run once. Results are written into `into` where it names an array of the right length, else
   * freshly allocated. `sizes` gives every named size of the signature. An array may be both input
   * and target only where the function says so.
   */
  run(
    inputs: Readonly<Record<string, Values>>,
    into?: Readonly<Record<string, Values>>,
    sizes?: Sizes,
  ): Promise<Record<string, Values>>
  /** Release native memory. */
  dispose(): Promise<void>
}

export interface Engine {
  readonly name: EngineName
  /** For people: library, version, device. */
  readonly description: string
  /** Processor threads that it uses; absent where it computes elsewhere, or for tests. */
  readonly threads?: number
  compile(fn: TensorFunction, signature: Signature, options?: CompileOptions): Promise<Compiled>
}

export function sizeOf(shape: readonly number[]): number {
  return shape.reduce((product, size) => product * size, 1)
}

/** @throws RangeError for a size that the run did not give: a bug of the caller. */
export function resolveShape(shape: readonly Size[], sizes: Sizes): number[] {
  return shape.map((size) => {
    const value = typeof size === 'number' ? size : sizes[size]
    if (value === undefined) throw new RangeError(`size ${size} is not given`)
    return value
  })
}

/** @throws RangeError when an array is missing or has the wrong length: a bug of the caller. */
export function checkLength(name: string, values: Values | undefined, shape: readonly number[]): Values {
  const expected = sizeOf(shape)
  if (values === undefined || values.length !== expected) {
    throw new RangeError(
      `${name}: expected ${expected} values for [${shape}], got ${values?.length ?? 'none'}`,
    )
  }
  return values
}
