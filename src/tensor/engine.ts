/**
 * Interface of every tensor engine: it compiles a function written in TensorFlow.js operations so that it runs on typed
 * arrays. Does not know models.
 */
import type { Tensor } from '@tensorflow/tfjs-core'

export type Values = Float32Array | Int32Array
export type EngineName = 'onnx' | 'tensorflow' | 'cpu'

/** Device of an engine: the CPU, or one NVIDIA GPU. */
export type Device = 'cpu' | 'cuda'

/** A fixed size, or the name of a size that every run chooses. */
export type Size = number | string
export type Sizes = Readonly<Record<string, number>>

export interface TensorSpec {
  readonly shape: readonly Size[]
  readonly dtype?: 'float32' | 'int32'
  /**
   * The caller never changes an array that it has passed for this input, so the engine may keep a copy of it until the
   * function is disposed. For weights that differ between runs of one function.
   */
  readonly constant?: true
}

export interface FrozenTensor {
  readonly shape: readonly number[]
  /** Floats, or the packed integers of a quantized matrix as bytes; see quantized.ts. */
  readonly data: Float32Array | Uint8Array
}

export interface Signature {
  /** Passed to every run. */
  readonly inputs: Readonly<Record<string, TensorSpec>>
  /** Bound at compile time; an engine may copy them, so later changes of `data` have no effect. */
  readonly frozen?: Readonly<Record<string, FrozenTensor>>
}

export interface CompileOptions {
  /**
   * Saves memory: every run reads frozen tensors from the caller's arrays, which must not change, and allocates buffers
   * as it needs them. Costs no time when a batch has thousands of rows; for a few rows it is faster to repack frozen
   * tensors once. Engines that always copy ignore it.
   */
  readonly lean?: boolean
  /** The function alternates with others, so its threads must not spin while those run. */
  readonly interleaved?: boolean
}

/** Maps inputs and frozen tensors, by name, to results, by name. Called once per compilation or once per run. */
export type TensorFunction = (tensors: Readonly<Record<string, Tensor>>) => Record<string, Tensor>

/** A compiled function. */
export interface Compiled {
  /**
   * Runs the function once.
   * @param into arrays for results, by name; results without one are newly allocated. An array may be both input and
   * result only if the function allows it.
   * @param sizes every named size of the signature
   * @throws RangeError for an array of the wrong length or a missing size: a bug of the caller.
   */
  run(
    inputs: Readonly<Record<string, Values>>,
    into?: Readonly<Record<string, Values>>,
    sizes?: Sizes,
  ): Promise<Record<string, Values>>
  /** Releases native memory. */
  dispose(): Promise<void>
}

export interface Engine {
  readonly name: EngineName
  readonly device: Device
  /** The library that computes, with its version. */
  readonly library: string
  /** Number of CPU threads; undefined on a GPU and for the engine `cpu`. */
  readonly threads?: number
  compile(fn: TensorFunction, signature: Signature, options?: CompileOptions): Promise<Compiled>
}

/** Number of elements of a tensor of this shape. */
export function sizeOf(shape: readonly number[]): number {
  return shape.reduce((product, size) => product * size, 1)
}

/** The shape with its named sizes filled in. @throws RangeError for a missing size: a bug of the caller. */
export function resolveShape(shape: readonly Size[], sizes: Sizes): number[] {
  return shape.map((size) => {
    const value = typeof size === 'number' ? size : sizes[size]
    if (value === undefined) throw new RangeError(`size ${size} is missing`)
    return value
  })
}

/** The array itself. @throws RangeError if it is missing or has the wrong length: a bug of the caller. */
export function checkLength(name: string, values: Values | undefined, shape: readonly number[]): Values {
  const expected = sizeOf(shape)
  if (values === undefined || values.length !== expected) {
    throw new RangeError(
      `${name}: expected ${expected} values for [${shape}], got ${values?.length ?? 'none'}`,
    )
  }
  return values
}
