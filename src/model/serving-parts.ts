/**
 * The three functions that serving runs, layer by layer: attend, one expert, head. In fp32 each is
 * compiled once and weights are fed, so that a composition costs no compilation and no copy; quantized
 * weights are bound, one function for each set of them. Knows no cache, no tokens and no requests.
 */
import { add, matMul, mul, sigmoid, type Tensor } from '@tensorflow/tfjs'
import { cachedAttention } from '../tensor/cached-attention.ts'
import type {
  Compiled,
  Engine,
  FrozenTensor,
  Signature,
  Sizes,
  TensorFunction,
  Values,
} from '../tensor/engine.ts'
import { rmsNorm } from '../tensor/fused.ts'
import { type Bits, quantizedMatMul } from '../tensor/quantized.ts'
import type { CodedParams } from './coded-params.ts'
import { headSize, keyValueWidth, type ModelConfig } from './config.ts'
import { expertName, FFN_PROJECTIONS, layerName, type Params, requireParam, routerName } from './params.ts'

/** A function whose weights are given already. */
export interface Part {
  run(
    inputs: Readonly<Record<string, Values>>,
    into: Readonly<Record<string, Values>>,
    sizes: Sizes,
  ): Promise<void>
}

export interface ServingParts {
  /**
   * (u, y) of the block before -> x = u + norm(y); attention; u' = x + norm(attention).
   * Inputs u, y (B, T, C), pastKeys, pastValues (B, J, P, D), positions (B, T), lastPositions (B), total (1), cos, sin
   * (R, D / 2); results uNext, logits (B, T, E), and keys, values (B, T, K) for the cache.
   */
  readonly attend: readonly Part[]
  /** x (N, C) -> y (N, C): `expert(layer, e)`. */
  expert(layer: number, e: number): Part
  /** (u, y) of the last block (N, C) -> logits (N, V). */
  readonly head: Part
  dispose(): Promise<void>
}

type Matrices = Readonly<Record<string, string>>

const ATTENTION: Matrices = { q: 'q_proj', k: 'k_proj', v: 'v_proj', o: 'o_proj' }
const GAINS: Matrices = {
  qGain: 'self_attn.q_norm',
  kGain: 'self_attn.k_norm',
  outGain: 'post_attention_layernorm',
}

interface PartSpec {
  readonly fn: TensorFunction
  readonly inputs: Signature['inputs']
  /** Parameters by the function's own names: matrices may be quantized, vectors never. */
  readonly matrices: Readonly<Record<string, string>>
  readonly vectors: Readonly<Record<string, string>>
}

export async function compileServingParts(
  engine: Engine,
  config: ModelConfig,
  params: Params,
  coded: CodedParams | undefined,
  E: number,
  rotaryLength: number,
): Promise<ServingParts> {
  const maker = new PartMaker(engine, params, coded)
  const { numHiddenLayers: L } = config
  try {
    const attend: Part[] = []
    const experts: Part[][] = []
    for (let layer = 0; layer < L; layer++) {
      attend.push(await maker.make('attend', attendSpec(config, rotaryLength, layer)))
      const row: Part[] = []
      for (let e = 0; e < E; e++) row.push(await maker.make('expert', expertSpec(config, layer, e)))
      experts.push(row)
    }
    const head = await maker.make('head', headSpec(config))
    return {
      attend,
      expert: (layer, e) => experts[layer]?.[e] as Part,
      head,
      dispose: () => maker.dispose(),
    }
  } catch (error) {
    await maker.dispose()
    throw error
  }
}

/** y = x W' for a matrix that is fed as floats or bound as codes. */
function product(tensors: Readonly<Record<string, Tensor>>, bits: Bits | undefined, shapes: Shapes) {
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

class PartMaker {
  readonly #engine: Engine
  readonly #params: Params
  readonly #coded: CodedParams | undefined
  readonly #shared = new Map<string, Compiled>()
  readonly #all: Compiled[] = []

  constructor(engine: Engine, params: Params, coded: CodedParams | undefined) {
    this.#engine = engine
    this.#params = params
    this.#coded = coded
  }

  /** A part of one kind; all parts of a kind have the same shapes. */
  async make(kind: string, spec: (bits: Bits | undefined) => PartSpec): Promise<Part> {
    const { fn, inputs, matrices, vectors } = spec(this.#coded?.bits)
    const param = (name: string): FrozenTensor => requireParam(this.#params, name)
    const weights: Record<string, FrozenTensor> = {}
    for (const [name, of] of Object.entries(vectors)) weights[name] = param(of)
    if (this.#coded === undefined) {
      for (const [name, of] of Object.entries(matrices)) weights[name] = param(of)
      let compiled = this.#shared.get(kind)
      if (compiled === undefined) {
        compiled = await this.#compile(fn, { inputs: { ...inputs, ...weights } })
        this.#shared.set(kind, compiled)
      }
      return fed(compiled, weights)
    }
    for (const [name, of] of Object.entries(matrices)) {
      const { codes, scales, O } = this.#coded.of(of)
      weights[`${name}.codes`] = { data: codes, shape: [O, scales.length / O, codes.length / scales.length] }
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

function fed(compiled: Compiled, weights: Readonly<Record<string, FrozenTensor>>): Part {
  const values = Object.fromEntries(
    Object.entries(weights).map(([name, { data }]) => [name, data as Float32Array]),
  )
  return {
    run: async (inputs, into, sizes) => void (await compiled.run({ ...values, ...inputs }, into, sizes)),
  }
}

function attendSpec(config: ModelConfig, rotaryLength: number, layer: number) {
  const { hiddenSize: C, numAttentionHeads: H, numKeyValueHeads: J, rmsNormEps } = config
  const D = headSize(config)
  const K = keyValueWidth(config)
  const past = { shape: ['B', J, 'P', D] }
  const table = { shape: [rotaryLength, D / 2] }
  const named = (rest: string): string => layerName(layer, `${rest}.weight`)
  return (bits: Bits | undefined): PartSpec => ({
    fn: (tensors) => {
      const t = (name: string): Tensor => tensors[name] as Tensor
      const linear = product(tensors, bits, (name) => (name === 'k' || name === 'v' ? [K, C] : [C, C]))
      const x = add(t('u'), rmsNorm(t('y'), t('inGain'), rmsNormEps)) // (B, T, C)
      const values = linear(x, 'v')
      const [mixed, keys] = cachedAttention(
        {
          queries: rmsNorm(linear(x, 'q'), t('qGain'), rmsNormEps),
          keys: rmsNorm(linear(x, 'k'), t('kGain'), rmsNormEps),
          values,
          pastKeys: t('pastKeys'),
          pastValues: t('pastValues'),
          positions: t('positions'),
          lastPositions: t('lastPositions'),
          total: t('total'),
          cos: t('cos'),
          sin: t('sin'),
        },
        { queries: H, keys: J },
      )
      const u = add(x, rmsNorm(linear(mixed, 'o'), t('outGain'), rmsNormEps))
      const logits = matMul(u as never, t('rows') as never, false, true) as Tensor // (B, T, E)
      return { uNext: u, logits, keys, values }
    },
    inputs: {
      u: { shape: ['B', 'T', C] },
      y: { shape: ['B', 'T', C] },
      pastKeys: past,
      pastValues: past,
      positions: { shape: ['B', 'T'], dtype: 'int32' },
      lastPositions: { shape: ['B'], dtype: 'int32' },
      total: { shape: [1], dtype: 'int32' },
      cos: table,
      sin: table,
    },
    matrices: Object.fromEntries(
      Object.entries(ATTENTION).map(([name, of]) => [name, named(`self_attn.${of}`)]),
    ),
    vectors: {
      // The first block follows none: its y is zero, whatever the gain.
      inGain: layerName(Math.max(0, layer - 1), 'post_feedforward_layernorm.weight'),
      ...Object.fromEntries(Object.entries(GAINS).map(([name, of]) => [name, named(of)])),
      rows: routerName(layer),
    },
  })
}

function expertSpec(config: ModelConfig, layer: number, e: number) {
  const { hiddenSize: C, intermediateSize: F } = config
  return (bits: Bits | undefined): PartSpec => ({
    fn: (tensors) => {
      const linear = product(tensors, bits, (name) => (name === 'down_proj' ? [C, F] : [F, C]))
      const x = tensors['x'] as Tensor
      const gate = linear(x, 'gate_proj')
      return { y: linear(mul(mul(gate, sigmoid(gate)), linear(x, 'up_proj')), 'down_proj') }
    },
    inputs: { x: { shape: ['N', C] } },
    matrices: Object.fromEntries(FFN_PROJECTIONS.map((name) => [name, expertName(layer, e, name)])),
    vectors: {},
  })
}

function headSpec(config: ModelConfig) {
  const { hiddenSize: C, vocabSize: V, numHiddenLayers: L, rmsNormEps } = config
  return (bits: Bits | undefined): PartSpec => ({
    fn: (tensors) => {
      const t = (name: string): Tensor => tensors[name] as Tensor
      const linear = product(tensors, bits, () => [V, C])
      const x = add(t('u'), rmsNorm(t('y'), t('inGain'), rmsNormEps))
      return { logits: linear(rmsNorm(x, t('gain'), rmsNormEps), 'lmHead') }
    },
    inputs: { u: { shape: ['N', C] }, y: { shape: ['N', C] } },
    matrices: { lmHead: 'lm_head.weight' },
    vectors: {
      inGain: layerName(L - 1, 'post_feedforward_layernorm.weight'),
      gain: 'model.norm.weight',
    },
  })
}
