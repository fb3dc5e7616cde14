/**
 * What a node computes now, for its operator: passes jobs on to a runner, and tells which ones run and how far they
 * are. Trainings also become events. Knows nothing about how jobs are run.
 */
import type { NodeJobRunner, NodeJobs } from '../jobs/table.ts'
import type { TrainEvent } from '../owner/train-expert.ts'

type StepReport = Extract<TrainEvent, { readonly stage: 'step' }>

/** A computation of the node. */
export interface Activity {
  /** For people, as in `training ward`. */
  readonly what: string
  /** For people, as in `step 40 of 200`; undefined if it is not known. */
  readonly progress?: string | undefined
  /** Unix seconds. */
  readonly since: number
}

export interface TrainingEvent {
  readonly event: 'training'
  readonly name: string
  /** `stopped` after an interruption, which the next run with the same name continues; `failed` with the reason. */
  readonly state: 'started' | 'running' | 'finished' | 'stopped' | 'failed'
  /** Present while it is running and after it was stopped. Without the loss, which depends on private text. */
  readonly step?: TrainingStep | undefined
  readonly reason?: string
}

type TrainingStep = Pick<StepReport, 'step' | 'totalSteps' | 'secondsLeft'>

/** Number of events that tell the progress of one training. */
const EVENTS_PER_TRAINING = 20

export interface ActivitiesInit {
  readonly jobs: NodeJobRunner
  readonly institutionOf: (publisher: string) => string
  readonly onEvent: (event: TrainingEvent) => void
  /** Unix seconds. */
  readonly now: () => number
}

export class Activities implements NodeJobRunner {
  readonly #init: ActivitiesInit
  readonly #running = new Set<{ what: string; progress?: string; since: number }>()

  constructor(init: ActivitiesInit) {
    this.#init = init
  }

  /** In the order in which they began. */
  list(): readonly Activity[] {
    return [...this.#running]
  }

  async *run<N extends keyof NodeJobs & string>(
    name: N,
    request: NodeJobs[N]['request'],
    signal: AbortSignal,
  ): AsyncGenerator<NodeJobs[N]['progress'], NodeJobs[N]['result'], void> {
    const activity: { what: string; progress?: string; since: number } = {
      what: this.#describe(name, request),
      since: this.#init.now(),
    }
    this.#running.add(activity)
    const report = name === 'train' ? this.#reportTraining((request as { name: string }).name) : undefined
    let outcome: 'finished' | 'failed' | 'stopped' = 'stopped'
    let reason: unknown
    const job = this.#init.jobs.run(name, request, signal)
    let hasEnded = false
    try {
      for (;;) {
        const step = await job.next()
        if (step.done === true) {
          hasEnded = true
          outcome = 'finished'
          return step.value
        }
        const progress = progressOf(step.value)
        if (progress !== undefined) activity.progress = progress
        report?.onProgress(step.value)
        yield step.value
      }
    } catch (error) {
      hasEnded = true
      outcome = signal.aborted ? 'stopped' : 'failed'
      reason = error
      throw error
    } finally {
      // The caller has left the iteration: the job must stop and close its files.
      if (!hasEnded) await job.return(undefined as never)
      this.#running.delete(activity)
      report?.onEnd(outcome, reason)
    }
  }

  #describe<N extends keyof NodeJobs>(name: N, request: NodeJobs[N]['request']): string {
    const of = <M extends keyof NodeJobs>(): NodeJobs[M]['request'] => request as NodeJobs[M]['request']
    switch (name) {
      case 'train':
        return `training ${of<'train'>().name}`
      case 'prepareText':
        return `preparing the text of ${of<'prepareText'>().name}`
      case 'previewTraining':
        return `looking at the text of ${of<'previewTraining'>().name}`
      case 'exportPair':
        return `exporting the pair of ${of<'exportPair'>().training.name}`
      case 'pack':
        return `packing ${of<'pack'>().publish.name}`
      case 'audit':
        return `auditing ${of<'audit'>().name}`
      case 'judge': {
        const { publisher, expert } = of<'judge'>().opened.manifest
        return `judging ${expert.name} of ${this.#init.institutionOf(publisher)}`
      }
      case 'attack': {
        const { publisher, expert } = of<'attack'>().manifest
        return `attacking ${expert.name} of ${this.#init.institutionOf(publisher)}`
      }
      case 'tightEpsilon':
        return 'computing epsilon'
      case 'score':
        return 'evaluating the composition'
      default:
        return 'reading the public text'
    }
  }

  #reportTraining(name: string): {
    onProgress: (progress: unknown) => void
    onEnd: (state: 'finished' | 'failed' | 'stopped', reason: unknown) => void
  } {
    const { onEvent } = this.#init
    let step: TrainingStep | undefined
    onEvent({ event: 'training', name, state: 'started' })
    return {
      onProgress: (progress) => {
        if (!isStep(progress)) return
        const { totalSteps, secondsLeft } = progress
        step = { step: progress.step, totalSteps, secondsLeft }
        const every = Math.max(1, Math.ceil(step.totalSteps / EVENTS_PER_TRAINING))
        if (step.step % every === 0) onEvent({ event: 'training', name, state: 'running', step })
      },
      onEnd: (state, reason) =>
        onEvent({
          event: 'training',
          name,
          state,
          ...(state === 'stopped' ? { step } : {}),
          ...(state === 'failed' && reason instanceof Error ? { reason: reason.message } : {}),
        }),
    }
  }
}

function isStep(progress: unknown): progress is StepReport {
  return typeof progress === 'object' && progress !== null && 'totalSteps' in progress
}

/** Undefined for progress that is no count. */
function progressOf(progress: unknown): string | undefined {
  if (isStep(progress)) return `step ${progress.step} of ${progress.totalSteps}`
  const { done, total } = progress as { done?: unknown; total?: unknown }
  if (typeof done !== 'number' || typeof total !== 'number' || total === 0) return undefined
  return `${Math.min(100, Math.floor((100 * done) / total))} %`
}
