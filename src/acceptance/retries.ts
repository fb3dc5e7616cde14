/**
 * Decides when a package that could not be fetched or judged is tried again, reports why it waits, and logs each reason
 * once. Counts ticks of the queue's timer. Does not start anything.
 */
import type { Digest } from '../lib/bytes.ts'
import { FlexMeshError } from '../lib/errors.ts'
import type { Log } from '../telemetry/log.ts'
import type { PackageState, PackageStates } from './package-states.ts'

/**
 * Number of unexpected failures after which a package waits for the next start of the node, because judging takes
 * minutes.
 */
const MAX_UNEXPECTED_FAILURES = 3
/** The pause doubles with each failure, up to this many ticks. */
const LONGEST_PAUSE = 120
/** Ticks between two looks at the free space. */
const DISK_PAUSE = 2
/** Packages of which `experts` shows that they are not tried again. */
const MAX_GIVEN_UP = 64

export interface RetriesInit {
  readonly states: PackageStates
  /** Bytes of disk space that a download may use. */
  readonly freeBytes: () => Promise<number>
  readonly log: Log
}

interface Failures {
  count: number
  unexpected: number
  /** Ticks until the next try. */
  ticks: number
  isWaiting: boolean
  /** Code of the last failure, to log it once. */
  code?: string
}

export class Retries {
  readonly #init: RetriesInit
  readonly #failures = new Map<Digest, Failures>()
  /** Packages that are not tried again, oldest first. */
  readonly #givenUp: Digest[] = []
  /** Whether the log says already that the disk is full. */
  #isFull = false

  constructor(init: RetriesInit) {
    this.#init = init
  }

  /** Number of packages that wait. */
  get size(): number {
    return [...this.#failures.values()].filter(({ isWaiting }) => isWaiting).length
  }

  /**
   * A package could not be fetched or judged.
   * @returns whether it will be tried again before the next start of the node.
   */
  async defer({ id }: { readonly id: Digest }, error: unknown): Promise<boolean> {
    const failures = this.#failures.get(id) ?? { count: 0, unexpected: 0, ticks: 0, isWaiting: false }
    this.#failures.set(id, failures)
    failures.count++
    failures.isWaiting = true
    failures.ticks = Math.min(2 ** (failures.count - 1), LONGEST_PAUSE)
    const isNew = failures.code !== codeOf(error)
    failures.code = codeOf(error)
    // What ends a thread once is likely to do so again, and a judgement takes minutes.
    const hasEndedThread = error instanceof FlexMeshError && error.code === 'worker-ended'
    if (hasEndedThread || !(error instanceof FlexMeshError)) return this.#unexpected(id, failures, error)
    this.#init.states.set(id, await this.#stateAfter(error))
    if (error.code === 'disk-full') {
      failures.ticks *= DISK_PAUSE
      this.#sayFull(error)
    } else if (error.family === 'exchange') {
      this.#log(isNew, 'info', `package ${id} waits for a member that delivers its file`, error)
    } else this.#log(isNew, 'warn', `package ${id} cannot be judged now and will be tried again`, error)
    return true
  }

  /** One tick has passed. @returns the packages whose time has come. */
  async due(): Promise<Digest[]> {
    const free = this.#isFull ? await this.#init.freeBytes() : Number.POSITIVE_INFINITY
    const due: Digest[] = []
    for (const [id, failures] of this.#failures) {
      if (!failures.isWaiting || --failures.ticks > 0) continue
      const state = this.#init.states.get(id)
      if (state?.kind === 'disk-full' && state.neededBytes >= free) {
        this.#init.states.set(id, { ...state, freeBytes: free })
        failures.ticks = DISK_PAUSE
        continue
      }
      due.push(id)
    }
    return due
  }

  /** A package is tried again. */
  started(id: Digest): void {
    const failures = this.#failures.get(id)
    if (failures !== undefined) failures.isWaiting = false
  }

  /** A package has a verdict: its failures do not count any more. */
  forget(id: Digest): void {
    this.#failures.delete(id)
    if (![...this.#failures.values()].some(({ code }) => code === 'disk-full')) this.#isFull = false
  }

  #unexpected(id: Digest, failures: Failures, error: unknown): boolean {
    failures.unexpected++
    const isFinal = failures.unexpected >= MAX_UNEXPECTED_FAILURES
    const reason = error instanceof Error ? error.message : String(error)
    this.#init.states.set(id, { kind: 'failed', reason, isFinal })
    this.#init.log.error(
      `package ${id} could not be judged, attempt ${failures.unexpected} of ${MAX_UNEXPECTED_FAILURES}`,
      error,
    )
    if (isFinal) this.#giveUp(id)
    return !isFinal
  }

  #giveUp(id: Digest): void {
    this.forget(id)
    this.#givenUp.push(id)
    const oldest = this.#givenUp.length > MAX_GIVEN_UP ? this.#givenUp.shift() : undefined
    if (oldest !== undefined) this.#init.states.delete(oldest)
  }

  async #stateAfter(error: FlexMeshError): Promise<PackageState> {
    const { code, family, message: reason, fields } = error
    if (code === 'disk-full') {
      const { neededBytes } = fields
      const freeBytes =
        typeof fields['freeBytes'] === 'number' ? fields['freeBytes'] : await this.#init.freeBytes()
      return {
        kind: 'disk-full',
        neededBytes: typeof neededBytes === 'number' ? neededBytes : 0,
        // Infinite if the system does not tell.
        freeBytes: Number.isFinite(freeBytes) ? freeBytes : 0,
      }
    }
    return family === 'exchange'
      ? { kind: 'waiting-for-holder', reason }
      : { kind: 'failed', reason, isFinal: false }
  }

  #sayFull(error: FlexMeshError): void {
    this.#log(
      !this.#isFull,
      'warn',
      'the disk is full: packages are neither fetched nor judged until there is room; serving goes on',
      error,
    )
    this.#isFull = true
  }

  /** A reason that is new reaches the log with its level, a repeated one as `debug`. */
  #log(isNew: boolean, level: 'info' | 'warn', message: string, error: FlexMeshError): void {
    this.#init.log[isNew ? level : 'debug'](message, error)
  }
}

function codeOf(error: unknown): string {
  return error instanceof FlexMeshError ? error.code : 'unexpected'
}
