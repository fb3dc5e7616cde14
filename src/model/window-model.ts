/**
 * A mixture that windows of text pass through layer by layer: its compiled layers, and the memory that passes reuse.
 * Does not know the order of the steps.
 */
import type { Engine } from '../tensor/engine.ts'
import type { ModelConfig } from './config.ts'
import { WeightMemory } from './weight-memory.ts'
import type { WeightMap } from './weights.ts'
import { WindowLayers } from './window-layers.ts'
import { Buffers } from './window-streams.ts'

export interface PassInit {
  /** Number of experts in the mixture, the public one included. */
  readonly E: number
  readonly topK: number
  /** Tokens per window. */
  readonly T: number
}

/** A mixture for any number of passes, one after another. */
export class WindowModel {
  readonly config: ModelConfig
  readonly init: PassInit
  readonly weights: WeightMap
  readonly memory: WeightMemory
  readonly layers: WindowLayers
  readonly #buffers = new Map<number, Buffers>()
  readonly #scratch = new Map<string, Float32Array>()

  /** @param weights those of `mixtureWeights` */
  constructor(engine: Engine, config: ModelConfig, weights: WeightMap, init: PassInit) {
    this.config = config
    this.init = init
    this.weights = weights
    this.memory = new WeightMemory(weights)
    this.layers = new WindowLayers(engine, config, init.E, init.T)
  }

  /** Buffers for the residual stream of `rows` rows. */
  buffers(rows: number): Buffers {
    let buffers = this.#buffers.get(rows)
    if (buffers === undefined) {
      buffers = new Buffers(rows * this.config.hiddenSize)
      this.#buffers.set(rows, buffers)
    }
    return buffers
  }

  /** Memory for a result that is used before the next step asks for this name; holds at least `length` floats. */
  scratch(name: string, length: number): Float32Array {
    let memory = this.#scratch.get(name)
    if (memory === undefined || memory.length < length) {
      memory = new Float32Array(length)
      this.#scratch.set(name, memory)
    }
    return memory
  }

  /** Releases the compiled functions and all memory. */
  async dispose(): Promise<void> {
    this.#buffers.clear()
    this.#scratch.clear()
    await this.layers.dispose()
  }
}
