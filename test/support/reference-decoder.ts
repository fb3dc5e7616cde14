/** The forward pass token by token, in plain loops and double precision: the reference for the fast decoders. */
import { expertName, layerName, routerName } from '../../src/lib/tensor-names.ts'
import type { ModelConfig } from '../../src/model/config.ts'
import { headSize } from '../../src/model/config.ts'
import { requireParam } from '../../src/model/params.ts'
import type { Params } from '../../src/model/weights.ts'

type Vector = readonly number[]

export class ReferenceDecoder {
  readonly #config: ModelConfig
  readonly #params: Params
  readonly #topK: number
  readonly #keys: Vector[][]
  readonly #values: Vector[][]

  constructor(config: ModelConfig, params: Params, topK: number) {
    this.#config = config
    this.#params = params
    this.#topK = topK
    const layers = Array.from({ length: config.numHiddenLayers })
    this.#keys = layers.map(() => [])
    this.#values = layers.map(() => [])
  }

  /** Logits (V) after one more token. */
  step(id: number): number[] {
    const { hiddenSize: C, numHiddenLayers: L } = this.#config
    let u: Vector = Array.from(this.#data('model.embed_tokens.weight').subarray(id * C, (id + 1) * C))
    for (let layer = 0; layer < L; layer++) {
      u = plus(u, this.#norm(this.#attention(u, layer), layerName(layer, 'post_attention_layernorm.weight')))
      u = plus(u, this.#norm(this.#mixture(u, layer), layerName(layer, 'post_feedforward_layernorm.weight')))
    }
    return this.#times('lm_head.weight', this.#norm(u, 'model.norm.weight'))
  }

  #attention(u: Vector, layer: number): Vector {
    const { numAttentionHeads: H, numKeyValueHeads: J } = this.#config
    const D = headSize(this.#config)
    const keys = this.#keys[layer] as Vector[]
    const values = this.#values[layer] as Vector[]
    const at = (name: string): string => layerName(layer, `self_attn.${name}.weight`)
    const rotated = (name: 'q' | 'k'): number[] =>
      this.#rotate(this.#norm(this.#times(at(`${name}_proj`), u), at(`${name}_norm`)), keys.length)
    const q = rotated('q')
    keys.push(rotated('k'))
    values.push(this.#times(at('v_proj'), u))
    const mixed = Array.from({ length: H }, (_, h) => {
      const from = Math.floor((h * J) / H) * D
      const query = q.slice(h * D, (h + 1) * D)
      const weights = softmax(keys.map((key) => dot(query, key.slice(from, from + D)) / Math.sqrt(D)))
      return query.map((_, c) =>
        weights.reduce((sum, w, p) => sum + w * (values[p]?.[from + c] as number), 0),
      )
    })
    return this.#times(at('o_proj'), mixed.flat())
  }

  #mixture(u: Vector, layer: number): Vector {
    const weights = softmax(this.#times(routerName(layer), u))
    const chosen = [...weights.keys()]
      .sort((a, b) => (weights[b] as number) - (weights[a] as number))
      .slice(0, this.#topK)
    return chosen
      .map((e) => {
        const up = this.#times(expertName(layer, e, 'up_proj'), u)
        const gate = this.#times(expertName(layer, e, 'gate_proj'), u)
        const inner = gate.map((z, i) => (z / (1 + Math.exp(-z))) * (up[i] as number))
        const weight = weights[e] as number
        return this.#times(expertName(layer, e, 'down_proj'), inner).map((value) => weight * value)
      })
      .reduce(plus)
  }

  #rotate(x: Vector, position: number): number[] {
    const D = headSize(this.#config)
    const half = D / 2
    return x.map((value, i) => {
      const channel = i % D
      const angle = position * this.#config.ropeTheta ** ((-2 * (channel % half)) / D)
      const partner = channel < half ? -(x[i + half] as number) : (x[i - half] as number)
      return value * Math.cos(angle) + partner * Math.sin(angle)
    })
  }

  #norm(x: Vector, gain: string): number[] {
    const rms = Math.sqrt(dot(x, x) / x.length + this.#config.rmsNormEps)
    const gains = this.#data(gain)
    return x.map((value, i) => (value / rms) * (gains[i] as number))
  }

  #times(name: string, x: Vector): number[] {
    const matrix = this.#data(name)
    const rows = Array.from({ length: matrix.length / x.length }, (_, row) => row * x.length)
    return rows.map((from) => x.reduce((sum, value, i) => sum + value * (matrix[from + i] as number), 0))
  }

  #data(name: string): Float32Array {
    return requireParam(this.#params, name).data
  }
}

function dot(a: Vector, b: Vector): number {
  return a.reduce((sum, x, i) => sum + x * (b[i] as number), 0)
}

function plus(a: Vector, b: Vector): number[] {
  return a.map((x, i) => x + (b[i] as number))
}

function softmax(logits: Vector): number[] {
  const peak = Math.max(...logits)
  const odds = logits.map((logit) => Math.exp(logit - peak))
  const total = odds.reduce((a, b) => a + b, 0)
  return odds.map((value) => value / total)
}
