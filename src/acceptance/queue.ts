/**
 * Judges packages one at a time, in the order of arrival. A package that cannot be judged now, because no member has
 * its file or this machine has a problem, waits for a retry; that is never a verdict on it. Knows nothing about checks,
 * weights and the network.
 */
import type { Digest } from '../lib/bytes.ts'
import { FlexMeshError } from '../lib/errors.ts'
import { Serial } from '../lib/serial.ts'
import type { ManifestStatement } from '../packaging/open-statement.ts'
import type { Log } from '../telemetry/log.ts'

export interface AcceptanceQueueInit {
  /** Reaches a verdict on a package and stores it. @throws any error that prevents a verdict. */
  readonly judge: (statement: ManifestStatement) => Promise<void>
  readonly log: Log
  /** Aborted when the node stops. */
  readonly signal: AbortSignal
}

/**
 * Number of unexpected failures after which a package waits for the next start of the node, because judging takes
 * minutes.
 */
const MAX_UNEXPECTED_FAILURES = 3

export class AcceptanceQueue {
  readonly #init: AcceptanceQueueInit
  readonly #work = new Serial()
  /** Packages that wait for a retry. */
  readonly #deferred = new Map<Digest, ManifestStatement>()
  readonly #unexpectedFailures = new Map<Digest, number>()

  constructor(init: AcceptanceQueueInit) {
    this.#init = init
  }

  add(statement: ManifestStatement): void {
    void this.#work.run(() => this.#judge(statement))
  }

  /** Judge again the packages that wait for a retry. Called when a member has connected or some time has passed. */
  retry(): void {
    const waiting = [...this.#deferred.values()]
    this.#deferred.clear()
    for (const statement of waiting) this.add(statement)
  }

  /** Resolves when every package added so far is judged or waits for a retry. */
  settled(): Promise<void> {
    return this.#work.idle()
  }

  /** Never rejects, because the failure of one package must not stop the packages behind it. */
  async #judge(statement: ManifestStatement): Promise<void> {
    const { judge, log, signal } = this.#init
    const { id } = statement
    if (signal.aborted) return
    try {
      await judge(statement)
      this.#unexpectedFailures.delete(id)
    } catch (error) {
      if (signal.aborted) return
      if (error instanceof FlexMeshError && error.family === 'exchange') {
        log.info(`package ${id} waits for a member that has its file`, error)
      } else if (error instanceof FlexMeshError) {
        log.warn(`package ${id} cannot be judged now and will be tried again`, error)
      } else {
        const failures = (this.#unexpectedFailures.get(id) ?? 0) + 1
        this.#unexpectedFailures.set(id, failures)
        log.error(
          `package ${id} could not be judged, attempt ${failures} of ${MAX_UNEXPECTED_FAILURES}`,
          error,
        )
        if (failures >= MAX_UNEXPECTED_FAILURES) return
      }
      this.#deferred.set(id, statement)
    }
  }
}
