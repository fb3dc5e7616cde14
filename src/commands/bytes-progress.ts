/** Progress of commands that write large files: bytes done and bytes in all. */
import { reporting } from '../lib/reporting.ts'
import type { ProgressLine } from './command.ts'
import { bar, megabytes } from './terminal.ts'

export interface BytesProgress {
  readonly stage: 'bytes'
  readonly done: number
  readonly total: number
}

/** Run an action that reports bytes, and yield its reports as progress. */
export function countingBytes<T>(
  action: (onProgress: (done: number, total: number) => void) => Promise<T>,
): AsyncGenerator<BytesProgress, T, void> {
  return reporting((report) => action((done, total) => report({ stage: 'bytes', done, total })))
}

export function bytesLine({ done, total }: BytesProgress): ProgressLine {
  return { text: `writing ${bar(done, total)} ${megabytes(done, total)}`, stays: false }
}
