/**
 * Decides when each package is fetched and judged. Several packages are fetched at once, at most one of each publisher;
 * one package is judged at a time, and publishers take turns. A package that cannot be fetched or judged now, because
 * no member delivers its file or this machine has a problem, waits for a retry; that is never a verdict on it. Memory
 * is bounded for each publisher. Knows nothing about checks, weights and the network.
 */
import type { Digest } from '../lib/bytes.ts'
import type { Log } from '../telemetry/log.ts'
import { FairLines, type QueuedPackage } from './fair-lines.ts'
import type { PackageStates } from './package-states.ts'
import { Retries } from './retries.ts'

/** Judges a package whose file is here. Called once. */
export type JudgeFetched = () => Promise<void>

export interface AcceptanceQueueInit {
  /**
   * Check the manifest of a package and bring its file.
   * @returns undefined if there is nothing to judge. @throws any error that prevents this now.
   */
  readonly prepare: (queued: QueuedPackage, signal: AbortSignal) => Promise<JudgeFetched | undefined>
  /** At most `max` packages of a publisher without a verdict, from statement `fromSeq` on, in order. */
  readonly unjudged: (publisher: string, fromSeq: number, max: number) => Promise<readonly QueuedPackage[]>
  readonly states: PackageStates
  /** Bytes of disk space that a download may use. */
  readonly freeBytes: () => Promise<number>
  readonly log: Log
  /** Aborted when the node stops. */
  readonly signal: AbortSignal
}

/** Packages that are fetched at once: each takes a few MiB of memory. */
const MAX_FETCHES = 8
/** Packages of one publisher that are fetched and wait to be judged. */
const MAX_FETCHED = 2
/** Packages of one publisher in memory. Further ones stay in the log until the others are done. */
const MAX_OF_PUBLISHER = 256
/** Time between two looks at what waits, ms. */
const TICK_MS = 5_000
/** A fetch that is slower than this gives up its place if another one waits for it; it goes on later. */
const TURN_TICKS = 12
const TURN_BYTES = 64 * 2 ** 20

interface Task extends QueuedPackage {
  phase: 'waiting' | 'fetching' | 'fetched' | 'judging' | 'deferred'
  /** While it is fetched. */
  abort?: AbortController
  /** Why the fetch was aborted: to check the manifest again at once, or to let others fetch. */
  abortedFor?: 'check' | 'others'
  /** Ticks and bytes since the fetch got its place. */
  turn?: { ticks: number; fromBytes: number }
  judge?: JudgeFetched
}

export class AcceptanceQueue {
  readonly #init: AcceptanceQueueInit
  readonly #tasks = new Map<Digest, Task>()
  readonly #toFetch = new FairLines<Task>()
  readonly #toJudge = new FairLines<Task>()
  /** By publisher. */
  readonly #fetching = new Map<string, Task>()
  readonly #retries: Retries
  /** First statement of each publisher that is in the log only, because its line was full. */
  readonly #beyond = new Map<string, number>()
  readonly #refilling = new Set<Promise<void>>()
  #judging: Task | undefined
  #idle: (() => void)[] = []
  #timer: ReturnType<typeof setInterval> | undefined

  constructor(init: AcceptanceQueueInit) {
    this.#init = init
    this.#retries = new Retries({ states: init.states, log: init.log, freeBytes: init.freeBytes })
    init.signal.addEventListener('abort', () => this.#step(), { once: true })
  }

  /** @param first ahead of everything that waits, because the operator asks for it */
  add({ id, publisher, seq }: QueuedPackage, first = false): void {
    if (this.#init.signal.aborted) return
    const known = this.#tasks.get(id)
    if (known !== undefined) {
      if (known.phase === 'deferred' || (first && known.phase === 'waiting')) this.#enter(known, first)
    } else if (!first && this.#countOf(publisher) >= MAX_OF_PUBLISHER) {
      this.#beyond.set(publisher, Math.min(seq, this.#beyond.get(publisher) ?? seq))
    } else {
      const task: Task = { id, publisher, seq, phase: 'waiting' }
      this.#tasks.set(id, task)
      this.#enter(task, first)
    }
    this.#step()
  }

  /** Try again what waits for a retry. Called when a member has connected or the operator has changed something. */
  retry(): void {
    for (const task of [...this.#tasks.values()]) if (task.phase === 'deferred') this.#enter(task)
    this.#step()
  }

  /**
   * The manifests of packages must be checked again: stop fetching them, and begin with them anew.
   * @param publisher restart only its packages
   */
  restart(ids: readonly Digest[], publisher?: string): void {
    for (const id of ids) {
      const task = this.#tasks.get(id)
      if (publisher !== undefined && task?.publisher !== publisher) continue
      if (task?.phase === 'fetching') {
        task.abortedFor = 'check'
        task.abort?.abort()
      } else if (task?.phase === 'deferred' || task?.phase === 'waiting') this.#enter(task, true)
    }
    this.#step()
  }

  /** Resolves when every package added so far is judged or waits for a retry. */
  async settled(): Promise<void> {
    while (this.#isBusy()) await new Promise<void>((resolve) => this.#idle.push(resolve))
  }

  #isBusy(): boolean {
    if (this.#fetching.size > 0 || this.#judging !== undefined || this.#refilling.size > 0) return true
    return !this.#init.signal.aborted && this.#toFetch.size + this.#toJudge.size > 0
  }

  #countOf(publisher: string): number {
    let count = 0
    for (const task of this.#tasks.values()) if (task.publisher === publisher) count++
    return count
  }

  #enter(task: Task, first = false): void {
    if (task.phase === 'waiting') this.#toFetch.remove(task)
    task.phase = 'waiting'
    this.#retries.started(task.id)
    this.#init.states.set(task.id, { kind: 'announced' })
    this.#toFetch.add(task, first)
  }

  /** Start what can start now. */
  #step(): void {
    const mayFetch = (publisher: string): boolean =>
      !this.#fetching.has(publisher) && this.#toJudge.length(publisher) < MAX_FETCHED
    while (!this.#init.signal.aborted) {
      const task = this.#fetching.size < MAX_FETCHES ? this.#toFetch.take(mayFetch) : undefined
      if (task === undefined) break
      void this.#fetch(task)
    }
    const next = this.#judging === undefined && !this.#init.signal.aborted ? this.#toJudge.take() : undefined
    if (next !== undefined) void this.#judge(next)
    this.#updateTimer()
    if (this.#isBusy()) return
    for (const wake of this.#idle.splice(0)) wake()
  }

  /** Never rejects, because the failure of one package must not stop the others. */
  async #fetch(task: Task): Promise<void> {
    const { prepare, signal, states } = this.#init
    const abort = new AbortController()
    Object.assign(task, {
      phase: 'fetching',
      abort,
      turn: { ticks: 0, fromBytes: 0 },
    } satisfies Partial<Task>)
    this.#fetching.set(task.publisher, task)
    try {
      const judge = await prepare(task, AbortSignal.any([signal, abort.signal]))
      if (judge === undefined) this.#finish(task)
      else {
        Object.assign(task, { phase: 'fetched', judge } satisfies Partial<Task>)
        states.set(task.id, { kind: 'fetched' })
        this.#toJudge.add(task)
      }
    } catch (error) {
      const reason = task.abortedFor
      if (reason !== undefined) this.#enter(task, reason === 'check')
      else await this.#defer(task, error)
    } finally {
      delete task.abort
      delete task.abortedFor
      this.#fetching.delete(task.publisher)
      this.#step()
    }
  }

  /** Never rejects. */
  async #judge(task: Task): Promise<void> {
    this.#judging = task
    task.phase = 'judging'
    try {
      await task.judge?.()
      this.#finish(task)
    } catch (error) {
      await this.#defer(task, error)
    } finally {
      delete task.judge
      this.#judging = undefined
      this.#step()
    }
  }

  async #defer(task: Task, error: unknown): Promise<void> {
    if (this.#init.signal.aborted) return
    task.phase = 'deferred'
    if (!(await this.#retries.defer(task, error))) this.#forget(task)
  }

  #finish(task: Task): void {
    this.#retries.forget(task.id)
    this.#init.states.delete(task.id)
    this.#forget(task)
  }

  #forget({ id, publisher }: Task): void {
    this.#tasks.delete(id)
    const from = this.#beyond.get(publisher)
    if (from === undefined || this.#countOf(publisher) > MAX_OF_PUBLISHER / 2) return
    this.#beyond.delete(publisher)
    const refilling = this.#refill(publisher, from).finally(() => {
      this.#refilling.delete(refilling)
      this.#step()
    })
    this.#refilling.add(refilling)
  }

  /** Queue packages that were left in the log. Never rejects. */
  async #refill(publisher: string, fromSeq: number): Promise<void> {
    const { unjudged, log } = this.#init
    const room = MAX_OF_PUBLISHER / 2
    try {
      const found = await unjudged(publisher, fromSeq, room)
      for (const queued of found) this.add(queued)
      const last = found.at(-1)
      if (last === undefined || found.length < room) return
      this.#beyond.set(publisher, Math.min(last.seq + 1, this.#beyond.get(publisher) ?? last.seq + 1))
    } catch (error) {
      this.#beyond.set(publisher, Math.min(fromSeq, this.#beyond.get(publisher) ?? fromSeq))
      log.warn(`packages of ${publisher} wait in the log, because they could not be read`, error)
    }
  }

  async #tick(): Promise<void> {
    for (const id of await this.#retries.due()) {
      const task = this.#tasks.get(id)
      if (task?.phase === 'deferred') this.#enter(task)
    }
    if (this.#fetching.size >= MAX_FETCHES && this.#toFetch.size > 0) this.#endSlowTurns()
    this.#step()
  }

  #endSlowTurns(): void {
    for (const task of this.#fetching.values()) {
      const { turn } = task
      const state = this.#init.states.get(task.id)
      if (turn === undefined || state?.kind !== 'fetching') continue
      if (turn.ticks === 0) turn.fromBytes = state.doneBytes
      turn.ticks++
      if (turn.ticks <= TURN_TICKS) continue
      if (state.doneBytes - turn.fromBytes < TURN_BYTES) {
        task.abortedFor = 'others'
        task.abort?.abort()
      }
      turn.ticks = 0
    }
  }

  /** The timer runs while something is fetched or waits for a retry. */
  #updateTimer(): void {
    const isNeeded = this.#fetching.size > 0 || this.#retries.size > 0
    if (!isNeeded || this.#init.signal.aborted) {
      clearInterval(this.#timer)
      this.#timer = undefined
    } else if (this.#timer === undefined) {
      this.#timer = setInterval(() => {
        this.#tick().catch((error: unknown) => this.#init.log.error('a retry could not be started', error))
      }, TICK_MS)
      this.#timer.unref()
    }
  }
}
