/**
 * Commands that take long and go on when the page that started them is closed. A page sees their progress, and may stop
 * them. Knows nothing about what the commands do.
 */
import { FlexMeshError, InputError, PolicyError } from '../lib/errors.ts'
import { limit } from '../lib/limits.ts'

/** Carries out a command: yields progress, returns an object for the page. */
export type CommandHandler = (request: unknown, signal: AbortSignal) => AsyncGenerator<unknown, unknown, void>

export interface JobReport {
  readonly id: string
  readonly command: string
  /** The request as the page sent it, so that it can be sent again. */
  readonly request: unknown
  readonly state: 'running' | 'done' | 'stopped' | 'failed'
  /** Unix milliseconds. */
  readonly startedAt: number
  readonly endedAt?: number
  /** The latest progress. */
  readonly progress?: unknown
  /** The latest progress of each stage, by its member `stage`. */
  readonly stages: Readonly<Record<string, unknown>>
  /** Progress of equal steps, such as those of a training; thinned out evenly if there are many. */
  readonly points: readonly unknown[]
  /** The object that the command has returned. */
  readonly outcome?: unknown
  /** For people. */
  readonly error?: string
}

interface Job {
  report: JobReport
  readonly points: unknown[]
  /** One of so many steps is kept in `points`. */
  every: number
  steps: number
  readonly abort: AbortController
}

export class Jobs {
  readonly #jobs = new Map<string, Job>()
  readonly #onChange: (report: JobReport) => void
  readonly #onUnexpected: (command: string, error: unknown) => void

  /**
   * @param onChange called when a job starts, and when it ends
   * @param onUnexpected receives errors that are not about the request
   */
  constructor(
    onChange: (report: JobReport) => void,
    onUnexpected: (command: string, error: unknown) => void,
  ) {
    this.#onChange = onChange
    this.#onUnexpected = onUnexpected
  }

  /** In the order in which they started. */
  list(): JobReport[] {
    return [...this.#jobs.values()].map(({ report, points }) => ({ ...report, points }))
  }

  /** @throws PolicyError `quota` if too many run. */
  start(command: string, request: unknown, handler: CommandHandler): JobReport {
    this.#forgetEnded()
    const job: Job = {
      report: {
        id: crypto.randomUUID(),
        command,
        request,
        state: 'running',
        startedAt: Date.now(),
        stages: {},
        points: [],
      },
      points: [],
      every: 1,
      steps: 0,
      abort: new AbortController(),
    }
    this.#jobs.set(job.report.id, job)
    this.#onChange(job.report)
    void this.#run(job, handler)
    return job.report
  }

  /** Interrupt a job, as Ctrl-C interrupts its command. @throws InputError `not-found`. */
  stop(id: string): void {
    const job = this.#jobs.get(id)
    if (job === undefined) throw new InputError('not-found', 'this job is not known any more')
    job.abort.abort(new InputError('interrupted', 'stopped from the dashboard'))
  }

  /** Interrupt all jobs, because the node stops. */
  stopAll(): void {
    for (const { report } of this.#jobs.values()) if (report.state === 'running') this.stop(report.id)
  }

  async #run(job: Job, handler: CommandHandler): Promise<void> {
    const { command, request } = job.report
    try {
      const work = handler(request, job.abort.signal)
      for (;;) {
        const step = await work.next()
        if (step.done === true) {
          this.#end(job, { state: 'done', outcome: step.value })
          return
        }
        job.report = { ...job.report, progress: step.value, stages: withStage(job.report.stages, step.value) }
        keepPoint(job, step.value)
      }
    } catch (error) {
      if (job.abort.signal.aborted) this.#end(job, { state: 'stopped' })
      else {
        if (!(error instanceof FlexMeshError)) this.#onUnexpected(command, error)
        const message =
          error instanceof FlexMeshError ? error.message : 'an unexpected error occurred in the node'
        this.#end(job, { state: 'failed', error: message })
      }
    }
  }

  #end(job: Job, end: Pick<JobReport, 'state' | 'outcome' | 'error'>): void {
    job.report = { ...job.report, ...end, endedAt: Date.now() }
    this.#onChange(job.report)
  }

  #forgetEnded(): void {
    const running = [...this.#jobs.values()].filter(({ report }) => report.state === 'running')
    const most = limit('dashboardJobs')
    if (running.length >= most)
      throw new PolicyError('quota', `${most} commands run already; wait until one of them has ended`)
    for (const [id, { report }] of this.#jobs) {
      if (this.#jobs.size < most) return
      if (report.state !== 'running') this.#jobs.delete(id)
    }
  }
}

/** Stages are those of the command's progress, of which there are a few. */
function withStage(stages: JobReport['stages'], progress: unknown): JobReport['stages'] {
  if (typeof progress !== 'object' || progress === null || !('stage' in progress)) return stages
  return typeof progress.stage === 'string' ? { ...stages, [progress.stage]: progress } : stages
}

/** Keeps a step in bounded memory: if there are too many points, every second one is dropped from then on. */
function keepPoint(job: Job, progress: unknown): void {
  if (typeof progress !== 'object' || progress === null || !('step' in progress)) return
  if (job.steps++ % job.every !== 0) return
  job.points.push(progress)
  if (job.points.length < limit('dashboardPoints')) return
  job.every *= 2
  const kept = job.points.filter((_, i) => i % 2 === 0)
  job.points.splice(0, job.points.length, ...kept)
}
