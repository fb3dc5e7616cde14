/**
 * Routes the tokens of a batch, layer by layer, for both decoders: combines the logits of the router rows with biases,
 * and with the mask and gate of each sequence. Does not know engines.
 */
import { biasName } from '../lib/tensor-names.ts'
import type { ModelConfig } from '../model/config.ts'
import { planRouting, type RoutingPlan, type SequenceRouting } from '../model/routing-plan.ts'
import { gateToken } from '../model/solved-router.ts'
import { type WeightMap, wholeValues } from '../model/weights.ts'
import type { KvCache } from './kv-cache.ts'

/** The members of a batch that routing needs. */
export interface RoutedBatch {
  /** (B, T). */
  readonly ids: Int32Array
  /** First cache slot; the B sequences of the batch use consecutive slots. */
  readonly slot: number
  /** Number of new tokens of each sequence. */
  readonly T: number
  /** Number of tokens of each sequence that are in the cache, length B. */
  readonly lengths: readonly number[]
  /** One for each sequence, length B. */
  readonly routings: readonly SequenceRouting[]
}

export interface BatchRouterInit {
  /** Number of experts, the public one included. */
  readonly E: number
  readonly topK: number
  /** Maximum number of tokens of a batch. */
  readonly maxRows: number
}

export class BatchRouter {
  readonly #E: number
  readonly #topK: number
  /** min(bias, 0), by layer (negative bias, FlexOlmo paper, section 3.3.2 and appendix D.2). */
  readonly #bias: readonly Float32Array[]
  /** Gate logits of the current batch (maxRows, E), the same in every layer. */
  readonly #gateLogits: Float32Array

  private constructor(bias: readonly Float32Array[], { E, topK, maxRows }: BatchRouterInit) {
    this.#E = E
    this.#topK = topK
    this.#bias = bias
    this.#gateLogits = new Float32Array(maxRows * E)
  }

  /** Reads the biases; without one for a layer, all are 0. @throws as `WeightSource.read`. */
  static async create(config: ModelConfig, weights: WeightMap, init: BatchRouterInit): Promise<BatchRouter> {
    const bias: Float32Array[] = []
    for (let layer = 0; layer < config.numHiddenLayers; layer++) {
      const weight = weights.get(biasName(layer))
      const values = weight === undefined ? new Float32Array(init.E) : await wholeValues(weight)
      bias.push(values.map((b) => Math.min(b, 0)))
    }
    return new BatchRouter(bias, init)
  }

  /**
   * Computes the gate logits of a batch and stores the gate sums in the cache. Call it before `plan` of the first
   * layer.
   */
  begin(cache: KvCache, { slot, T, ids, lengths, routings }: RoutedBatch): void {
    routings.forEach(({ gate }, b) => {
      if (gate === undefined) return
      const sums = cache.gateSums(slot + b)
      for (let t = 0; t < T; t++) {
        const row = b * T + t
        const position = (lengths[b] as number) + t
        gateToken(gate, ids[row] as number, position, sums, this.#gateLogits, row * this.#E)
      }
    })
  }

  /** Keeps the gate logits of the last token of each sequence only: the following plans are for a batch with T = 1. */
  keepLast({ T, routings }: RoutedBatch): void {
    const E = this.#E
    for (let b = 0; b < routings.length; b++)
      this.#gateLogits.copyWithin(b * E, (b * T + T - 1) * E, (b + 1) * T * E)
  }

  /**
   * Decides which expert computes which row in one layer.
   * @param logits logits of the router rows (B T, E); overwritten with the final logits
   */
  plan(layer: number, { T, routings }: RoutedBatch, logits: Float32Array): RoutingPlan {
    const E = this.#E
    const bias = this.#bias[layer] as Float32Array
    routings.forEach(({ mask, gate }, b) => {
      for (let i = b * T * E; i < (b + 1) * T * E; i++) {
        const e = i % E
        const row = (logits[i] as number) + (bias[e] as number)
        const routed = gate === undefined ? row : gate.rowScale * row + (this.#gateLogits[i] as number)
        logits[i] = routed + (mask[e] as number)
      }
    })
    return planRouting(logits, routings.length * T, E, this.#topK)
  }
}
