/**
 * The end of a pass of windows: negative log-likelihoods and other scores of labels, with the logits of some rows and
 * some tokens of the vocabulary in memory at a time. Does not know text.
 */
import { wholeValues } from './weights.ts'
import type { WindowModel } from './window-model.ts'
import { gatherRows } from './window-rows.ts'
import type { BatchStreams } from './window-streams.ts'

/** Number of tokens of the vocabulary whose weights are read at a time. */
const VOCABULARY_AT_ONCE = 8192
/** Maximum number of logits in memory: 16 MiB of float32. */
const LOGITS_AT_ONCE = 2 ** 22

/** Added to the variance of log-likelihoods, which a certain prediction makes 0. */
const MIN_VARIANCE = 1e-8
/** The logit of a label is summed in another order than those of the engine, so equal logits may differ this much. */
const LOGIT_TOLERANCE = 1e-3

/** What the head predicts for the rows of one batch that count, in their order, under one routing. */
export interface TokenScores {
  /** Negative log-likelihood of the token that follows, in nats. */
  readonly nats: Float64Array
  /**
   * Standard score of its log-likelihood among those of the whole vocabulary: (log p - mean) / standard deviation,
   * both under the predicted distribution (Min-K%++, Zhang et al. 2024, arXiv 2404.02936).
   */
  readonly standard: Float64Array
  /** 1 where no token of the vocabulary is likelier. */
  readonly greedy: Uint8Array
}

/** Rows of one batch under one routing. */
interface Predicted {
  /** Memory of `hidden`. */
  readonly buffer: Float32Array
  /** (rows that count, C): after the final norm. */
  readonly hidden: Float32Array
  /** (rows that count): token that follows. */
  readonly labels: Int32Array
  /** (rows that count): log-sum-exp of the logits so far, and logit of the label. */
  readonly lse: Float64Array
  readonly logit: Float64Array
  /** Undefined if only the log-likelihood is asked for. */
  readonly moments: Moments | undefined
}

/** (rows that count), over the tokens of the vocabulary read so far, with log-probabilities relative to their `lse`. */
interface Moments {
  readonly mean: Float64Array
  readonly square: Float64Array
  /** Largest logit. */
  readonly peak: Float64Array
}

/**
 * Negative log-likelihood of the labels of all rows that count, in nats, by batch and routing. The streams end.
 * @param labels (B, T) of each batch
 * @param onPart called after each part with the share of all work that it was
 * @throws the signal's reason; as `WeightSource.read`.
 */
export async function logLikelihoods(
  model: WindowModel,
  states: readonly BatchStreams[],
  labels: readonly Int32Array[],
  onPart: (share: number) => void,
  signal: AbortSignal | undefined,
): Promise<number[][]> {
  const predicted = await predict(model, states, labels, false, onPart, signal)
  return predicted.map((routings) =>
    routings.map(({ lse, logit }) => lse.reduce((sum, value, i) => sum + value - (logit[i] as number), 0)),
  )
}

/**
 * Scores of the labels of all rows that count, by batch and routing. The streams end.
 * @param labels (B, T) of each batch
 * @param onPart called after each part with the share of all work that it was
 * @throws the signal's reason; as `WeightSource.read`.
 */
export async function tokenScores(
  model: WindowModel,
  states: readonly BatchStreams[],
  labels: readonly Int32Array[],
  onPart: (share: number) => void,
  signal: AbortSignal | undefined,
): Promise<TokenScores[][]> {
  const predicted = await predict(model, states, labels, true, onPart, signal)
  return predicted.map((routings) => routings.map(scoresOf))
}

async function predict(
  model: WindowModel,
  states: readonly BatchStreams[],
  labels: readonly Int32Array[],
  withMoments: boolean,
  onPart: (share: number) => void,
  signal: AbortSignal | undefined,
): Promise<Predicted[][]> {
  const gain = await wholeValues(model.memory.weight('model.norm.weight'), signal)
  const predicted: Predicted[][] = []
  for (const [i, state] of states.entries()) {
    predicted.push(await finished(model, state, labels[i] as Int32Array, gain, withMoments, signal))
  }
  const { vocabSize: V } = model.config
  const all = predicted.flat()
  for (let from = 0; from < V; from += VOCABULARY_AT_ONCE) {
    const count = Math.min(VOCABULARY_AT_ONCE, V - from)
    const weights = await model.memory.readRows('lm_head.weight', from, count, signal)
    for (const rows of all) {
      await addVocabulary(model, rows, weights, from, count, signal)
      onPart(count / V / all.length)
    }
  }
  predicted.forEach((routings, i) => {
    for (const { buffer } of routings) model.buffers((states[i] as BatchStreams).N).give(buffer)
  })
  return predicted
}

function scoresOf({ lse, logit, moments }: Predicted): TokenScores {
  const { mean, square, peak } = moments as Moments
  const nats = lse.map((value, i) => value - (logit[i] as number))
  return {
    nats,
    standard: nats.map((value, i) => {
      const mu = mean[i] as number
      const variance = Math.max(0, (square[i] as number) - mu * mu)
      return (-value - mu) / Math.sqrt(variance + MIN_VARIANCE)
    }),
    greedy: Uint8Array.from(logit, (value, i) => (value >= (peak[i] as number) - LOGIT_TOLERANCE ? 1 : 0)),
  }
}

/**
 * Applies the final norm to the streams of a batch, and frees the streams.
 * @returns by routing
 */
async function finished(
  model: WindowModel,
  state: BatchStreams,
  labels: Int32Array,
  gain: Float32Array,
  withMoments: boolean,
  signal: AbortSignal | undefined,
): Promise<Predicted[]> {
  const { hiddenSize: C } = model.config
  const buffers = model.buffers(state.N)
  const { rows, N } = state
  const M = rows.length
  const predicted: Predicted[] = []
  const own = Int32Array.from(rows, (row) => labels[row] as number)
  for (const { u, members } of state.streams) {
    const x = gatherRows(u, rows, C, model.scratch('x', N * C))
    for (const { routing } of members) {
      signal?.throwIfAborted()
      const buffer = buffers.take()
      const hidden = buffer.subarray(0, M * C)
      await model.layers.finish(M, { x, gain }, { hidden })
      predicted[routing] = {
        buffer,
        hidden,
        labels: own,
        lse: new Float64Array(M).fill(Number.NEGATIVE_INFINITY),
        logit: new Float64Array(M),
        moments: withMoments
          ? {
              mean: new Float64Array(M),
              square: new Float64Array(M),
              peak: new Float64Array(M).fill(Number.NEGATIVE_INFINITY),
            }
          : undefined,
      }
    }
    buffers.give(u)
  }
  state.streams = []
  return predicted
}

/** Adds the logits of tokens `from` to `from + count` of the vocabulary, whose weights are (count, C). */
async function addVocabulary(
  model: WindowModel,
  { hidden, labels, lse, logit, moments }: Predicted,
  weights: Float32Array,
  from: number,
  count: number,
  signal: AbortSignal | undefined,
): Promise<void> {
  const { hiddenSize: C } = model.config
  const M = labels.length
  const most = Math.max(1, Math.floor(LOGITS_AT_ONCE / count))
  for (let first = 0; first < M; first += most) {
    const n = Math.min(most, M - first)
    const result = (name: string): Float32Array => model.scratch(name, most).subarray(0, n)
    const part = result('lse')
    const inputs = { hidden: hidden.subarray(first * C, (first + n) * C), weights }
    signal?.throwIfAborted()
    if (moments === undefined) {
      await model.layers.logSumExp(n, count, inputs, { lse: part })
      part.forEach((value, i) => {
        lse[first + i] = logAddExp(lse[first + i] as number, value)
      })
      continue
    }
    const into = { lse: part, mean: result('mean'), square: result('square'), peak: result('peak') }
    await model.layers.logitMoments(n, count, inputs, into)
    for (let i = 0; i < n; i++) mergeMoments(lse, moments, first + i, into, i)
  }
  labels.forEach((label, row) => {
    if (label < from || label >= from + count) return
    let sum = 0
    for (let c = 0; c < C; c++) {
      sum += (hidden[row * C + c] as number) * (weights[(label - from) * C + c] as number)
    }
    logit[row] = sum
  })
}

/**
 * Adds row `i` of a part of the vocabulary to the moments of `row`: both are moved to the common log-sum-exp, then
 * averaged with their shares of the probability.
 */
function mergeMoments(
  lse: Float64Array,
  { mean, square, peak }: Moments,
  row: number,
  part: Readonly<Record<'lse' | 'mean' | 'square' | 'peak', Float32Array>>,
  i: number,
): void {
  const before = lse[row] as number
  const added = part.lse[i] as number
  const all = logAddExp(before, added)
  /** The moments of log-probabilities that are all shifted by `by`. */
  const moved = (m: number, s: number, by: number): [number, number] => [m + by, s + 2 * by * m + by * by]
  const [oldMean, oldSquare] =
    before === Number.NEGATIVE_INFINITY
      ? [0, 0]
      : moved(mean[row] as number, square[row] as number, before - all)
  const [newMean, newSquare] = moved(part.mean[i] as number, part.square[i] as number, added - all)
  const share = Math.exp(added - all)
  lse[row] = all
  mean[row] = (1 - share) * oldMean + share * newMean
  square[row] = (1 - share) * oldSquare + share * newSquare
  peak[row] = Math.max(peak[row] as number, part.peak[i] as number)
}

/** log(exp(a) + exp(b)); a may be -Infinity. */
function logAddExp(a: number, b: number): number {
  const peak = Math.max(a, b)
  return peak + Math.log(Math.exp(a - peak) + Math.exp(b - peak))
}
