/**
 * What every tensor engine offers: a function written once in TensorFlow.js operations, compiled to
 * run over typed arrays. Knows no model.
 */
import type { Tensor } from '@tensorflow/tfjs'

export type Values = Float32Array | Int32Array
export type EngineName = 'onnx' | 'tensorflow' | 'cpu'

export interface TensorSpec {
  readonly shape: readonly number[]
  readonly dtype?: 'float32' | 'int32'
}

export interface FrozenTensor {
  readonly shape: readonly number[]
  readonly data: Float32Array
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
}

/** Inputs and frozen tensors by name in, results by name out. Called once per compilation or run. */
export type TensorFunction = (tensors: Readonly<Record<string, Tensor>>) => Record<string, Tensor>

export interface Compiled {
  /**
   * Run once. Results are written into `into` where it names an array of the right length, else
   * freshly allocated.
   */
  run(
    inputs: Readonly<Record<string, Values>>,
    into?: Readonly<Record<string, Values>>,
  ): Promise<Record<string, Values>>
  /** Release native memory. */
  dispose(): Promise<void>
}

export interface Engine {
  readonly name: EngineName
  /** For people: library, version, device. */
  readonly description: string
  compile(fn: TensorFunction, signature: Signature, options?: CompileOptions): Promise<Compiled>
}

export function sizeOf(shape: readonly number[]): number {
  return shape.reduce((product, size) => product * size, 1)
}

/** @throws RangeError when an array is missing or has the wrong length: a bug of the caller. */
export function checkInputs(signature: Signature, inputs: Readonly<Record<string, Values>>): void {
  for (const [name, spec] of Object.entries(signature.inputs)) {
    const values = inputs[name]
    const expected = sizeOf(spec.shape)
    if (values === undefined || values.length !== expected) {
      throw new RangeError(
        `input ${name}: expected ${expected} values for [${spec.shape}], got ${values?.length ?? 'none'}`,
      )
    }
  }
}
