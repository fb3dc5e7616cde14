/**
 * The parts of a block that prompt-decoder.ts computes with the engine between the products with weights: norms,
 * attention and router. Matrices from products are transposed. Does not know caches, tokens or requests.
 */
import { add, matMul, type Tensor, transpose } from '@tensorflow/tfjs-core'
import { headSize, keyValueWidth, type ModelConfig } from '../model/config.ts'
import { type CachedKeysInputs, cachedAttention, cachedKeys } from '../tensor/cached-attention.ts'
import type { Compiled, Engine, Signature } from '../tensor/engine.ts'
import { rmsNorm } from '../tensor/fused.ts'

/** Shapes: one sequence of T new tokens, J heads of keys and values, a cache of P positions. */
export interface PromptLayers {
  /** x = u + norm(y). Inputs: u (T, C), yT (C, T), gain (C). Result: x (T, C). */
  readonly addBlock: Compiled
  /**
   * Attention between its products. Inputs: qT (C, T), kT, vT (K, T), qGain (C), kGain (K), pastKeys, pastValues
   * (1, J, P, D), positions (1, T), lastPositions (1), total (1), cos, sin. Results: mixed (T, C), keys and values
   * (1, J, T, D) for the cache.
   */
  readonly attend: Compiled
  /** Only the keys and values of `attend`. Inputs: kT, vT, kGain, positions, lastPositions, cos, sin. */
  readonly keys: Compiled
  /** u = x + norm(o). Inputs: x (T, C), oT (C, T), gain (C), rows (E, C). Results: u (T, C), logits (T, E). */
  readonly route: Compiled
  /** norm(u) for the head. Inputs: u (T, C), gain (C). Result: x (T, C). */
  readonly last: Compiled
  dispose(): Promise<void>
}

/** @param rotaryLength number of positions of the rotary tables */
export async function compilePromptLayers(
  engine: Engine,
  config: ModelConfig,
  E: number,
  rotaryLength: number,
): Promise<PromptLayers> {
  const { hiddenSize: C, rmsNormEps, numAttentionHeads: H, numKeyValueHeads: J } = config
  const K = keyValueWidth(config)
  const D = headSize(config)
  const all: Compiled[] = []
  const compile = async (
    fn: (t: (name: string) => Tensor) => Record<string, Tensor>,
    inputs: Signature['inputs'],
  ): Promise<Compiled> => {
    const compiled = await engine.compile(
      (tensors) => fn((name) => tensors[name] as Tensor),
      { inputs },
      { interleaved: true },
    )
    all.push(compiled)
    return compiled
  }
  const stream = { shape: [1, 'T', C] }
  const transposed = (width: number) => ({ shape: [1, width, 'T'] })
  const constant = (...shape: number[]) => ({ shape, constant: true }) as const
  const past = { shape: [1, J, 'P', D] }
  const int32 = (...shape: (number | string)[]) => ({ shape, dtype: 'int32' }) as const
  const table = constant(rotaryLength, D / 2)
  const positions = { positions: int32(1, 'T'), lastPositions: int32(1), cos: table, sin: table }
  /** (1, T, width) from (1, width, T). */
  const tokens = (x: Tensor): Tensor => transpose(x, [0, 2, 1])
  const freshKeys = (t: (name: string) => Tensor): CachedKeysInputs => ({
    keys: rmsNorm(tokens(t('kT')), t('kGain'), rmsNormEps),
    values: tokens(t('vT')),
    positions: t('positions'),
    lastPositions: t('lastPositions'),
    cos: t('cos'),
    sin: t('sin'),
  })
  const newKeys = { kT: transposed(K), vT: transposed(K), kGain: constant(K), ...positions }
  return {
    addBlock: await compile((t) => ({ x: add(t('u'), rmsNorm(tokens(t('yT')), t('gain'), rmsNormEps)) }), {
      ...{ u: stream, yT: transposed(C), gain: constant(C) },
    }),
    attend: await compile(
      (t) => {
        const queries = rmsNorm(tokens(t('qT')), t('qGain'), rmsNormEps)
        const pasts = { pastKeys: t('pastKeys'), pastValues: t('pastValues'), total: t('total') }
        return { ...cachedAttention({ queries, ...freshKeys(t), ...pasts }, { queries: H, keys: J }) }
      },
      {
        ...newKeys,
        ...{ qT: transposed(C), qGain: constant(C), pastKeys: past, pastValues: past, total: int32(1) },
      },
    ),
    keys: await compile((t) => ({ ...cachedKeys(freshKeys(t), J) }), newKeys),
    route: await compile(
      (t) => {
        const u = add(t('x'), rmsNorm(tokens(t('oT')), t('gain'), rmsNormEps))
        return { u, logits: matMul(u as never, t('rows') as never, false, true) as Tensor }
      },
      { x: stream, oT: transposed(C), gain: constant(C), rows: constant(E, C) },
    ),
    last: await compile((t) => ({ x: rmsNorm(t('u'), t('gain'), rmsNormEps) }), {
      ...{ u: stream, gain: constant(C) },
    }),
    dispose: async () => {
      for (const compiled of all.splice(0)) await compiled.dispose()
    },
  }
}
