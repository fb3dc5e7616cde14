/**
 * The products of one layer of an expert as jobs that are encoded at their first use and run for every token after it.
 * Does not know which experts are chosen.
 */
import { type EncodedJob, type Job, withVectors } from '../kernels/vector-jobs.ts'
import type { ProductInputs, ProductResults } from '../kernels/vector-layout.ts'
import type { VectorThreads } from '../kernels/vector-threads.ts'
import type { FfnProjection } from '../lib/tensor-names.ts'
import type { HeldFactors, HeldFfn } from './held-weights.ts'

export class ExpertJobs {
  readonly #threads: VectorThreads
  /** By the vectors and matrices of one layer, then by the name of a job. */
  readonly #encoded = new Map<HeldFfn | HeldFactors, Map<string, EncodedJob>>()

  constructor(threads: VectorThreads) {
    this.#threads = threads
  }

  /** gate = silu(G x) * (U x). */
  gated(held: HeldFfn, vectors: number): EncodedJob {
    return this.#job(held, 'gated', vectors, gatedJob)
  }

  /** gate = G x, or up = U x. */
  projected(held: HeldFfn, name: 'gate_proj' | 'up_proj', vectors: number): EncodedJob {
    return this.#job(held, name, vectors, name === 'gate_proj' ? gateJob : upJob)
  }

  /** y = D inner. */
  down(held: HeldFfn, vectors: number): EncodedJob {
    return this.#job(held, 'down_proj', vectors, downJob)
  }

  /** A x for a projection of a low-rank expert. */
  reduced(held: HeldFactors, name: FfnProjection, vectors: number): EncodedJob {
    return this.#job(held, REDUCED[name], vectors, () => reducedJob(held, name))
  }

  /** B (A x) for a projection of a low-rank expert, which is added to the public gate or up vector, or overwrites y. */
  restored(held: HeldFactors, name: FfnProjection, vectors: number): EncodedJob {
    return this.#job(held, RESTORED[name], vectors, () => restoredJob(held, name))
  }

  #job<H extends HeldFfn | HeldFactors>(
    held: H,
    name: string,
    vectors: number,
    create: (held: H) => Job,
  ): EncodedJob {
    let jobs = this.#encoded.get(held)
    if (jobs === undefined) {
      jobs = new Map()
      this.#encoded.set(held, jobs)
    }
    let job = jobs.get(name)
    if (job === undefined) {
      job = this.#threads.encode(create(held))
      jobs.set(name, job)
    }
    return withVectors(job, vectors)
  }
}

const REDUCED = { gate_proj: 'A gate', up_proj: 'A up', down_proj: 'A down' } as const
const RESTORED = { gate_proj: 'B gate', up_proj: 'B up', down_proj: 'B down' } as const

function gatedJob({ block, matrices, x, gate, up }: HeldFfn): Job {
  const { gate_proj: gateWeights, up_proj: upWeights } = matrices
  return {
    ...{ kind: 'swiGlu', block, gateWeights, upWeights, vectors: 1 },
    ...{ x: x.address, y: gate.address, scratch: up.address },
  }
}

function gateJob({ block, matrices, x, gate }: HeldFfn): Job {
  return product(block, matrices.gate_proj, x, gate)
}

function upJob({ block, matrices, x, up }: HeldFfn): Job {
  return product(block, matrices.up_proj, x, up)
}

function downJob({ block, matrices, inner, y }: HeldFfn): Job {
  return product(block, matrices.down_proj, inner, y)
}

function reducedJob({ block, A, low, x, inner }: HeldFactors, name: FfnProjection): Job {
  return product(block, A[name], name === 'down_proj' ? inner : x, low[name].result)
}

function restoredJob({ block, B, low, gate, up, y }: HeldFactors, name: FfnProjection): Job {
  const to = { gate_proj: gate, up_proj: up, down_proj: y }[name]
  return { ...product(block, B[name], low[name].input, to), accumulate: name !== 'down_proj' }
}

function product(
  block: HeldFfn['block'],
  matrix: HeldFfn['matrices'][FfnProjection],
  x: ProductInputs,
  y: ProductResults,
): Extract<Job, { kind: 'product' }> {
  return { kind: 'product', block, matrix, x: x.address, y: y.address, vectors: 1 }
}
