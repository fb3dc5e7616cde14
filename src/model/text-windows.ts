/**
 * Cuts documents into windows of one length, windows into batches, and batches into groups whose streams fit memory.
 * Does not know scores.
 */
import type { ModelConfig } from './config.ts'
import type { SequenceRouting } from './routing-plan.ts'
import type { WindowBatch } from './window-streams.ts'

export interface HeldOutDocument {
  readonly tokens: Int32Array
  /** Bytes of the text in UTF-8. */
  readonly bytes: number
}

/** Maximum number of windows that are computed at a time. */
const MAX_WINDOWS = 8
/** Maximum number of operations of one run of an expert: half a second on two cores, after which a signal is seen. */
const RUN_OPERATIONS = 7e10

/** A batch of windows of one text. */
export interface TextBatch extends WindowBatch {
  readonly text: number
  /** (B, T): token after each token. */
  readonly labels: Int32Array
}

/** Cuts documents into windows, and these into batches. */
export function batchesOf(
  documents: readonly HeldOutDocument[],
  text: number,
  routings: readonly SequenceRouting[],
  config: ModelConfig,
  T: number,
  endOfText: number,
): TextBatch[] {
  const { hiddenSize: C, intermediateSize: F } = config
  const B = Math.min(MAX_WINDOWS, Math.max(1, Math.floor(RUN_OPERATIONS / (6 * C * F * T))))
  const windows = documents.flatMap(({ tokens }) =>
    Array.from({ length: Math.ceil(tokens.length / T) }, (_, i) => ({
      before: i === 0 ? endOfText : (tokens[i * T - 1] as number),
      tokens: tokens.subarray(i * T, (i + 1) * T),
    })),
  )
  return Array.from({ length: Math.ceil(windows.length / B) }, (_, i) => {
    const some = windows.slice(i * B, (i + 1) * B)
    const ids = new Int32Array(some.length * T)
    const labels = new Int32Array(some.length * T)
    some.forEach(({ before, tokens }, b) => {
      ids[b * T] = before
      ids.set(tokens.subarray(0, -1), b * T + 1)
      labels.set(tokens, b * T)
    })
    return { text, ids, labels, lengths: some.map(({ tokens }) => tokens.length), routings }
  })
}

/** Batches in groups whose streams fit `bytes`; a group has at least one batch. */
export function groupsOf(
  batches: readonly TextBatch[],
  { hiddenSize: C }: ModelConfig,
  T: number,
  bytes: number,
): TextBatch[][] {
  const groups: TextBatch[][] = []
  let room = 0
  for (const batch of batches) {
    // For each routing, the residual stream and the sum of the experts' outputs, in float32.
    const needed = 2 * 4 * C * T * batch.lengths.length * batch.routings.length
    if (groups.length === 0 || needed > room) {
      groups.push([])
      room = bytes
    }
    groups.at(-1)?.push(batch)
    room -= needed
  }
  return groups
}
