/**
 * Runs the chosen experts of a layer with the vector kernels. Vectors are copied between the block of the decoding
 * state and the blocks of the experts, because kernels address one block. Experts that are the public FFN plus a
 * low-rank difference, W + B A, share the products with W: each vector is multiplied by the public weights once,
 * however many of these experts it chose. Does not know attention, caches or tokens.
 */
import type { EncodedJob } from '../kernels/vector-jobs.ts'
import type { ProductInputs, ProductResults } from '../kernels/vector-layout.ts'
import type { VectorThreads } from '../kernels/vector-threads.ts'
import { PUBLIC_EXPERT } from '../lib/tensor-names.ts'
import type { ExpertRows } from '../model/routing-plan.ts'
import type { DecodingState } from './decoding-state.ts'
import { ExpertJobs } from './expert-jobs.ts'
import type { HeldFactors, HeldFfn, HeldWeights } from './held-weights.ts'
import { runJobs } from './run-jobs.ts'
import type { Turns } from './turns.ts'

/** A low-rank expert chosen for some vectors, with the weights of its layer. */
interface Guest extends ExpertRows {
  readonly held: HeldFactors
}

export class VectorExperts {
  readonly #threads: VectorThreads
  readonly #held: HeldWeights
  readonly #state: DecodingState
  readonly #jobs: ExpertJobs

  constructor(threads: VectorThreads, held: HeldWeights, state: DecodingState) {
    this.#threads = threads
    this.#held = held
    this.#state = state
    this.#jobs = new ExpertJobs(threads)
  }

  /** Sets the first B vectors y of the state to the weighted sums of the chosen experts' outputs for the vectors u. */
  async run(layer: number, B: number, chosen: readonly ExpertRows[], turns: Turns): Promise<void> {
    const guests = chosen.flatMap((one): Guest[] => {
      const held = this.#held.factors(layer, one.expert)
      return held === undefined ? [] : [{ ...one, held }]
    })
    const isShared = guests.length > 0
    const whole = chosen.filter(
      ({ expert }) =>
        this.#held.factors(layer, expert) === undefined && !(isShared && expert === PUBLIC_EXPERT),
    )
    this.#state.y.first(B).fill(0)
    if (whole.length > 0) await this.#addWhole(layer, whole, turns)
    if (isShared) {
      const publicRows = chosen.find(({ expert }) => expert === PUBLIC_EXPERT)
      await this.#addLowRank(layer, guests, publicRows, turns)
    }
  }

  async #addWhole(layer: number, chosen: readonly ExpertRows[], turns: Turns): Promise<void> {
    const ffns = chosen.map(({ expert }) => this.#held.ffn(layer, expert))
    chosen.forEach(({ rows }, i) => {
      this.#writeState((ffns[i] as HeldFfn).x, rows)
    })
    await this.#run(
      chosen.map(({ rows }, i) => this.#jobs.gated(ffns[i] as HeldFfn, rows.length)),
      turns,
    )
    chosen.forEach(({ rows }, i) => {
      const { gate, inner } = ffns[i] as HeldFfn
      passOn(gate, inner, rows.length)
    })
    await this.#run(
      chosen.map(({ rows }, i) => this.#jobs.down(ffns[i] as HeldFfn, rows.length)),
      turns,
    )
    chosen.forEach((one, i) => {
      this.#addToState((ffns[i] as HeldFfn).y, one)
    })
  }

  /** Adds the outputs of low-rank experts and of the public expert. */
  async #addLowRank(
    layer: number,
    guests: readonly Guest[],
    publicRows: ExpertRows | undefined,
    turns: Turns,
  ): Promise<void> {
    const shared = this.#held.ffn(layer, PUBLIC_EXPERT)
    const used = [...new Set([...guests, publicRows].flatMap((one) => one?.rows ?? []))].sort((a, b) => a - b)
    const indexOf = new Map(used.map((row, index) => [row, index]))
    const n = used.length
    this.#writeState(shared.x, used)
    for (const { held, rows } of guests) this.#writeState(held.x, rows)
    const jobs = this.#jobs
    await this.#run(
      [
        jobs.projected(shared, 'gate_proj', n),
        jobs.projected(shared, 'up_proj', n),
        ...guests.flatMap(({ held, rows }) => [
          jobs.reduced(held, 'gate_proj', rows.length),
          jobs.reduced(held, 'up_proj', rows.length),
        ]),
      ],
      turns,
    )
    for (const { held, rows } of guests) {
      for (const name of ['gate_proj', 'up_proj'] as const) {
        passOn(held.low[name].result, held.low[name].input, rows.length)
        const [from, to] = name === 'gate_proj' ? [shared.gate, held.gate] : [shared.up, held.up]
        rows.forEach((row, i) => {
          to.vector(i).set(from.vector(indexOf.get(row) as number))
        })
      }
    }
    await this.#run(
      guests.flatMap(({ held, rows }) => [
        jobs.restored(held, 'gate_proj', rows.length),
        jobs.restored(held, 'up_proj', rows.length),
      ]),
      turns,
    )
    // The down projection is linear, so its public weight is applied once, to the weighted sum of the inner vectors.
    const sums = used.map(() => new Float32Array(shared.gate.vector(0).length))
    const addInner = (gate: ProductResults, one: ExpertRows, at: (i: number) => number): void => {
      one.rows.forEach((row, i) => {
        addScaled(
          gate.vector(at(i)),
          one.weights[i] as number,
          sums[indexOf.get(row) as number] as Float32Array,
        )
      })
    }
    for (const guest of guests) {
      const { held, rows } = guest
      activate(held.block, held.gate, held.up, rows.length)
      addInner(held.gate, guest, (i) => i)
      passOn(held.gate, held.inner, rows.length)
    }
    if (publicRows !== undefined) {
      activate(shared.block, shared.gate, shared.up, n)
      addInner(shared.gate, publicRows, (i) => indexOf.get(publicRows.rows[i] as number) as number)
    }
    sums.forEach((sum, i) => {
      shared.inner.write(n, i, sum)
    })
    await this.#run(
      [jobs.down(shared, n), ...guests.map(({ held, rows }) => jobs.reduced(held, 'down_proj', rows.length))],
      turns,
    )
    for (const { held, rows } of guests)
      passOn(held.low.down_proj.result, held.low.down_proj.input, rows.length)
    await this.#run(
      guests.map(({ held, rows }) => jobs.restored(held, 'down_proj', rows.length)),
      turns,
    )
    this.#addToState(shared.y, { rows: used, weights: used.map(() => 1) })
    for (const guest of guests) this.#addToState(guest.held.y, guest)
  }

  #run(jobs: readonly EncodedJob[], turns: Turns): Promise<void> | undefined {
    return runJobs(this.#threads, jobs, turns)
  }

  /** Writes vectors u of the state as inputs of a product. */
  #writeState(x: ProductInputs, rows: readonly number[]): void {
    rows.forEach((row, i) => {
      x.write(rows.length, i, this.#state.u.vector(row))
    })
  }

  /** Adds the weighted results of a product to the vectors y of the state. */
  #addToState(from: ProductResults, { rows, weights }: Pick<ExpertRows, 'rows' | 'weights'>): void {
    const { block, out, y } = this.#state
    rows.forEach((row, i) => {
      const result = from.vector(i)
      out.vector(0).set(result)
      block.kernels.addScaled(out.at(0), weights[i] as number, y.at(row), result.length)
    })
  }
}

/** gate = silu(gate) * up. */
function activate(block: HeldFfn['block'], gate: ProductResults, up: ProductResults, vectors: number): void {
  for (let v = 0; v < vectors; v++) block.kernels.swiGlu(gate.at(v), up.at(v), gate.vector(v).length)
}

/** Writes the first `n` results of a product as inputs of another one in the same block. */
function passOn(from: ProductResults, to: ProductInputs, n: number): void {
  for (let i = 0; i < n; i++) to.writeFrom(n, i, from.at(i))
}

function addScaled(from: Float32Array, weight: number, to: Float32Array): void {
  for (let i = 0; i < to.length; i++) to[i] = (to[i] as number) + weight * (from[i] as number)
}
