/**
 * Scores held-out text in bits per byte: the negative log-likelihood of all tokens, in bits, divided by the bytes of
 * the documents, which makes models with different tokenizers comparable. Does not know files.
 */
import { concat, div, mul, reshape, slice, sub, sum, type Tensor } from '@tensorflow/tfjs'
import type { Compiled, Engine } from '../tensor/engine.ts'
import { headLogProbs } from '../tensor/fused.ts'
import type { ModelConfig } from './config.ts'
import { lowRankExperts } from './params.ts'
import type { Routing } from './router.ts'
import type { SequenceRouting } from './routing-plan.ts'
import { forward } from './transformer.ts'
import { loadParams, type WeightMap } from './weights.ts'

export interface HeldOutDocument {
  readonly tokens: Int32Array
  /** Bytes of the text in UTF-8. */
  readonly bytes: number
}

export interface Evaluation {
  readonly bitsPerByte: number
  readonly documents: number
  readonly tokens: number
  readonly bytes: number
  /** Mean router probability of each expert over all layers and scored tokens; public expert first. */
  readonly loadShares: readonly number[]
  /**
   * By layer, then by expert (public first): mean over the scored tokens of the weight of the expert divided by the sum
   * over the chosen experts. `generate` attributes an answer the same way. Every layer sums to 1.
   */
  readonly layerShares: readonly (readonly number[])[]
}

export interface Evaluator {
  /**
   * Scores documents. Every window is a separate sequence.
   * @param onBatch called after each run with the number of windows that it scored
   * @throws RangeError for a gate if the evaluator was compiled without `gate`; the signal's reason when aborted.
   */
  evaluate(
    documents: Iterable<HeldOutDocument>,
    routing: SequenceRouting,
    signal?: AbortSignal,
    onBatch?: (windows: number) => void,
  ): Promise<Evaluation>
  dispose(): Promise<void>
}

/** Batch of every score that is published or compared: windows per run and tokens per window. */
export const EVALUATION_BATCH = { B: 8, T: 128 } as const

export interface EvaluatorInit {
  /** Number of experts in the mixture, the public one included. */
  readonly E: number
  readonly topK: number
  /** Windows per run; default: `EVALUATION_BATCH`. */
  readonly B?: number
  /** Tokens per window; longer documents are cut into several. Default: `EVALUATION_BATCH`. */
  readonly T?: number
  /** Id of the end-of-text token. It precedes every document, so that the first token is predicted too. */
  readonly endOfText: number
  /** Whether `evaluate` accepts gates. One compilation then serves every gate, and also routing without one. */
  readonly gate?: boolean
}

/** Compiles the mixture for scoring. `weights` are those of `mixtureWeights`. */
export async function createEvaluator(
  engine: Engine,
  config: ModelConfig,
  weights: WeightMap,
  init: EvaluatorInit,
): Promise<Evaluator> {
  const { B, T } = batchOf(init)
  const { E, gate = false } = init
  const lowRank = lowRankExperts(weights, E)
  const params = await loadParams(weights)
  const compiled = await engine.compile(
    (tensors) => {
      const tensorOf = (name: string): Tensor => tensors[name] as Tensor
      const result = forward(config, tensorOf, tensorOf('ids'), {
        B,
        T,
        E,
        topK: init.topK,
        bias: true,
        lowRank,
        mask: tensorOf('mask'),
        ...(gate
          ? {
              gate: {
                weights: tensorOf('gateWeights'),
                offsets: tensorOf('gateOffsets'),
                rowScale: tensorOf('rowScale'),
              },
            }
          : {}),
      })
      const logProbs = headLogProbs(result.hidden, tensorOf('lm_head.weight'), tensorOf('labels'), 'none')
      const N = B * T
      const nll = mul(
        sub(slice(logProbs, [0, 0], [N, 1]), slice(logProbs, [0, 1], [N, 1])),
        reshape(tensorOf('scored'), [N, 1]),
      )
      let load = result.routing[0]?.probabilities as Tensor
      for (const routing of result.routing.slice(1)) load = load.add(routing.probabilities)
      const scored = reshape(tensorOf('scored'), [N, 1])
      const chosen = result.routing.map((routing) => mul(chosenShares(routing), scored).sum(0, true))
      return { nll: nll.sum(), load: mul(load, scored).sum(0), chosen: concat(chosen, 0) }
    },
    {
      inputs: {
        ids: { shape: [B, T], dtype: 'int32' },
        labels: { shape: [B * T], dtype: 'int32' },
        scored: { shape: [B * T] },
        mask: { shape: [E] },
        ...(gate
          ? {
              gateWeights: { shape: [config.vocabSize, E] },
              gateOffsets: { shape: [E] },
              rowScale: { shape: [] },
            }
          : {}),
      },
      frozen: Object.fromEntries(params),
    },
  )
  return {
    evaluate: async (documents, routing, signal, onBatch) => {
      const inputs = routingInputs(config, init, routing)
      return evaluate(compiled, config, init, documents, inputs, signal, onBatch)
    },
    dispose: () => compiled.dispose(),
  }
}

function batchOf({ B = EVALUATION_BATCH.B, T = EVALUATION_BATCH.T }: EvaluatorInit): {
  B: number
  T: number
} {
  return { B, T }
}

/** Inputs of the graph for one routing. */
function routingInputs(
  { vocabSize: V }: ModelConfig,
  { E, gate: takesGate = false }: EvaluatorInit,
  { mask, gate }: SequenceRouting,
): Record<string, Float32Array> {
  if (gate !== undefined && !takesGate) throw new RangeError('this evaluator was compiled without a gate')
  if (!takesGate) return { mask }
  return {
    mask,
    gateWeights: gate?.weights ?? new Float32Array(V * E),
    gateOffsets: gate?.offsets ?? new Float32Array(E),
    rowScale: Float32Array.of(gate?.rowScale ?? 1),
  }
}

/** (N, E): weights of the chosen experts, divided by their sum. */
function chosenShares({ weights }: Routing): Tensor {
  return div(weights, sum(weights, 1, true))
}

async function evaluate(
  compiled: Compiled,
  config: ModelConfig,
  init: EvaluatorInit,
  documents: Iterable<HeldOutDocument>,
  routing: Record<string, Float32Array>,
  signal?: AbortSignal,
  onBatch?: (windows: number) => void,
): Promise<Evaluation> {
  const { E } = init
  const { B, T } = batchOf(init)
  const totals = { documents: 0, tokens: 0, bytes: 0, nats: 0 }
  const load = new Float64Array(E)
  const chosen = new Float64Array(config.numHiddenLayers * E)
  const ids = new Int32Array(B * T)
  const labels = new Int32Array(B * T)
  const scored = new Float32Array(B * T)
  let row = 0
  const flush = async (): Promise<void> => {
    if (row === 0) return
    signal?.throwIfAborted()
    const out = await compiled.run({ ids, labels, scored, ...routing })
    totals.nats += out['nll']?.[0] as number
    for (let e = 0; e < E; e++) load[e] = (load[e] as number) + (out['load']?.[e] as number)
    for (let i = 0; i < chosen.length; i++) {
      chosen[i] = (chosen[i] as number) + (out['chosen']?.[i] as number)
    }
    onBatch?.(row)
    for (const array of [ids, labels, scored]) array.fill(0)
    row = 0
  }
  for (const { tokens, bytes } of documents) {
    totals.documents++
    totals.bytes += bytes
    totals.tokens += tokens.length
    for (let start = 0; start < tokens.length; start += T) {
      const count = Math.min(T, tokens.length - start)
      const at = row * T
      ids[at] = start === 0 ? init.endOfText : (tokens[start - 1] as number)
      ids.set(tokens.subarray(start, start + count - 1), at + 1)
      labels.set(tokens.subarray(start, start + count), at)
      scored.fill(1, at, at + count)
      row++
      if (row === B) await flush()
    }
  }
  await flush()
  const tokens = Math.max(1, totals.tokens)
  return {
    bitsPerByte: totals.nats / Math.LN2 / Math.max(1, totals.bytes),
    documents: totals.documents,
    tokens: totals.tokens,
    bytes: totals.bytes,
    loadShares: Array.from(load, (total) => total / (tokens * config.numHiddenLayers)),
    layerShares: Array.from({ length: config.numHiddenLayers }, (_, layer) =>
      Array.from(chosen.subarray(layer * E, (layer + 1) * E), (total) => total / tokens),
    ),
  }
}
