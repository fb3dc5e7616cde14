/** The time that work needs until its end, from the time that it has taken so far. */
import { duration } from './terminal.ts'

/** Seconds before the first estimate: the first pieces of work are often the fastest or the slowest. */
const FIRST_ESTIMATE = 2

/** Progress of work in any unit. */
interface Counted {
  readonly done: number
  readonly total: number
}

/** Progress with an estimate, if there is one yet. */
export type Timed<P> = P & { readonly secondsLeft?: number }

/** Estimates the time left of one piece of work. */
export class TimeLeft {
  readonly #clock: () => number
  #first: { readonly done: number; readonly at: number } | undefined

  /** @param clock milliseconds */
  constructor(clock: () => number = () => performance.now()) {
    this.#clock = clock
  }

  /** Seconds until all is done; undefined while it is too early to tell. */
  after({ done, total }: Counted): number | undefined {
    const at = this.#clock()
    this.#first ??= { done, at }
    const seconds = (at - this.#first.at) / 1000
    const since = done - this.#first.done
    return seconds < FIRST_ESTIMATE || since <= 0 ? undefined : ((total - done) * seconds) / since
  }
}

/** Adds estimates to progress that counts; each stage of the work is estimated by itself. */
export async function* withTimeLeft<P extends { readonly stage: string }, T>(
  work: AsyncGenerator<P, T, void>,
): AsyncGenerator<Timed<P>, T, void> {
  let left = new TimeLeft()
  let stage: string | undefined
  try {
    for (;;) {
      const { done, value } = await work.next()
      if (done === true) return value
      if (value.stage !== stage) left = new TimeLeft()
      stage = value.stage
      const secondsLeft = isCounted(value) ? left.after(value) : undefined
      yield secondsLeft === undefined ? value : { ...value, secondsLeft }
    }
  } finally {
    await work.return(undefined as never)
  }
}

function isCounted(progress: object): progress is Counted {
  return 'done' in progress && 'total' in progress
}

/** For the end of a progress line; empty without an estimate. */
export function timeLeft(seconds: number | undefined): string {
  return seconds === undefined ? '' : `  ${duration(seconds)} left`
}
