/** Progress of commands that write large files: bytes done, bytes in all, and the time left. */
import { reporting } from '../lib/reporting.ts'
import type { ProgressLine } from './command.ts'
import { bar, megabytes } from './terminal.ts'
import { type Timed, timeLeft, withTimeLeft } from './time-left.ts'

interface BytesDone {
  readonly stage: 'bytes'
  readonly done: number
  readonly total: number
}
export type BytesProgress = Timed<BytesDone>

/** Run an action that reports bytes, and yield its reports as progress. */
export function countingBytes<T>(
  action: (onProgress: (done: number, total: number) => void) => Promise<T>,
): AsyncGenerator<BytesProgress, T, void> {
  return withTimeLeft(
    reporting<BytesDone, T>((report) => action((done, total) => report({ stage: 'bytes', done, total }))),
  )
}

export function bytesLine({ done, total, secondsLeft }: BytesProgress): ProgressLine {
  return {
    text: `writing ${bar(done, total)} ${megabytes(done, total)}${timeLeft(secondsLeft)}`,
    stays: false,
  }
}
