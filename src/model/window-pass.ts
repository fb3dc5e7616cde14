/**
 * Passes of windows through a mixture, one layer at a time: the weights of a step are read, used for every batch and
 * dropped. Memory holds the residual streams and one expert of one layer, whatever the size of the model. All routings
 * of a batch go through together, so weights are read once for all of them. Does not know text or scores.
 */
import { biasName, layerName, routerName } from '../lib/tensor-names.ts'
import { valuePieces, wholeValues } from './weights.ts'
import { expertGroups, mixGroup } from './window-experts.ts'
import { logLikelihoods, type TokenScores, tokenScores } from './window-head.ts'
import { ATTENTION_WEIGHTS } from './window-layers.ts'
import type { WindowModel } from './window-model.ts'
import { BatchStreams, type Stream, type WindowBatch } from './window-streams.ts'

/** Values of the embedding that are read at a time: 4 MiB of float32. */
const EMBEDDING_VALUES = 2 ** 20

/** Begins a pass with the embeddings of the tokens as streams. @throws as `WeightSource.read`. */
export async function beginPass(
  model: WindowModel,
  batches: readonly WindowBatch[],
  signal?: AbortSignal,
): Promise<WindowPass> {
  const { T, E } = model.init
  const states = batches.map((batch) => new BatchStreams(batch, T, E))
  await embed(model, states, signal)
  return new WindowPass(model, states, signal)
}

/** One pass of some batches. Its steps are called in the order of the layers: `attend`, then `mix`, for each of them. */
export class WindowPass {
  readonly states: readonly BatchStreams[]
  readonly #model: WindowModel
  readonly #signal: AbortSignal | undefined

  constructor(model: WindowModel, states: readonly BatchStreams[], signal: AbortSignal | undefined) {
    this.#model = model
    this.states = states
    this.#signal = signal
  }

  /**
   * Attention of a layer, and the plan of its experts for every routing.
   * @param onBatch called after each batch with its index
   * @throws the signal's reason; as `WeightSource.read`.
   */
  async attend(
    layer: number,
    onBatch: (state: BatchStreams, batch: number) => void | Promise<void> = ignore,
  ): Promise<void> {
    const { memory, layers, init } = this.#model
    const signal = this.#signal
    const names = ATTENTION_WEIGHTS.map((name) => [name, layerName(layer, name)])
    const { bias, ...weights } = await memory.read(
      { ...Object.fromEntries(names), rows: routerName(layer), bias: biasName(layer) },
      signal,
    )
    for (const [batch, state] of this.states.entries()) {
      const buffers = this.#model.buffers(state.N)
      const logits = this.#model.scratch(`logits ${state.N}`, state.N * init.E)
      const next: Stream[] = []
      for (const { u: x, members } of state.streams) {
        signal?.throwIfAborted()
        const u = buffers.take()
        await layers.attend(state.B, { x, ...weights }, { u, logits })
        buffers.give(x)
        const stream = { u, members }
        state.route(stream, logits, bias as Float32Array, init.topK)
        next.push(stream)
      }
      state.streams = next
      await onBatch(state, batch)
    }
  }

  /**
   * Experts of a layer, and its end: every routing then has a stream of its own.
   * @param onBatch called several times for each batch, with the share of its work in this step
   * @throws the signal's reason; as `WeightSource.read`.
   */
  async mix(layer: number, onBatch: (state: BatchStreams, share: number) => void = ignore): Promise<void> {
    const groups = expertGroups(this.#model.weights, layer, this.#model.init.E)
    const gain = await wholeValues(
      this.#model.memory.weight(layerName(layer, 'post_feedforward_layernorm.weight')),
      this.#signal,
    )
    for (const [i, group] of groups.entries()) {
      const isLast = i === groups.length - 1
      await mixGroup(
        this.#model,
        this.states,
        layer,
        group,
        async (state) => {
          // With one group, the sums of a batch are in memory only until its block is complete.
          if (isLast) await this.#complete(state, gain)
          onBatch(state, 1 / groups.length)
        },
        this.#signal,
      )
    }
  }

  /** Ends the block of a batch. */
  async #complete(state: BatchStreams, gain: Float32Array): Promise<void> {
    const buffers = this.#model.buffers(state.N)
    const next: Stream[] = []
    for (const { u, members } of state.streams) {
      for (const member of members) {
        const y = member.y ?? buffers.take().fill(0)
        const x = buffers.take()
        await this.#model.layers.complete(state.N, { u, y, gain }, { x })
        buffers.give(y)
        next.push({ u: x, members: [{ ...member, y: undefined }] })
      }
      buffers.give(u)
    }
    state.streams = next
  }

  /**
   * After the last layer, ends the streams: negative log-likelihood of the labels of all rows that count, in nats, by batch and routing.
   * @param labels (B, T) of each batch
   * @param onPart called after each part of the vocabulary with the share of the step that it was
   * @throws the signal's reason; as `WeightSource.read`.
   */
  async logLikelihoods(
    labels: readonly Int32Array[],
    onPart: (share: number) => void = ignore,
  ): Promise<number[][]> {
    return logLikelihoods(this.#model, this.states, labels, onPart, this.#signal)
  }

  /** As `logLikelihoods`, with the scores of every row that counts. @throws as `logLikelihoods`. */
  async tokenScores(
    labels: readonly Int32Array[],
    onPart: (share: number) => void = ignore,
  ): Promise<TokenScores[][]> {
    return tokenScores(this.#model, this.states, labels, onPart, this.#signal)
  }

  /** Returns the memory of the streams for the next pass. */
  end(): void {
    for (const state of this.states) {
      const buffers = this.#model.buffers(state.N)
      for (const { u, members } of state.streams) {
        buffers.give(u)
        for (const { y } of members) if (y !== undefined) buffers.give(y)
      }
      state.streams = []
    }
  }
}

function ignore(): void {}

/** Gives every batch one stream of token embeddings, which all its routings share. */
async function embed(
  model: WindowModel,
  states: readonly BatchStreams[],
  signal: AbortSignal | undefined,
): Promise<void> {
  const { hiddenSize: C } = model.config
  const wanted: { id: number; u: Float32Array; row: number }[] = []
  for (const state of states) {
    const buffers = model.buffers(state.N)
    const u = buffers.take()
    const members = state.batch.routings.map((_, routing) => ({ routing, y: undefined, plan: undefined }))
    state.streams = [{ u, members }]
    state.batch.ids.forEach((id, row) => {
      wanted.push({ id, u, row })
    })
  }
  wanted.sort((a, b) => a.id - b.id)
  const rows = Math.max(1, Math.floor(EMBEDDING_VALUES / C))
  let first = 0
  let next = 0
  for await (const piece of valuePieces(model.memory.weight('model.embed_tokens.weight'), signal, rows * C)) {
    const end = first + piece.length / C
    for (; next < wanted.length; next++) {
      const { id, u, row } = wanted[next] as (typeof wanted)[number]
      if (id >= end) break
      u.set(piece.subarray((id - first) * C, (id - first + 1) * C), row * C)
    }
    if (next === wanted.length) break
    first = end
  }
}
