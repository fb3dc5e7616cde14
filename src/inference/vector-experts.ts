/**
 * Runs the chosen experts of a layer with the vector kernels. The weights of every expert are in their own block of
 * memory, so vectors are copied between it and the block of the trunk. Does not know attention, caches or tokens.
 */
import type { Job } from '../kernels/vector-jobs.ts'
import type { VectorThreads } from '../kernels/vector-threads.ts'
import type { ModelConfig } from '../model/config.ts'
import type { ExpertRows } from '../model/routing-plan.ts'
import type { Params } from '../model/weights.ts'
import type { QuantizedParams } from './quantized-params.ts'
import { type ExpertLayout, type Ffn, layOutExpert, type TrunkLayout } from './weight-layout.ts'

export class VectorExperts {
  readonly #config: ModelConfig
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
    for (const { expert, rows } of chosen) this.#writeInner(this.#experts[expert] as ExpertLayout, rows)
    this.#threads.run(chosen.map((one) => this.#downProduct(layer, one)))
    this.#trunk.y.first(B).fill(0)
    for (const one of chosen) this.#addOutputs(one)
  }

  #writeInputs({ x }: ExpertLayout, rows: readonly number[]): void {
    const { u } = this.#trunk
    const { hiddenSize: C } = this.#config
    rows.forEach((row, i) => {
      x.write(rows.length, i, u.first(row + 1).subarray(row * C))
    })
  }

  #gatedProduct(layer: number, { expert, rows }: ExpertRows): Job {
    const { block, ffn, x, gate, up } = this.#experts[expert] as ExpertLayout
    const { gate_proj, up_proj } = ffn[layer] as Ffn
    return {
      kind: 'swiGlu',
      block,
      vectors: rows.length,
      x: x.address,
      gateWeights: gate_proj,
      upWeights: up_proj,
      y: gate.address,
      scratch: up.address,
    }
  }

  /** Brings the gated vectors into the layout that the down projection reads. */
  #writeInner({ gate, inner }: ExpertLayout, rows: readonly number[]): void {
    rows.forEach((_, i) => {
      inner.writeFrom(rows.length, i, gate.at(i))
    })
  }

  #downProduct(layer: number, { expert, rows }: ExpertRows): Job {
    const { block, ffn, inner, y } = this.#experts[expert] as ExpertLayout
    const { down_proj } = ffn[layer] as Ffn
    return { kind: 'product', block, vectors: rows.length, x: inner.address, matrix: down_proj, y: y.address }
  }

  #addOutputs({ expert, rows, weights }: ExpertRows): void {
    const { block, y, transfer } = this.#trunk
    const { hiddenSize: C } = this.#config
    const from = (this.#experts[expert] as ExpertLayout).y
    rows.forEach((row, i) => {
      transfer.first(1).set(from.vector(i))
      block.kernels.addScaled(transfer.at(0), weights[i] as number, y.at(row), C)
    })
  }
}
