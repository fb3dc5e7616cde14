/**
 * The forward pass as one exported ONNX graph of standard operators (opset 18): from token ids and past keys and
 * values to logits, new keys and values, and the share of every expert. An expert computes only the tokens that chose
 * it. Does not know files or sessions.
 *
 * Three other files compute the same function: model/transformer.ts (training and evaluation), inference/decoder.ts
 * with serving-layers.ts, and inference/token-decoder.ts (serving). test/model/onnx-graph.test.ts holds the graph
 * equal to serving, where decoder.ts reads the prompt and token-decoder.ts computes the tokens after it.
 */
import { biasName, expertName, layerName, routerName } from '../lib/tensor-names.ts'
import { GraphBuilder } from '../tensor/graph-builder.ts'
import { MASKED } from '../tensor/mask.ts'
import type { Attribute, ByteSource, Graph } from '../tensor/onnx-encode.ts'
import { headSize, type ModelConfig } from './config.ts'
import { rotaryTables } from './layers.ts'
import { countOf, requireWeight, valuePieces, type Weight, type WeightMap, wholeValues } from './weights.ts'

export interface MixtureGraphInit {
  /** Number of experts, the public one included. */
  readonly E: number
  readonly topK: number
}

/** End of a slice that reaches to the end of its axis. */
const END = Number.MAX_SAFE_INTEGER

/**
 * The graph for B rows of T new tokens each, after P past tokens (0 at first), with H' heads of keys and values and
 * layers l:
 *
 * - inputs: `input_ids` int64 (B, T); `past_key_values.{l}.key` and `.value` (B, H', P, D); `expert_mask` (E), added to
 *   the logits of the router: 0 for an expert in use, -1e30 for one left out; `num_logits_to_keep` int64 scalar: n, the
 *   number of last tokens whose logits are computed.
 * - outputs: `logits` (B, n, V); `present.{l}.key` and `.value` (B, H', P + T, D); `expert_shares` (B, E): routing
 *   weights of the last token, mean over layers; each row sums to 1.
 *
 * Weights are read when the graph is written; only router biases are read here.
 * @throws as `WeightSource.read`.
 */
export async function mixtureGraph(
  config: ModelConfig,
  weights: WeightMap,
  init: MixtureGraphInit,
): Promise<Graph<ByteSource>> {
  const biases: Float32Array[] = []
  for (let layer = 0; layer < config.numHiddenLayers; layer++) {
    const bias = weights.get(biasName(layer))
    biases.push(bias === undefined ? new Float32Array(init.E) : await wholeValues(bias))
  }
  return new MixtureGraph(config, weights, biases, init).build()
}

class MixtureGraph {
  readonly #config: ModelConfig
  readonly #weights: WeightMap
  /** Router biases [E] of each layer. */
  readonly #biases: readonly Float32Array[]
  readonly #init: MixtureGraphInit
  readonly #b = new GraphBuilder<ByteSource>()
  /** Names of the weights that are initializers. */
  readonly #added = new Set<string>()
  /** The shape [-1, C], which flattens the residual stream to rows. */
  readonly #rows: string

  constructor(
    config: ModelConfig,
    weights: WeightMap,
    biases: readonly Float32Array[],
    init: MixtureGraphInit,
  ) {
    this.#config = config
    this.#weights = weights
    this.#biases = biases
    this.#init = init
    this.#rows = this.#ints(-1, config.hiddenSize)
  }

  build(): Graph<ByteSource> {
    const { vocabSize: V, hiddenSize: C, numHiddenLayers: L, numKeyValueHeads } = this.#config
    const { E } = this.#init
    const b = this.#b
    const past = ['B', numKeyValueHeads, 'P', headSize(this.#config)]
    const joined = past.map((size) => (size === 'P' ? 'P + T' : size))
    b.inputs.push({ name: 'input_ids', type: 'int64', shape: ['B', 'T'] })
    for (let layer = 0; layer < L; layer++) {
      for (const part of ['key', 'value'])
        b.inputs.push({ name: `past_key_values.${layer}.${part}`, type: 'float32', shape: past })
    }
    b.inputs.push({ name: 'expert_mask', type: 'float32', shape: [E] })
    b.inputs.push({ name: 'num_logits_to_keep', type: 'int64', shape: [] })

    const T = this.#op('Shape', ['input_ids'], { start: 1 }) // [1]
    const positions = this.#positions(T)
    let x = this.#op('Gather', [this.#weight('model.embed_tokens.weight'), 'input_ids']) // (B, T, C)
    x = this.#op('Reshape', [x, this.#rows]) // (N, C)
    let shares: string | undefined
    for (let layer = 0; layer < L; layer++) {
      const u = this.#op('Add', [x, this.#attention(layer, x, T, positions)])
      const { y, share } = this.#mixture(layer, u, T)
      shares = shares === undefined ? share : this.#op('Add', [shares, share])
      x = this.#op('Add', [u, this.#norm(y, layerName(layer, 'post_feedforward_layernorm.weight'))])
    }
    const wide = this.#op('Reshape', [x, this.#op('Concat', [this.#ints(-1), T, this.#ints(C)], { axis: 0 })])
    const from = this.#op('Unsqueeze', [this.#op('Neg', ['num_logits_to_keep']), this.#ints(0)])
    const last = this.#op('Slice', [wide, from, this.#ints(END), this.#ints(1)]) // (B, n, C)
    const kept = this.#op('Shape', [last], { start: 1, end: 2 })
    const hidden = this.#norm(this.#op('Reshape', [last, this.#rows]), 'model.norm.weight')
    const logits = this.#linear(hidden, 'lm_head.weight')
    const shape = this.#op('Concat', [this.#ints(-1), kept, this.#ints(V)], { axis: 0 })
    this.#output('logits', this.#op('Reshape', [logits, shape]), ['B', 'n', V])
    for (let layer = 0; layer < L; layer++) {
      for (const part of ['key', 'value'])
        b.outputs.push({ name: `present.${layer}.${part}`, type: 'float32', shape: joined })
    }
    this.#output('expert_shares', this.#op('Mul', [shares as string, this.#float(1 / L)]), ['B', E])
    return b.graph()
  }

  /** Rotary tables (T, D) and additive causal mask (T, P + T) of the new positions. */
  #positions(T: string): { cos: string; sin: string; mask: string } {
    const { maxPositionEmbeddings: R } = this.#config
    const P = this.#op('Shape', ['past_key_values.0.key'], { start: 2, end: 3 })
    const scalar = (x: string): string => this.#op('Squeeze', [x, this.#ints(0)])
    const total = scalar(this.#op('Add', [P, T]))
    const one = this.#b.constant('int64', [], [1])
    const zero = this.#b.constant('int64', [], [0])
    const positions = this.#op('Range', [scalar(P), total, one]) // (T)
    const tables = rotaryTables(this.#config, R)
    const table = (name: 'cos' | 'sin'): string => {
      this.#b.initializers.push({
        name,
        type: 'float32',
        shape: [R, headSize(this.#config)],
        bytes: view(tables[name]),
      })
      return this.#op('Gather', [name, positions])
    }
    const keys = this.#op('Unsqueeze', [this.#op('Range', [zero, total, one]), this.#ints(0)])
    const seen = this.#op('LessOrEqual', [keys, this.#op('Unsqueeze', [positions, this.#ints(1)])])
    const mask = this.#op('Where', [seen, this.#float(0), this.#float(MASKED)])
    return { cos: table('cos'), sin: table('sin'), mask }
  }

  /** x (N, C) -> normed attention output (N, C). Makes the keys and values outputs of the graph. */
  #attention(
    layer: number,
    x: string,
    T: string,
    { cos, sin, mask }: { cos: string; sin: string; mask: string },
  ): string {
    const { numAttentionHeads: H, numKeyValueHeads } = this.#config
    const D = headSize(this.#config)
    const G = H / numKeyValueHeads
    const named = (rest: string): string => layerName(layer, `self_attn.${rest}.weight`)
    /** Splits y (N, ...) into heads: (B, H', T, D), or (B, H', G, T, D) if G query heads share keys. */
    const heads = (y: string, ...counts: readonly number[]): string => {
      const shape = this.#op('Concat', [this.#ints(-1), T, this.#ints(...counts, D)], { axis: 0 })
      const perm = [0, ...counts.map((_, i) => i + 2), 1, counts.length + 2]
      return this.#op('Transpose', [this.#op('Reshape', [y, shape])], { perm })
    }
    const queryHeads = G === 1 ? [H] : [numKeyValueHeads, G]
    const shared = (y: string): string => (G === 1 ? y : this.#op('Unsqueeze', [y, this.#ints(2)]))
    const rotate = (y: string): string => {
      const [first, second] = this.#b.node('Split', [y, this.#ints(D / 2, D / 2)], {
        results: 2,
        attributes: [{ name: 'axis', int: -1 }],
      }) as [string, string]
      const turned = this.#op('Concat', [this.#op('Neg', [second]), first], { axis: -1 })
      return this.#op('Add', [this.#op('Mul', [y, cos]), this.#op('Mul', [turned, sin])])
    }
    const joined = (part: 'key' | 'value', fresh: string): string => {
      const outputs = [`present.${layer}.${part}`]
      const inputs = [`past_key_values.${layer}.${part}`, fresh]
      this.#b.nodes.push({ op: 'Concat', inputs, outputs, attributes: [{ name: 'axis', int: 2 }] })
      return outputs[0] as string
    }
    const q = rotate(heads(this.#norm(this.#linear(x, named('q_proj')), named('q_norm')), ...queryHeads))
    const k = rotate(heads(this.#norm(this.#linear(x, named('k_proj')), named('k_norm')), numKeyValueHeads))
    const keys = shared(this.#op('Transpose', [joined('key', k)], { perm: [0, 1, 3, 2] }))
    const values = shared(joined('value', heads(this.#linear(x, named('v_proj')), numKeyValueHeads)))
    const scores = this.#op('MatMul', [this.#op('Mul', [q, this.#float(D ** -0.5)]), keys])
    const p = this.#op('Softmax', [this.#op('Add', [scores, mask])], { axis: -1 })
    const perm = G === 1 ? [0, 2, 1, 3] : [0, 3, 1, 2, 4]
    const mixed = this.#op('Transpose', [this.#op('MatMul', [p, values])], { perm })
    const out = this.#linear(this.#op('Reshape', [mixed, this.#rows]), named('o_proj'))
    return this.#norm(out, layerName(layer, 'post_attention_layernorm.weight'))
  }

  /**
   * u (N, C) -> weighted sum of the chosen experts (N, C), and the experts' shares for the last token of each row (B,
   * E).
   */
  #mixture(layer: number, u: string, T: string): { y: string; share: string } {
    const { E, topK } = this.#init
    const bias = (this.#biases[layer] as Float32Array).map((b) => Math.min(b, 0))
    const offset = this.#op('Add', ['expert_mask', this.#b.constant('float32', [E], bias)])
    const z = this.#op('Add', [this.#linear(u, routerName(layer)), offset])
    const p = this.#op('Softmax', [z], { axis: -1 }) // (N, E)
    const [best, index] = this.#b.node('TopK', [p, this.#ints(topK)], { results: 2 }) as [string, string]
    const none = this.#op('ConstantOfShape', [this.#op('Shape', [p])])
    const weights = this.#op('ScatterElements', [none, index, best], { axis: 1 })
    let y = this.#op('ConstantOfShape', [this.#op('Shape', [u])])
    for (let e = 0; e < E; e++) {
      const w = this.#op('Gather', [weights, this.#b.constant('int64', [], [e])], { axis: 1 }) // (N)
      const rows = this.#op('Transpose', [this.#op('NonZero', [w])], { perm: [1, 0] }) // (n, 1)
      const out = this.#feedForward(layer, e, this.#op('GatherND', [u, rows])) // (n, C)
      const weight = this.#op('Unsqueeze', [this.#op('GatherND', [w, rows]), this.#ints(1)])
      y = this.#op('ScatterND', [y, rows, this.#op('Mul', [out, weight])], { reduction: 'add' })
    }
    const wide = this.#op('Reshape', [
      weights,
      this.#op('Concat', [this.#ints(-1), T, this.#ints(E)], { axis: 0 }),
    ])
    const last = this.#op('Gather', [wide, this.#b.constant('int64', [], [-1])], { axis: 1 }) // (B, E)
    const total = this.#op('ReduceSum', [last, this.#ints(1)], { keepdims: 1 })
    return { y, share: this.#op('Div', [last, total]) }
  }

  #feedForward(layer: number, e: number, x: string): string {
    const gate = this.#linear(x, expertName(layer, e, 'gate_proj'))
    const silu = this.#op('Mul', [gate, this.#op('Sigmoid', [gate])])
    const up = this.#linear(x, expertName(layer, e, 'up_proj'))
    return this.#linear(this.#op('Mul', [silu, up]), expertName(layer, e, 'down_proj'))
  }

  /** x (n, I) times W [O, I] transposed. */
  #linear(x: string, weight: string): string {
    return this.#op('Gemm', [x, this.#weight(weight)], { transB: 1 })
  }

  #norm(x: string, gain: string): string {
    const square = this.#op('Pow', [x, this.#float(2)])
    const mean = this.#op('ReduceMean', [square, this.#ints(-1)], { keepdims: 1 })
    const rms = this.#op('Sqrt', [this.#op('Add', [mean, this.#float(this.#config.rmsNormEps)])])
    return this.#op('Mul', [this.#op('Div', [x, rms]), this.#weight(gain)])
  }

  /** A weight as an initializer under its Hugging Face name. Its values are read when the graph is written. */
  #weight(name: string): string {
    if (!this.#added.has(name)) {
      const weight = requireWeight(this.#weights, name)
      this.#b.initializers.push({ name, type: 'float32', shape: weight.shape, bytes: float32Source(weight) })
      this.#added.add(name)
    }
    return name
  }

  #op(
    op: string,
    inputs: readonly string[],
    attributes: Readonly<Record<string, number | string | readonly number[]>> = {},
  ): string {
    const list = Object.entries(attributes).map(([name, value]): Attribute => {
      if (typeof value === 'string') return { name, text: value }
      return typeof value === 'number' ? { name, int: value } : { name, ints: value }
    })
    return this.#b.node(op, inputs, { attributes: list })[0] as string
  }

  #output(name: string, value: string, shape: readonly (number | string)[]): void {
    this.#b.nodes.push({ op: 'Identity', inputs: [value], outputs: [name] })
    this.#b.outputs.push({ name, type: 'float32', shape })
  }

  #ints(...values: readonly number[]): string {
    return this.#b.constant('int64', [values.length], values)
  }

  #float(value: number): string {
    return this.#b.constant('float32', [], [value])
  }
}

/** The values of a weight as float32 bytes. */
function float32Source(weight: Weight): ByteSource {
  return {
    length: Float32Array.BYTES_PER_ELEMENT * countOf(weight),
    pieces: async function* (signal) {
      for await (const values of valuePieces(weight, signal)) yield view(values)
    },
  }
}

function view(values: Float32Array): Uint8Array {
  return new Uint8Array(values.buffer, values.byteOffset, values.byteLength)
}
