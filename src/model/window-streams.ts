/**
 * The state of a batch of windows between two layers: residual streams, and how the rows of each are routed. Routings
 * share a stream until their experts make it differ. Does not know engines or weights.
 */
import { planRouting, type RoutingPlan, type SequenceRouting } from './routing-plan.ts'
import { gateToken } from './solved-router.ts'

/** B windows of T tokens each, and all routings under which they are computed. */
export interface WindowBatch {
  /** (B, T); shorter windows are padded at their end. */
  readonly ids: Int32Array
  /** (B): number of tokens of each window that count, 1 to T. */
  readonly lengths: readonly number[]
  readonly routings: readonly SequenceRouting[]
}

/** One routing of a batch. */
export interface Member {
  /** Index of the routing. */
  readonly routing: number
  /** (N, C): sum of the experts' outputs in this layer; undefined until the first expert adds to it. */
  y: Float32Array | undefined
  /** Plan of this layer for the rows that count, by row of the batch. */
  plan: RoutingPlan | undefined
}

/** A residual stream, and the routings that share it. */
export interface Stream {
  /** (N, C): residual stream before a layer, and from its attention on, what its router and experts read. */
  readonly u: Float32Array
  readonly members: readonly Member[]
}

/** Buffers of one length, reused. */
export class Buffers {
  readonly #free: Float32Array[] = []
  readonly length: number

  constructor(length: number) {
    this.length = length
  }

  /** A buffer with arbitrary values. */
  take(): Float32Array {
    return this.#free.pop() ?? new Float32Array(this.length)
  }

  give(buffer: Float32Array): void {
    this.#free.push(buffer)
  }
}

export class BatchStreams {
  readonly batch: WindowBatch
  readonly B: number
  /** Number of rows, B T. */
  readonly N: number
  /** Rows that count, in ascending order. */
  readonly rows: readonly number[]
  streams: readonly Stream[] = []
  /** (rows that count, E) by routing: logits of its gate; undefined without a gate. */
  readonly #gateLogits: readonly (Float32Array | undefined)[]
  readonly #E: number

  constructor(batch: WindowBatch, T: number, E: number) {
    this.batch = batch
    this.B = batch.lengths.length
    this.N = this.B * T
    this.#E = E
    this.rows = batch.lengths.flatMap((length, b) => Array.from({ length }, (_, t) => b * T + t))
    this.#gateLogits = batch.routings.map(({ gate }) => gate && this.#logitsOf(gate, T))
  }

  #logitsOf(gate: NonNullable<SequenceRouting['gate']>, T: number): Float32Array {
    const E = this.#E
    const logits = new Float32Array(this.rows.length * E)
    const sums = new Float32Array(T * E)
    this.rows.forEach((row, i) => {
      gateToken(gate, this.batch.ids[row] as number, row % T, sums, logits, i * E)
    })
    return logits
  }

  /**
   * Decides which expert computes which row for every routing of a stream.
   * @param logits (N, E): logits of the router rows
   * @param bias (E): used as min(b, 0)
   */
  route({ members }: Stream, logits: Float32Array, bias: Float32Array, topK: number): void {
    const E = this.#E
    const { rows, batch } = this
    for (const member of members) {
      const { mask, gate } = batch.routings[member.routing] as SequenceRouting
      const gateLogits = this.#gateLogits[member.routing]
      const final = new Float32Array(rows.length * E)
      for (let i = 0; i < rows.length; i++) {
        const from = (rows[i] as number) * E
        for (let e = 0; e < E; e++) {
          const row = (logits[from + e] as number) + Math.min(bias[e] as number, 0)
          const routed =
            gate === undefined || gateLogits === undefined
              ? row
              : gate.rowScale * row + (gateLogits[i * E + e] as number)
          final[i * E + e] = routed + (mask[e] as number)
        }
      }
      const plan = planRouting(final, rows.length, E, topK)
      const isEveryRow = rows.length === this.N
      member.plan = isEveryRow
        ? plan
        : {
            ...plan,
            experts: plan.experts.map((chosen) => ({
              ...chosen,
              rows: chosen.rows.map((i) => rows[i] as number),
            })),
          }
    }
  }
}
