/**
 * Computes the nats of every token of held-out windows under a mixture or a dense model, and the streams that some gates
 * read. Weights are inputs, so that one compilation serves every variant. Knows nothing about tables.
 */

import { mul, reshape, slice, sub, sum, type Tensor, zeros } from '@tensorflow/tfjs'
import { biasName, denseName } from '../../src/lib/tensor-names.ts'
import type { ModelConfig } from '../../src/model/config.ts'
import { mixtureShapes, publicShapes } from '../../src/model/params.ts'
import { forward } from '../../src/model/transformer.ts'
import type { Params } from '../../src/model/weights.ts'
import type { Compiled, Engine, TensorSpec, Values } from '../../src/tensor/engine.ts'
import { headLogProbs } from '../../src/tensor/fused.ts'
import type { Window } from './text.ts'

/** Number of tokens in one run. */
const TOKENS_AT_ONCE = 2048

export interface Scored {
  /** Nats by window and token. */
  readonly nats: readonly Float32Array[]
  /** Share of each expert among the chosen ones, (L, E): mean over tokens; sums to 1 in each layer. */
  readonly shares: readonly (readonly number[])[]
}

/** Logits (T, E) of a window, which are added to the router's logits in every layer. */
export type GateOf = (window: Window, index: number) => Float32Array

export interface Model {
  /** Parameters under the names of a mixture, or of a dense model if E is 1. */
  readonly params: Params
  readonly E: number
  readonly topK: number
  readonly gate?: GateOf
}

export class Scorer {
  readonly #engine: Engine
  readonly #config: ModelConfig
  readonly #compiled = new Map<string, Compiled>()

  constructor(engine: Engine, config: ModelConfig) {
    this.#engine = engine
    this.#config = config
  }

  async score({ params, E, topK, gate }: Model, windows: readonly Window[], T: number): Promise<Scored> {
    const B = TOKENS_AT_ONCE / T
    const compiled = await this.#compile(E, Math.min(topK, E), B, T)
    const weights: Record<string, Values> = {}
    for (const [name, { data }] of params) weights[name] = data
    for (let layer = 0; layer < this.#config.numHiddenLayers && E > 1; layer++) {
      weights[biasName(layer)] ??= new Float32Array(E)
    }
    const nats: Float32Array[] = []
    const loads = new Float64Array(this.#config.numHiddenLayers * E)
    let tokens = 0
    for (let from = 0; from < windows.length; from += B) {
      const part = windows.slice(from, from + B)
      const ids = new Int32Array(B * T)
      const labels = new Int32Array(B * T)
      const scored = new Float32Array(B * T)
      const offsets = new Float32Array(B * T * E)
      part.forEach((window, b) => {
        ids.set(window.ids, b * T)
        labels.set(window.labels, b * T)
        scored.fill(1, b * T, b * T + window.labels.length)
        if (gate !== undefined) offsets.set(gate(window, from + b), b * T * E)
      })
      const out = await compiled.run({ ...weights, ids, labels, scored, ...(E > 1 ? { offsets } : {}) })
      part.forEach((window, b) => {
        nats.push((out['nats'] as Float32Array).slice(b * T, b * T + window.labels.length))
        tokens += window.labels.length
      })
      out['loads']?.forEach((load, i) => {
        loads[i] = (loads[i] as number) + load
      })
    }
    const shares = Array.from({ length: this.#config.numHiddenLayers }, (_, layer) =>
      Array.from(loads.subarray(layer * E, (layer + 1) * E), (load) => load / Math.max(1, tokens)),
    )
    return { nats, shares }
  }

  /** The stream before the first router, (T, C) for each window. */
  async streams(publicModel: Params, windows: readonly Window[], T: number): Promise<Float32Array[]> {
    const B = TOKENS_AT_ONCE / T
    const { hiddenSize: C } = this.#config
    const frozen = Object.fromEntries([...publicModel].filter(([name]) => !/layers\.[1-9]/.test(name)))
    const compiled = await this.#engine.compile(
      (tensors) => {
        const weights = (name: string): Tensor => tensors[denseName(name)] ?? (zeros([1, C]) as Tensor)
        const init = { B, T, E: 1, topK: 1, bias: false }
        const { routerInputs } = forward(
          { ...this.#config, numHiddenLayers: 1 },
          weights,
          weights('ids'),
          init,
        )
        return { stream: routerInputs[0] as Tensor }
      },
      { inputs: { ids: { shape: [B, T], dtype: 'int32' } }, frozen },
    )
    const streams: Float32Array[] = []
    try {
      for (let from = 0; from < windows.length; from += B) {
        const part = windows.slice(from, from + B)
        const ids = new Int32Array(B * T)
        part.forEach((window, b) => {
          ids.set(window.ids, b * T)
        })
        const { stream } = await compiled.run({ ids })
        part.forEach((window, b) => {
          streams.push((stream as Float32Array).slice(b * T * C, (b * T + window.ids.length) * C))
        })
      }
    } finally {
      await compiled.dispose()
    }
    return streams
  }

  async dispose(): Promise<void> {
    for (const compiled of this.#compiled.values()) await compiled.dispose()
    this.#compiled.clear()
  }

  async #compile(E: number, topK: number, B: number, T: number): Promise<Compiled> {
    const key = `${E} ${topK} ${T}`
    let compiled = this.#compiled.get(key)
    if (compiled === undefined) {
      compiled = await this.#engine.compile(
        (tensors) => this.#graph(tensors, E, topK, B, T),
        { inputs: this.#inputs(E, B, T) },
        { lean: true },
      )
      this.#compiled.set(key, compiled)
    }
    return compiled
  }

  #inputs(E: number, B: number, T: number): Record<string, TensorSpec> {
    const N = B * T
    const inputs: Record<string, TensorSpec> = {
      ids: { shape: [B, T], dtype: 'int32' },
      labels: { shape: [N], dtype: 'int32' },
      scored: { shape: [N] },
    }
    const shapes = E === 1 ? publicShapes(this.#config) : mixtureShapes(this.#config, E)
    for (const [name, shape] of shapes) inputs[name] = { shape }
    if (E > 1) {
      inputs['offsets'] = { shape: [N, E] }
      for (let layer = 0; layer < this.#config.numHiddenLayers; layer++)
        inputs[biasName(layer)] = { shape: [E] }
    }
    return inputs
  }

  #graph(tensors: Readonly<Record<string, Tensor>>, E: number, topK: number, B: number, T: number) {
    const N = B * T
    const weights = (name: string): Tensor =>
      (E === 1 ? tensors[denseName(name)] : tensors[name]) ?? (zeros([1, this.#config.hiddenSize]) as Tensor)
    const mask = E > 1 ? { mask: weights('offsets') } : {}
    const init = { B, T, E, topK, bias: E > 1, ...mask }
    const { hidden, routing } = forward(this.#config, weights, weights('ids'), init)
    const logProbs = headLogProbs(hidden, weights('lm_head.weight'), weights('labels'), 'none')
    const scored = reshape(weights('scored'), [N, 1])
    const nats = mul(sub(slice(logProbs, [0, 0], [N, 1]), slice(logProbs, [0, 1], [N, 1])), scored)
    if (E === 1) return { nats }
    const loads = routing.map(({ weights: chosen }) => sum(mul(chosen.div(sum(chosen, 1, true)), scored), 0))
    return { nats, loads: loads.reduce((all, load) => all.concat(load as never)) }
  }
}

export function bitsPerByte(nats: readonly Float32Array[], bytes: number): number {
  let total = 0
  for (const window of nats) for (const value of window) total += value
  return total / Math.LN2 / bytes
}
