/** Runs lists of jobs that may take long: in parts, between which the event loop gets a turn. Does not know models. */
import { type EncodedJob, WORD } from '../kernels/vector-jobs.ts'
import type { VectorThreads } from '../kernels/vector-threads.ts'
import type { Turns } from './turns.ts'
import { LIST_BYTES } from './weight-plan.ts'

/** More vectors take time in proportion to their number, although they share the reads of the matrix. */
const VECTORS_PER_READ = 2

/**
 * Computes all jobs, which must not depend on each other. A list that reads more than `LIST_BYTES` of matrices is run in
 * parts.
 * @returns undefined if the list was run as a whole, since a promise for each of many short lists would take
 * noticeable time
 */
export function runJobs(
  threads: VectorThreads,
  jobs: readonly EncodedJob[],
  turns: Turns,
): Promise<void> | undefined {
  let bytes = 0
  for (const job of jobs) bytes += bytesOf(job)
  if (bytes > LIST_BYTES) return runInParts(threads, jobs, turns)
  if (jobs.length > 0) threads.runEncoded(jobs)
  return undefined
}

async function runInParts(threads: VectorThreads, jobs: readonly EncodedJob[], turns: Turns): Promise<void> {
  let list: EncodedJob[] = []
  let bytes = 0
  for (const job of jobs) {
    const size = bytesOf(job)
    if (list.length > 0 && bytes + size > LIST_BYTES) {
      threads.runEncoded(list)
      if (turns.isDue) await turns.take()
      list = []
      bytes = 0
    }
    list.push(job)
    bytes += size
  }
  if (list.length > 0) threads.runEncoded(list)
}

/** Bytes of the matrices that a job reads, times the number of vectors beyond the first two. */
function bytesOf({ matrixBytes, words }: EncodedJob): number {
  return matrixBytes === 0 ? 0 : matrixBytes * Math.ceil((words[WORD.vectors] as number) / VECTORS_PER_READ)
}
