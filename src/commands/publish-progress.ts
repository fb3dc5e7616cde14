/** Progress of a publication: its stages, how far each is, and the time that it still takes. */
import type { AuditProgress } from '../owner/audit-training.ts'
import type { PublishProgress } from '../pipeline/before-signing.ts'
import type { ProgressLine } from './command.ts'
import { bar, megabytes } from './terminal.ts'
import { type Timed, TimeLeft, timeLeft } from './time-left.ts'

/** `secondsLeft` is the time until the end of the stage. */
export type PublishEvent = Timed<PublishProgress>

/** Adds the time left to the progress of a publication, each stage by itself. */
export function withStageTimes(report: (event: PublishEvent) => void): (progress: PublishProgress) => void {
  let current = ''
  let left = new TimeLeft()
  return (progress) => {
    const stage = 'check' in progress ? progress.check : progress.stage
    if (stage !== current) {
      current = stage
      left = new TimeLeft()
    }
    const { done, total } = countOf(progress)
    const secondsLeft = total === 0 ? undefined : left.after({ done, total })
    report(secondsLeft === undefined ? progress : { ...progress, secondsLeft })
  }
}

/** `total` 0 for progress without a count. */
function countOf(progress: PublishProgress): { readonly done: number; readonly total: number } {
  const { done = 0, total = 0 } = progress as { done?: number; total?: number }
  return { done, total }
}

export function publishLine(event: PublishEvent): ProgressLine {
  const { done, total } = countOf(event)
  const gauge = total === 0 ? '' : ` ${bar(Math.min(done, total), total)}`
  const left = timeLeft(event.secondsLeft)
  switch (event.stage) {
    case 'cut':
      return { text: `reducing weight matrices${gauge} ${done}/${total}${left}`, stays: false }
    case 'calibrate':
      return { text: 'calibrating and scoring the expert', stays: false }
    case 'audit':
      return { text: auditLine(event), stays: false }
    case 'pack':
      return { text: `packing${gauge} ${megabytes(done, total)}${left}`, stays: false }
    case 'judge':
      return { text: `judging (${event.check})${gauge}${left}`, stays: false }
  }
}

/** Progress of an audit, on its own or as a stage of a publication. */
export function auditLine({ done, total, secondsLeft }: Timed<AuditProgress>): string {
  return `attacking the expert as others could ${bar(done, total)}${timeLeft(secondsLeft)}`
}
