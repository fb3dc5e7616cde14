/**
 * The end of a pass of windows: negative log-likelihoods of labels, with the logits of some rows and some tokens of the
 * vocabulary in memory at a time. Does not know text.
 */
import { wholeValues } from './weights.ts'
import type { WindowModel } from './window-model.ts'
import { gatherRows } from './window-rows.ts'
import type { BatchStreams } from './window-streams.ts'

/** Number of tokens of the vocabulary whose weights are read at a time. */
const VOCABULARY_AT_ONCE = 8192
/** Maximum number of logits in memory: 16 MiB of float32. */
const LOGITS_AT_ONCE = 2 ** 22

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
  const gain = await wholeValues(model.memory.weight('model.norm.weight'), signal)
  const predicted: Predicted[][] = []
  for (const [i, state] of states.entries()) {
    predicted.push(await finished(model, state, labels[i] as Int32Array, gain, signal))
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
  return predicted.map((routings) =>
    routings.map(({ lse, logit }) => lse.reduce((sum, value, i) => sum + value - (logit[i] as number), 0)),
  )
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
  { hidden, labels, lse, logit }: Predicted,
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
    const part = model.scratch('lse', most).subarray(0, n)
    signal?.throwIfAborted()
    await model.layers.logSumExp(
      n,
      count,
      { hidden: hidden.subarray(first * C, (first + n) * C), weights },
      { lse: part },
    )
    part.forEach((value, i) => {
      lse[first + i] = logAddExp(lse[first + i] as number, value)
    })
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

/** log(exp(a) + exp(b)); a may be -Infinity. */
function logAddExp(a: number, b: number): number {
  const peak = Math.max(a, b)
  return peak + Math.log(Math.exp(a - peak) + Math.exp(b - peak))
}
