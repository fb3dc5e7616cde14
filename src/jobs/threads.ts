/**
 * Runs the jobs of a node in worker threads, so that the main thread can always answer. A thread carries out one job at
 * a time and is reused for a while. A thread that dies fails only its job, with a code. Knows nothing about any job.
 */
import '../lib/node20.ts'
import type { Worker } from 'node:worker_threads'
import { hasErrno, InputError } from '../lib/errors.ts'
import { startThread, threadEntry } from '../lib/start-thread.ts'
import { type Report, readReport, receivedError, type ThreadSettings } from './messages.ts'
import type { NodeJobRunner, NodeJobs } from './table.ts'

/**
 * Maximum number of jobs that run at the same time; others wait. Enough for a training, a judgement and an evaluation.
 */
const MAX_THREADS = 3
/**
 * Time for which a thread without a job is kept, ms: enough for the next of several packages, and short, since the
 * thread keeps its memory.
 */
const IDLE_MS = 1_000
/** Time that an aborted job has to stop by itself, for example to write its checkpoint, ms. */
const GRACE_MS = 60_000
/** Heap for new objects, a third of the default: it saves 15 MB in a training, at no measurable time. */
const YOUNG_GENERATION_MB = 4
/** Jobs after which the thread ends at once, since they leave up to hundreds of megabytes behind. */
const LARGE_JOBS: readonly (keyof NodeJobs)[] = [
  'prepareReplay',
  'publicStatistics',
  'prepareText',
  'previewTraining',
  'train',
  'exportPair',
  'pack',
  'audit',
]

export interface JobThreadsInit extends ThreadSettings {
  /** Entry of the threads; default: the jobs of a node. Tests replace it. */
  readonly entry?: URL
  /** Default: `GRACE_MS`. */
  readonly graceMs?: number
}

export class JobThreads implements NodeJobRunner {
  readonly #init: JobThreadsInit
  readonly #idle: JobThread[] = []
  readonly #threads = new Set<JobThread>()
  /** Jobs that wait for a thread. */
  readonly #waiting: (() => void)[] = []
  #running = 0

  constructor(init: JobThreadsInit) {
    this.#init = init
  }

  /**
   * @throws what the job throws; the reason of `signal`; InputError `out-of-memory` or `worker-ended` if the thread
   * dies.
   */
  async *run<N extends keyof NodeJobs & string>(
    name: N,
    request: NodeJobs[N]['request'],
    signal: AbortSignal,
  ): AsyncGenerator<NodeJobs[N]['progress'], NodeJobs[N]['result'], void> {
    await this.#place(signal)
    const thread = this.#idle.pop() ?? this.#start()
    let isHealthy = false
    try {
      const job = thread.carryOut(name, request, signal)
      const result = yield* job as AsyncGenerator<NodeJobs[N]['progress'], NodeJobs[N]['result'], void>
      isHealthy = true
      return result
    } catch (error) {
      isHealthy = !thread.isDead
      throw error
    } finally {
      if (isHealthy && !LARGE_JOBS.includes(name)) this.#keep(thread)
      else await this.#end(thread)
      const next = this.#waiting.shift()
      if (next === undefined) this.#running--
      else next() // Takes over the place of this job.
    }
  }

  /** End all threads. Jobs that still run fail; abort them first. */
  async close(): Promise<void> {
    await Promise.all([...this.#threads].map((thread) => this.#end(thread)))
  }

  /** Wait until fewer than the maximum of jobs run. */
  async #place(signal: AbortSignal): Promise<void> {
    signal.throwIfAborted()
    if (this.#running < MAX_THREADS) {
      this.#running++
      return
    }
    await new Promise<void>((resolve, reject) => {
      const enter = (): void => {
        signal.removeEventListener('abort', leave)
        resolve()
      }
      const leave = (): void => {
        this.#waiting.splice(this.#waiting.indexOf(enter), 1)
        reject(signal.reason)
      }
      this.#waiting.push(enter)
      signal.addEventListener('abort', leave, { once: true })
    })
  }

  #start(): JobThread {
    const thread = new JobThread(this.#init)
    this.#threads.add(thread)
    return thread
  }

  #keep(thread: JobThread): void {
    this.#idle.push(thread)
    thread.endAfter(IDLE_MS, () => {
      const index = this.#idle.indexOf(thread)
      if (index < 0) return
      this.#idle.splice(index, 1)
      void this.#end(thread)
    })
  }

  async #end(thread: JobThread): Promise<void> {
    const index = this.#idle.indexOf(thread)
    if (index >= 0) this.#idle.splice(index, 1)
    await thread.end()
    this.#threads.delete(thread)
  }
}

/** One worker thread. */
class JobThread {
  readonly #worker: Worker
  readonly #graceMs: number
  /** Why the thread died; undefined while it lives. */
  #death: Error | undefined
  /** Reports that the caller has not consumed yet. */
  #reports: Report[] = []
  #wake: () => void = () => undefined
  #timer: ReturnType<typeof setTimeout> | undefined

  constructor({ entry = ENTRY, graceMs = GRACE_MS, ...settings }: JobThreadsInit) {
    this.#graceMs = graceMs
    const resourceLimits = { maxYoungGenerationSizeMb: YOUNG_GENERATION_MB }
    this.#worker = startThread(entry, { workerData: settings, resourceLimits })
    this.#worker.unref()
    this.#worker.on('message', (message: unknown) => {
      try {
        this.#reports.push(readReport(message))
        this.#wake()
      } catch (error) {
        this.#die(error)
        void this.#worker.terminate()
      }
    })
    this.#worker.on('error', (error) => this.#die(error))
    this.#worker.on('exit', () => this.#die(new Error('the thread has exited')))
  }

  get isDead(): boolean {
    return this.#death !== undefined
  }

  async *carryOut(
    job: string,
    request: unknown,
    signal: AbortSignal,
  ): AsyncGenerator<unknown, unknown, void> {
    clearTimeout(this.#timer)
    this.#reports = []
    this.#worker.ref()
    let hasEnded = false
    const abort = (): void => this.#abort()
    try {
      this.#worker.postMessage({ kind: 'run', job, request })
      signal.addEventListener('abort', abort, { once: true })
      if (signal.aborted) abort()
      for (;;) {
        const report = await this.#next()
        if (report === undefined) throw signal.aborted ? signal.reason : deathOf(job, this.#death)
        if (report.kind === 'progress') {
          yield report.value
          continue
        }
        hasEnded = true
        if (report.kind === 'result') return report.value
        throw signal.aborted ? signal.reason : receivedError(report.error)
      }
    } finally {
      signal.removeEventListener('abort', abort)
      // The caller has left the iteration: stop the job before another one uses the thread.
      if (!hasEnded && !this.isDead) {
        this.#abort()
        await this.#ended()
      }
      clearTimeout(this.#timer)
      this.#worker.unref()
    }
  }

  /** Call `then` unless another job starts on this thread before. */
  endAfter(ms: number, then: () => void): void {
    this.#timer = setTimeout(then, ms)
    this.#timer.unref()
  }

  async end(): Promise<void> {
    clearTimeout(this.#timer)
    await this.#worker.terminate()
  }

  /** Ask the job to stop, and end the thread if it does not. */
  #abort(): void {
    this.#worker.postMessage({ kind: 'abort' })
    clearTimeout(this.#timer)
    this.#timer = setTimeout(() => void this.#worker.terminate(), this.#graceMs)
  }

  /** The next report; undefined once the thread is dead. */
  async #next(): Promise<Report | undefined> {
    for (;;) {
      const report = this.#reports.shift()
      if (report !== undefined || this.isDead) return report
      await new Promise<void>((resolve) => {
        this.#wake = resolve
      })
    }
  }

  async #ended(): Promise<void> {
    for (;;) {
      const report = await this.#next()
      if (report === undefined || report.kind !== 'progress') return
    }
  }

  #die(error: unknown): void {
    this.#death ??= error instanceof Error ? error : new Error(String(error))
    this.#wake()
  }
}

function deathOf(job: string, cause: Error | undefined): InputError {
  if (hasErrno(cause, 'ERR_WORKER_OUT_OF_MEMORY')) {
    return new InputError(
      'out-of-memory',
      `the job "${job}" ran out of memory; it can be tried again when more is free, or with a larger --max-old-space-size in NODE_OPTIONS`,
      { job },
      cause,
    )
  }
  return new InputError(
    'worker-ended',
    `the thread of the job "${job}" ended before the job did: ${cause?.message ?? 'unknown reason'}`,
    { job },
    cause,
  )
}

const ENTRY = threadEntry(import.meta.url, 'thread')
