/**
 * Gives a compiled step only the rows of the embedding that its tokens need, so that the table of a large vocabulary
 * does not have to be in memory. Knows nothing about the step.
 */
import { readValues, type Weight, wholeValues } from '../model/weights.ts'
import type { Compiled, Values } from '../tensor/engine.ts'

/** Name of the embedding, whose rows replace it as an input of the step. */
export const EMBEDDING = 'model.embed_tokens.weight'

/** A smaller table is read into memory once: reading rows from a file takes 0.1 ms each. */
const HELD_BYTES = 2 ** 28

/** Bytes of the table that are held in memory. */
export function heldEmbeddingBytes(vocabSize: number, hiddenSize: number): number {
  const bytes = Float32Array.BYTES_PER_ELEMENT * vocabSize * hiddenSize
  return bytes > HELD_BYTES ? 0 : bytes
}

/** The embedding in memory if its table is small; otherwise as it is. @throws as `WeightSource.read`. */
export async function held(embedding: Weight, signal?: AbortSignal): Promise<Weight> {
  const [V, C] = embedding.shape as [number, number]
  if ('data' in embedding || heldEmbeddingBytes(V, C) === 0) return embedding
  return { shape: embedding.shape, data: await wholeValues(embedding, signal) }
}

/**
 * A step for inputs with `ids`, from a step whose embedding is an input of [tokens, C].
 * @param embedding [V, C]
 * @param tokens number of tokens of a run
 * @throws as `WeightSource.read`.
 */
export async function withEmbeddingRows(
  step: Compiled,
  embedding: Weight,
  tokens: number,
  signal?: AbortSignal,
): Promise<Compiled> {
  const C = embedding.shape[1] as number
  const source = await held(embedding, signal)
  const rows = new Float32Array(tokens * C)
  const indexes = new Int32Array(tokens)
  const gather = async (ids: Values): Promise<void> => {
    const known = new Map<number, number>()
    for (const [i, id] of ids.entries()) {
      const index = known.get(id) ?? known.size
      indexes[i] = index
      if (known.has(id)) continue
      known.set(id, index)
      await readValues(source, rows.subarray(index * C, (index + 1) * C), id * C, signal)
    }
  }
  return {
    run: async (inputs, into, sizes) => {
      await gather(inputs['ids'] as Values)
      return step.run({ ...inputs, ids: indexes, [EMBEDDING]: rows }, into, sizes)
    },
    dispose: () => step.dispose(),
  }
}
