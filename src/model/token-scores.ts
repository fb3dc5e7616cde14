/**
 * Scores every token of some sequences under several routings of one mixture: its negative log-likelihood, its standard
 * score among the vocabulary, and whether greedy decoding would choose it. Runs layer by layer, so a model does not have
 * to fit memory. Does not know what the scores are used for.
 */
import type { Engine } from '../tensor/engine.ts'
import type { ModelConfig } from './config.ts'
import { EVALUATION_WINDOW } from './evaluate.ts'
import { Progress } from './evaluation-progress.ts'
import type { SequenceRouting } from './routing-plan.ts'
import { batchesOf, groupsOf } from './text-windows.ts'
import type { WeightMap } from './weights.ts'
import type { TokenScores } from './window-head.ts'
import { WindowModel } from './window-model.ts'
import { beginPass } from './window-pass.ts'

export type { TokenScores } from './window-head.ts'

/** Maximum number of tokens of a sequence. */
export const SCORED_SEQUENCE = EVALUATION_WINDOW
/** Memory for the streams of the windows that pass a layer together. */
const STREAM_BYTES = 2 ** 28

/** A mixture whose tokens are scored. */
export interface ScoredMixture {
  readonly engine: Engine
  readonly config: ModelConfig
  /** Weights of `mixtureWeights`. */
  readonly weights: WeightMap
  /** Number of experts in the mixture, the public one included. */
  readonly E: number
  readonly topK: number
  /** Id of the end-of-text token, which precedes every sequence. */
  readonly endOfText: number
}

/**
 * Scores sequences of 1 to `SCORED_SEQUENCE` tokens, each by itself, under every routing. All weights are read once, or
 * once for each group of sequences whose streams fit memory.
 * @param onProgress called several times for each layer with the share of the work that is done, 0 to 1
 * @returns by routing, then by sequence; one value for each token of the sequence
 * @throws RangeError for a longer sequence; the signal's reason; as `WeightSource.read`.
 */
export async function scoreTokens(
  { engine, config, weights, E, topK, endOfText }: ScoredMixture,
  sequences: readonly Int32Array[],
  routings: readonly SequenceRouting[],
  {
    signal,
    onProgress,
  }: { readonly signal?: AbortSignal; readonly onProgress?: (share: number) => void } = {},
): Promise<TokenScores[][]> {
  const T = SCORED_SEQUENCE
  const wrong = sequences.find(({ length }) => length === 0 || length > T)
  if (wrong !== undefined) throw new RangeError(`expected sequences of 1 to ${T} tokens, got ${wrong.length}`)
  const scores: TokenScores[][] = routings.map(() => [])
  const model = new WindowModel(engine, config, weights, { E, topK, T })
  try {
    const documents = sequences.map((tokens) => ({ tokens, bytes: 0 }))
    const batches = batchesOf(documents, 0, routings, config, T, endOfText)
    const progress = new Progress(batches, config, E, onProgress)
    for (const group of groupsOf(batches, config, T, STREAM_BYTES)) {
      const pass = await beginPass(model, group, signal)
      try {
        for (let layer = 0; layer < config.numHiddenLayers; layer++) {
          await pass.attend(layer, (state) => progress.attended(state))
          await pass.mix(layer, (state, share) => progress.mixed(state, share))
        }
        const labels = group.map((batch) => batch.labels)
        const found = await pass.tokenScores(labels, (share) => progress.predicted(group, share))
        found.forEach((byRouting, i) => {
          byRouting.forEach((all, routing) => {
            scores[routing]?.push(...split(all, group[i]?.lengths as readonly number[]))
          })
        })
      } finally {
        pass.end()
      }
    }
  } finally {
    await model.dispose()
  }
  return scores
}

/** The scores of the windows of a batch, one by one. */
function split({ nats, standard, greedy }: TokenScores, lengths: readonly number[]): TokenScores[] {
  let from = 0
  return lengths.map((length) => {
    const to = from + length
    const scores = {
      nats: nats.slice(from, to),
      standard: standard.slice(from, to),
      greedy: greedy.slice(from, to),
    }
    from = to
    return scores
  })
}
