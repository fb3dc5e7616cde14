/**
 * The layers of a mixture for whole windows of text, each a compiled function that takes its weights as inputs: all
 * layers of the model share them, and no function holds weights. Does not know where weights come from.
 *
 * Together with window-pass.ts these functions compute the same as `forward` in transformer.ts;
 * test/model/evaluate.test.ts holds the two equal.
 */
import { add, exp, max, mul, sub, sum, type Tensor, tensor } from '@tensorflow/tfjs-core'
import { FACTORS, FFN_PROJECTIONS } from '../lib/tensor-names.ts'
import type { Compiled, Engine, Signature, Sizes, TensorFunction, Values } from '../tensor/engine.ts'
import { gatedProjection, logSumExpRows, rmsNorm } from '../tensor/fused.ts'
import { headSize, keyValueWidth, type ModelConfig } from './config.ts'
import { attention, causalMask, feedForward, linear, lowRankLinear, rotaryTables } from './layers.ts'
import { factorShape, projectionShape } from './params.ts'

type Inputs = Readonly<Record<string, Values>>
type Shapes = Signature['inputs']

/** Names of the weights of `attend`, after the prefix of the layer. */
export const ATTENTION_WEIGHTS = [
  'self_attn.q_proj.weight',
  'self_attn.k_proj.weight',
  'self_attn.v_proj.weight',
  'self_attn.o_proj.weight',
  'self_attn.q_norm.weight',
  'self_attn.k_norm.weight',
  'post_attention_layernorm.weight',
] as const

/** Name of a factor of a projection among the inputs of `adapted`. */
export function factorInput(projection: (typeof FFN_PROJECTIONS)[number], factor: 'A' | 'B'): string {
  return `${projection}.${factor}`
}

/** Compiles each function when it is first used, and owns the compiled functions. */
export class WindowLayers {
  readonly #engine: Engine
  readonly #config: ModelConfig
  /** Number of experts. */
  readonly #E: number
  /** Tokens per window. */
  readonly #T: number
  readonly #compiled = new Map<string, Promise<Compiled>>()

  constructor(engine: Engine, config: ModelConfig, E: number, T: number) {
    this.#engine = engine
    this.#config = config
    this.#E = E
    this.#T = T
  }

  /**
   * The first half of a block: u = x + norm(attention(x)) and the logits of the router rows. Shapes for B windows,
   * N = B T: x, u (N, C); logits (N, E).
   * @param inputs x, rows (E, C) and `ATTENTION_WEIGHTS`
   * @param into u and logits
   */
  async attend(B: number, inputs: Inputs, into: Inputs): Promise<void> {
    const { hiddenSize: C, numAttentionHeads, numKeyValueHeads } = this.#config
    const T = this.#T
    const N = B * T
    await this.#run(
      `attend ${B}`,
      (tensors) => {
        const t = (name: string): Tensor => tensors[name] as Tensor
        const tables = rotaryTables(this.#config, T)
        const D = headSize(this.#config)
        const rotary = { cos: tensor(tables.cos, [T, D]), sin: tensor(tables.sin, [T, D]) }
        const mask = causalMask(T, numAttentionHeads / numKeyValueHeads)
        const u = add(t('x'), attention(this.#config, t, '', t('x'), B, T, rotary, mask))
        return { u, logits: linear(u, t('rows')) }
      },
      { x: { shape: [N, C] }, rows: { shape: [this.#E, C] }, ...attentionShapes(this.#config) },
      inputs,
      into,
    )
  }

  /** FFN of a whole expert: x (N, C) -> y (N, C). @param inputs x and the projections by name */
  async expert(N: number, inputs: Inputs, into: Inputs): Promise<void> {
    await this.#run(
      'expert',
      ({ x, gate_proj, up_proj, down_proj }) => ({
        y: feedForward(x as Tensor, gate_proj as Tensor, up_proj as Tensor, down_proj as Tensor),
      }),
      { x: { shape: ['N', this.#config.hiddenSize] }, ...this.#projectionShapes(FFN_PROJECTIONS) },
      inputs,
      into,
      { N },
    )
  }

  /**
   * The products that the public expert and low-rank experts share: x (N, C) -> gate, up (N, F).
   * @param inputs x and the public gate_proj and up_proj
   */
  async products(N: number, inputs: Inputs, into: Inputs): Promise<void> {
    await this.#run(
      'products',
      ({ x, gate_proj, up_proj }) => ({
        gate: linear(x as Tensor, gate_proj as Tensor),
        up: linear(x as Tensor, up_proj as Tensor),
      }),
      {
        x: { shape: ['N', this.#config.hiddenSize] },
        ...this.#projectionShapes(['gate_proj', 'up_proj']),
      },
      inputs,
      into,
      { N },
    )
  }

  /** The public expert after `products`: gate, up (N, F) -> y (N, C). @param inputs also the public down_proj */
  async activated(N: number, inputs: Inputs, into: Inputs): Promise<void> {
    const { intermediateSize: F } = this.#config
    await this.#run(
      'activated',
      ({ gate, up, down_proj }) => ({
        y: gatedProjection(gate as Tensor, up as Tensor, down_proj as Tensor),
      }),
      { gate: { shape: ['N', F] }, up: { shape: ['N', F] }, ...this.#projectionShapes(['down_proj']) },
      inputs,
      into,
      { N },
    )
  }

  /**
   * An expert of rank r after `products`: x (N, C), gate, up (N, F) -> y (N, C).
   * @param inputs also the public down_proj, and the expert's factors by `factorInput`
   */
  async adapted(N: number, rank: number, inputs: Inputs, into: Inputs): Promise<void> {
    const { hiddenSize: C, intermediateSize: F } = this.#config
    const factors = FFN_PROJECTIONS.flatMap((projection) =>
      FACTORS.map((factor) => [
        factorInput(projection, factor),
        { shape: factorShape(this.#config, projection, factor, rank) },
      ]),
    )
    await this.#run(
      `adapted ${rank}`,
      (tensors) => {
        const t = (name: string): Tensor => tensors[name] as Tensor
        const own = (x: Tensor, projection: (typeof FFN_PROJECTIONS)[number]): Tensor =>
          lowRankLinear(x, { A: t(factorInput(projection, 'A')), B: t(factorInput(projection, 'B')) })
        const gate = add(t('gate'), own(t('x'), 'gate_proj'))
        const up = add(t('up'), own(t('x'), 'up_proj'))
        const narrow = gatedProjection(gate, up, t(factorInput('down_proj', 'A')))
        return {
          y: add(gatedProjection(gate, up, t('down_proj')), linear(narrow, t(factorInput('down_proj', 'B')))),
        }
      },
      {
        x: { shape: ['N', C] },
        gate: { shape: ['N', F] },
        up: { shape: ['N', F] },
        ...this.#projectionShapes(['down_proj']),
        ...Object.fromEntries(factors),
      },
      inputs,
      into,
      { N },
    )
  }

  /**
   * The end of a block: x = u + norm(y), with u, y, x (N, C).
   * @param inputs u, y and gain (of the norm)
   */
  async complete(N: number, inputs: Inputs, into: Inputs): Promise<void> {
    const { hiddenSize: C, rmsNormEps } = this.#config
    await this.#run(
      'complete',
      ({ u, y, gain }) => ({ x: add(u as Tensor, rmsNorm(y as Tensor, gain as Tensor, rmsNormEps)) }),
      { u: { shape: ['N', C] }, y: { shape: ['N', C] }, gain: { shape: [C] } },
      inputs,
      into,
      { N },
    )
  }

  /** The final norm: x (N, C) -> hidden (N, C). @param inputs x and gain */
  async finish(N: number, inputs: Inputs, into: Inputs): Promise<void> {
    const { hiddenSize: C, rmsNormEps } = this.#config
    await this.#run(
      'finish',
      ({ x, gain }) => ({ hidden: rmsNorm(x as Tensor, gain as Tensor, rmsNormEps) }),
      { x: { shape: ['N', C] }, gain: { shape: [C] } },
      inputs,
      into,
      { N },
    )
  }

  /**
   * Log-sum-exp of the logits of V consecutive tokens of the vocabulary: hidden (N, C), weights (V, C) -> lse (N, 1).
   */
  async logSumExp(N: number, V: number, inputs: Inputs, into: Inputs): Promise<void> {
    const { hiddenSize: C } = this.#config
    await this.#run(
      'logSumExp',
      ({ hidden, weights }) => ({ lse: logSumExpRows(linear(hidden as Tensor, weights as Tensor)) }),
      { hidden: { shape: ['N', C] }, weights: { shape: ['V', C] } },
      inputs,
      into,
      { N, V },
    )
  }

  /**
   * As `logSumExp`, and of the log-probabilities among these V tokens, l = logits - lse, also the mean and the mean
   * square under their own distribution exp(l), and the largest logit. All results are (N, 1).
   */
  async logitMoments(N: number, V: number, inputs: Inputs, into: Inputs): Promise<void> {
    const { hiddenSize: C } = this.#config
    await this.#run(
      'logitMoments',
      ({ hidden, weights }) => {
        const logits = linear(hidden as Tensor, weights as Tensor)
        const lse = logSumExpRows(logits)
        const logs = sub(logits, lse)
        const weighted = mul(exp(logs), logs)
        return {
          lse,
          mean: sum(weighted, -1, true),
          square: sum(mul(weighted, logs), -1, true),
          peak: max(logits, -1, true),
        }
      },
      { hidden: { shape: ['N', C] }, weights: { shape: ['V', C] } },
      inputs,
      into,
      { N, V },
    )
  }

  /** Releases all functions. */
  async dispose(): Promise<void> {
    const all = [...this.#compiled.values()]
    this.#compiled.clear()
    // A failed compilation was thrown to the caller that needed the function.
    for (const compiled of all) await (await compiled.catch(() => undefined))?.dispose()
  }

  #projectionShapes(names: readonly (typeof FFN_PROJECTIONS)[number][]): Shapes {
    return Object.fromEntries(names.map((name) => [name, { shape: projectionShape(this.#config, name) }]))
  }

  async #run(
    kind: string,
    fn: TensorFunction,
    shapes: Shapes,
    inputs: Inputs,
    into: Inputs,
    sizes?: Sizes,
  ): Promise<void> {
    let compiled = this.#compiled.get(kind)
    if (compiled === undefined) {
      compiled = this.#engine.compile(fn, { inputs: shapes }, { interleaved: true, lean: true })
      this.#compiled.set(kind, compiled)
    }
    await (await compiled).run(inputs, into, sizes)
  }
}

function attentionShapes(config: ModelConfig): Shapes {
  const { hiddenSize: C } = config
  const K = keyValueWidth(config)
  const shapes: Record<(typeof ATTENTION_WEIGHTS)[number], number[]> = {
    'self_attn.q_proj.weight': [C, C],
    'self_attn.k_proj.weight': [K, C],
    'self_attn.v_proj.weight': [K, C],
    'self_attn.o_proj.weight': [C, C],
    'self_attn.q_norm.weight': [C],
    'self_attn.k_norm.weight': [K],
    'post_attention_layernorm.weight': [C],
  }
  return Object.fromEntries(Object.entries(shapes).map(([name, shape]) => [name, { shape }]))
}
