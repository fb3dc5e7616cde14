/** Runs lists of jobs that may take long: in parts, between which the event loop gets a turn. Does not know models. */
import { matrixBytes } from '../kernels/matrix-format.ts'
import type { Job } from '../kernels/vector-jobs.ts'
import type { VectorThreads } from '../kernels/vector-threads.ts'
import type { Turns } from './turns.ts'
import { LIST_BYTES } from './weight-plan.ts'

/** More vectors take time in proportion to their number, although they share the reads of the matrix. */
const VECTORS_PER_READ = 2

/**
 * Computes all jobs, which must not depend on each other. A list that reads more than `LIST_BYTES` of matrices is run in
 * parts.
 */
export async function runJobs(threads: VectorThreads, jobs: readonly Job[], turns: Turns): Promise<void> {
  let list: Job[] = []
  let bytes = 0
  for (const job of jobs) {
    const size = bytesOf(job)
    if (list.length > 0 && bytes + size > LIST_BYTES) {
      threads.run(list)
      if (turns.isDue) await turns.take()
      list = []
      bytes = 0
    }
    list.push(job)
    bytes += size
  }
  if (list.length > 0) threads.run(list)
}

/** Bytes of the matrices that a job reads, times the number of vectors beyond the first two. */
function bytesOf(job: Job): number {
  if (job.kind !== 'product' && job.kind !== 'swiGlu') return 0
  const matrices = job.kind === 'product' ? [job.matrix] : [job.gateWeights, job.upWeights]
  const bytes = matrices.reduce((sum, { format, rows, width }) => sum + matrixBytes(format, rows, width), 0)
  return bytes * Math.ceil(job.vectors / VECTORS_PER_READ)
}
