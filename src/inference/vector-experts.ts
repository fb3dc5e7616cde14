/**
 * Runs the chosen experts of a layer with the vector kernels. The weights of every expert are in their own block of
 * memory, so vectors are copied between it and the block of the trunk. Does not know attention, caches or tokens.
 */
import type { Bits } from '../kernels/quantized.ts'
import type { Job } from '../kernels/vector-jobs.ts'
import { VectorRegion, writeVector } from '../kernels/vector-layout.ts'
import type { VectorThreads } from '../kernels/vector-threads.ts'
import type { ModelConfig } from '../model/config.ts'
import type { Params } from '../model/params.ts'
import type { ExpertRows } from '../model/routing-plan.ts'
import type { QuantizedParams } from './quantized-params.ts'
import { type ExpertLayout, type Ffn, layOutExpert, type TrunkLayout } from './weight-layout.ts'

export class VectorExperts {
  readonly #config: ModelConfig
  readonly #bits: 0 | Bits
  readonly #threads: VectorThreads
  readonly #trunk: TrunkLayout
  readonly #experts: readonly ExpertLayout[]

  /** Copies the weights. @throws RangeError if the system cannot provide the memory. */
  constructor(
    threads: VectorThreads,
    config: ModelConfig,
    params: Params,
    quantized: QuantizedParams | undefined,
    trunk: TrunkLayout,
    { E, streams }: { E: number; streams: number },
  ) {
    this.#config = config
    this.#bits = quantized?.bits ?? 0
    this.#threads = threads
    this.#trunk = trunk
    this.#experts = Array.from({ length: E }, (_, e) =>
      layOutExpert(threads, config, params, quantized, e, streams),
    )
  }

  /** Sets the first B vectors y of the trunk to the weighted sums of the chosen experts' outputs for the vectors u. */
  run(layer: number, B: number, chosen: readonly ExpertRows[]): void {
    for (const { expert, rows } of chosen) this.#writeInputs(this.#experts[expert] as ExpertLayout, rows)
    this.#threads.run(chosen.map((one) => this.#gatedProduct(layer, one)))
    for (const { expert, rows } of chosen) this.#quantizeInner(this.#experts[expert] as ExpertLayout, rows)
    this.#threads.run(chosen.map((one) => this.#downProduct(layer, one)))
    this.#trunk.y.first(B).fill(0)
    for (const one of chosen) this.#addOutputs(one)
  }

  #writeInputs({ x }: ExpertLayout, rows: readonly number[]): void {
    const { block, u, transfer } = this.#trunk
    const n = rows.length
    const to = x instanceof VectorRegion ? transfer : x
    rows.forEach((row, i) => {
      writeVector(block.kernels, u, row, to, n, i)
    })
    if (x instanceof VectorRegion) x.floats(n).set(transfer.floats(n))
  }

  #gatedProduct(layer: number, { expert, rows }: ExpertRows): Job {
    const { hiddenSize: C, intermediateSize: F } = this.#config
    const { block, ffn, x, gate, up } = this.#experts[expert] as ExpertLayout
    const weights = ffn[layer] as Ffn
    return {
      kind: 'swiGlu',
      block,
      bits: this.#bits,
      vectors: rows.length,
      x: x.address,
      gateWeights: weights.gate_proj,
      upWeights: weights.up_proj,
      y: gate.address,
      scratch: up.address,
      rows: F,
      width: C,
    }
  }

  /** Quantizes the gated vectors, if the weights are quantized. */
  #quantizeInner({ gate, inner }: ExpertLayout, rows: readonly number[]): void {
    if (inner instanceof VectorRegion) return
    const gated = gate.floats(rows.length)
    rows.forEach((_, i) => {
      inner.write(i, gated, (gate.at(i) - gate.address) / 4)
    })
  }

  #downProduct(layer: number, { expert, rows }: ExpertRows): Job {
    const { hiddenSize: C, intermediateSize: F } = this.#config
    const { block, ffn, inner, y } = this.#experts[expert] as ExpertLayout
    const { down_proj } = ffn[layer] as Ffn
    return {
      kind: 'product',
      block,
      bits: this.#bits,
      vectors: rows.length,
      x: inner.address,
      matrix: down_proj,
      y: y.address,
      rows: C,
      width: F,
    }
  }

  #addOutputs({ expert, rows, weights }: ExpertRows): void {
    const { block, y, transfer } = this.#trunk
    const { hiddenSize: C } = this.#config
    const n = rows.length
    transfer.floats(n).set((this.#experts[expert] as ExpertLayout).y.floats(n))
    rows.forEach((row, i) => {
      const weight = weights[i] as number
      block.kernels.addDeinterleaved(transfer.at(i), transfer.step(n, i), weight, y.at(row), C)
    })
  }
}
