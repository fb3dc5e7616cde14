/**
 * Functions with their weights, for serving. In fp32 each kind is compiled once and weights are fed, so that a
 * composition costs no compilation and no copy; quantized weights are bound, one function for each set of them.
 * Knows no block of the model.
 */

import { matMul, mul, sigmoid, type Tensor } from '@tensorflow/tfjs'
import type { Bits } from '../kernels/quantized.ts'
import { type Params, requireParam } from '../model/params.ts'
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

/** A function whose weights are given already. */
export interface CompiledLayer {
  run(
    inputs: Readonly<Record<string, Values>>,
    into: Readonly<Record<string, Values>>,
    sizes: Sizes,
  ): Promise<void>
}

export interface LayerSpec {
  readonly fn: TensorFunction
  readonly inputs: Signature['inputs']
  /** Parameters by the function's own names: matrices may be quantized, vectors never. */
  readonly matrices: Readonly<Record<string, string>>
  readonly vectors: Readonly<Record<string, string>>
}

/** y = x W' for a matrix that is fed as floats or bound as codes. */
export function matrixProduct(
  tensors: Readonly<Record<string, Tensor>>,
  bits: Bits | undefined,
  shapes: Shapes,
) {
  return (x: Tensor, name: string): Tensor => {
    if (bits === undefined) return matMul(x as never, tensors[name] as never, false, true)
    const [O, I] = shapes(name)
    return quantizedMatMul(x, tensors[`${name}.codes`] as Tensor, tensors[`${name}.scales`] as Tensor, {
      bits,
      O,
      I,
    })
  }
}
type Shapes = (name: string) => readonly [number, number]

export class LayerCompiler {
  readonly #engine: Engine
  readonly #params: Params
  readonly #quantized: QuantizedParams | undefined
  readonly #shared = new Map<string, Compiled>()
  readonly #all: Compiled[] = []

  constructor(engine: Engine, params: Params, quantized: QuantizedParams | undefined) {
    this.#engine = engine
    this.#params = params
    this.#quantized = quantized
  }

  /** A part of one kind; all parts of a kind have the same shapes. */
  async compile(kind: string, spec: (bits: Bits | undefined) => LayerSpec): Promise<CompiledLayer> {
    const { fn, inputs, matrices, vectors } = spec(this.#quantized?.bits)
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
      weights[`${name}.codes`] = {
        data: packed,
        shape: [O, scales.length / O, packed.length / scales.length],
      }
      weights[`${name}.scales`] = { data: scales, shape: [scales.length] }
    }
    const compiled = await this.#compile(fn, { inputs, frozen: weights })
    return { run: async (given, into, sizes) => void (await compiled.run(given, into, sizes)) }
  }

  async dispose(): Promise<void> {
    for (const compiled of this.#all.splice(0)) await compiled.dispose()
  }

  async #compile(fn: TensorFunction, signature: Signature): Promise<Compiled> {
    const compiled = await this.#engine.compile(fn, signature, { interleaved: true })
    this.#all.push(compiled)
    return compiled
  }
}

function withWeights(compiled: Compiled, weights: Readonly<Record<string, FrozenTensor>>): CompiledLayer {
  const values = Object.fromEntries(
    Object.entries(weights).map(([name, { data }]) => [name, data as Float32Array]),
  )
  return {
    run: async (inputs, into, sizes) => void (await compiled.run({ ...values, ...inputs }, into, sizes)),
  }
}

/** silu(gate) * up. */
export function swiGlu(gate: Tensor, up: Tensor): Tensor {
  return mul(mul(gate, sigmoid(gate)), up)
}
