/** Scores windows with `forward` of model/transformer.ts, the whole mixture in one graph: the oracle of evaluators. */
import { div, mul, reshape, slice, sub, sum, type Tensor } from '@tensorflow/tfjs'
import type { ModelConfig } from '../../src/model/config.ts'
import { lowRankExperts } from '../../src/model/params.ts'
import type { SequenceRouting } from '../../src/model/routing-plan.ts'
import { forward } from '../../src/model/transformer.ts'
import type { Params } from '../../src/model/weights.ts'
import type { Engine } from '../../src/tensor/engine.ts'
import { headLogProbs } from '../../src/tensor/fused.ts'

export interface WholeScores {
  readonly nats: number
  /** By expert: mean router probability over layers and tokens. */
  readonly loadShares: readonly number[]
  /** By layer, then by expert. */
  readonly layerShares: readonly (readonly number[])[]
}

/** Scores of one document, which fits one window. */
export async function wholeGraphScores(
  engine: Engine,
  config: ModelConfig,
  params: Params,
  { E, topK, endOfText }: { readonly E: number; readonly topK: number; readonly endOfText: number },
  tokens: Int32Array,
  { mask, gate }: SequenceRouting,
): Promise<WholeScores> {
  const T = tokens.length
  const compiled = await engine.compile(
    (tensors) => {
      const t = (name: string): Tensor => tensors[name] as Tensor
      const gated = gate && {
        gate: { weights: t('gateWeights'), offsets: t('gateOffsets'), rowScale: t('rowScale') },
      }
      const init = { B: 1, T, E, topK, bias: true, lowRank: lowRankExperts(params, E), mask: t('mask') }
      const { hidden, routing } = forward(config, t, t('ids'), { ...init, ...gated })
      const logProbs = headLogProbs(hidden, t('lm_head.weight'), t('labels'), 'none')
      const out: Record<string, Tensor> = {
        nats: reshape(sum(sub(slice(logProbs, [0, 0], [T, 1]), slice(logProbs, [0, 1], [T, 1]))), [1]),
      }
      routing.forEach(({ probabilities, weights }, layer) => {
        out[`load.${layer}`] = mul(sum(probabilities, 0), 1 / T)
        out[`shares.${layer}`] = mul(sum(div(weights, sum(weights, 1, true)), 0), 1 / T)
      })
      return out
    },
    {
      inputs: {
        ids: { shape: [1, T], dtype: 'int32' },
        labels: { shape: [T], dtype: 'int32' },
        mask: { shape: [E] },
        ...(gate && {
          gateWeights: { shape: [config.vocabSize, E] },
          gateOffsets: { shape: [E] },
          rowScale: { shape: [] },
        }),
      },
      frozen: Object.fromEntries(params),
    },
    { lean: true },
  )
  const ids = Int32Array.of(endOfText, ...tokens.subarray(0, -1))
  const gateInputs = gate && {
    gateWeights: gate.weights,
    gateOffsets: gate.offsets,
    rowScale: Float32Array.of(gate.rowScale),
  }
  const out = await compiled.run({ ids, labels: tokens, mask, ...gateInputs })
  await compiled.dispose()
  const layers = Array.from({ length: config.numHiddenLayers }, (_, layer) => layer)
  const loads = layers.map((layer) => [...(out[`load.${layer}`] as Float32Array)])
  return {
    nats: out['nats']?.[0] as number,
    loadShares: Array.from(
      { length: E },
      (_, e) => loads.reduce((total, load) => total + (load[e] as number), 0) / layers.length,
    ),
    layerShares: layers.map((layer) => [...(out[`shares.${layer}`] as Float32Array)]),
  }
}
