/**
 * Compiles the layers that serving runs. In fp32, one compiled function serves all layers of a kind and takes its
 * weights as inputs, so recomposing compiles and copies nothing. Quantized weights are bound at compile time, one
 * function per layer. Does not know the blocks of the model.
 */

import { matMul, mul, sigmoid, type Tensor } from '@tensorflow/tfjs-core'
import type { Bits } from '../kernels/quantized.ts'
import { requireParam } from '../model/params.ts'
import type { Params } from '../model/weights.ts'
import type {
  Compiled,
  Engine,
  FrozenTensor,
  Signature,
  Sizes,
  TensorFunction,
  Values,
} from '../tensor/engine.ts'
import { quantizedMatMul } from '../tensor/quantized.ts'
import type { QuantizedParams } from './quantized-params.ts'

/** A compiled function together with its weights. */
export interface CompiledLayer {
  /** Runs the layer. Results are written into the arrays of `into`, which must name all of them. */
  run(
    inputs: Readonly<Record<string, Values>>,
    into: Readonly<Record<string, Values>>,
    sizes: Sizes,
  ): Promise<void>
}

/** What a layer computes, and the parameters that it uses. */
export interface LayerSpec {
  readonly fn: TensorFunction
  readonly inputs: Signature['inputs']
  /** Parameter names by the names that `fn` uses. These parameters may be quantized. */
  readonly matrices: Readonly<Record<string, string>>
  /** Likewise, for parameters that are never quantized. */
  readonly vectors: Readonly<Record<string, string>>
}

/**
 * A function that computes y = x W', x (..., I) -> (..., O), where W is one of the matrices of a layer, in floats or
 * quantized.
 * @param shapes [O, I] of a matrix by its name; used only if `bits` is defined
 */
export function matrixProduct(
  tensors: Readonly<Record<string, Tensor>>,
  bits: Bits | undefined,
  shapes: Shapes,
) {
  return (x: Tensor, name: string): Tensor => {
    if (bits === undefined) return matMul(x as never, tensors[name] as never, false, true)
    const [O, I] = shapes(name)
    return quantizedMatMul(x, tensors[`${name}.packed`] as Tensor, tensors[`${name}.scales`] as Tensor, {
      bits,
      O,
      I,
    })
  }
}
type Shapes = (name: string) => readonly [number, number]

/** Compiles layers of one model, and owns the compiled functions. */
export class LayerCompiler {
  readonly #engine: Engine
  readonly #params: Params
  readonly #quantized: QuantizedParams | undefined
  /** Functions that take their weights as inputs, by kind. */
  readonly #shared = new Map<string, Compiled>()
  readonly #all: Compiled[] = []

  constructor(engine: Engine, params: Params, quantized: QuantizedParams | undefined) {
    this.#engine = engine
    this.#params = params
    this.#quantized = quantized
  }

  /** Compiles one layer. All layers of a kind must have the same function and the same shapes. */
  async compile(kind: string, spec: (bits: Bits | undefined) => LayerSpec): Promise<CompiledLayer> {
    const bits = kind === 'head' ? this.#quantized?.headBits : this.#quantized?.bits
    const { fn, inputs, matrices, vectors } = spec(bits)
    const param = (name: string): FrozenTensor => requireParam(this.#params, name)
    const weights: Record<string, FrozenTensor> = {}
    for (const [name, of] of Object.entries(vectors)) weights[name] = param(of)
    if (this.#quantized === undefined || Object.keys(matrices).length === 0) {
      for (const [name, of] of Object.entries(matrices)) weights[name] = param(of)
      let compiled = this.#shared.get(kind)
      if (compiled === undefined) {
        const specs = Object.entries(weights).map(([name, { shape }]) => [name, { shape, constant: true }])
        compiled = await this.#compile(fn, { inputs: { ...inputs, ...Object.fromEntries(specs) } })
        this.#shared.set(kind, compiled)
      }
      return withWeights(compiled, weights)
    }
    for (const [name, of] of Object.entries(matrices)) {
      const { packed, scales, O } = this.#quantized.of(of)
      weights[`${name}.packed`] = {
        data: packed,
        shape: [O, scales.length / O, packed.length / scales.length],
      }
      weights[`${name}.scales`] = { data: scales, shape: [scales.length] }
    }
    const compiled = await this.#compile(fn, { inputs, frozen: weights })
    return { run: async (given, into, sizes) => void (await compiled.run(given, into, sizes)) }
  }

  /** Releases all layers that this has compiled. */
  async dispose(): Promise<void> {
    for (const compiled of this.#all.splice(0)) await compiled.dispose()
  }

  async #compile(fn: TensorFunction, signature: Signature): Promise<Compiled> {
    const compiled = await this.#engine.compile(fn, signature, { interleaved: true })
    this.#all.push(compiled)
    return compiled
  }
}

/** A compiled function that receives `weights` at every run. */
function withWeights(compiled: Compiled, weights: Readonly<Record<string, FrozenTensor>>): CompiledLayer {
  const values = Object.fromEntries(
    Object.entries(weights).map(([name, { data }]) => [name, data as Float32Array]),
  )
  return {
    run: async (inputs, into, sizes) => void (await compiled.run({ ...values, ...inputs }, into, sizes)),
  }
}

/** SwiGLU: silu(gate) * up, for tensors of one shape. */
export function swiGlu(gate: Tensor, up: Tensor): Tensor {
  return mul(mul(gate, sigmoid(gate)), up)
}
