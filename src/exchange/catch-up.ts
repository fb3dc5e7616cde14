/**
 * Asks connected members until no announced statement is missing. This is needed because a relayed head can
 * arrive before the member that relayed it holds the statement itself. Does not know what a statement is.
 */
import type { Log } from '../telemetry/log.ts'

export interface CatchUpInit {
  /** Pull from one member the statements that this node lacks. Rejects when the member cannot be reached. */
  pull(peer: string): Promise<void>
  peers(): readonly string[]
  isBehind(): boolean
  readonly log: Log
}

const FIRST_PAUSE_MS = 250
const LONGEST_PAUSE_MS = 60_000
/** Spread over about ten minutes. Ends the search for statements that were announced but that nobody holds. */
const MAX_TRIES = 18

export class CatchUp {
  readonly #init: CatchUpInit
  #timer: ReturnType<typeof setTimeout> | undefined
  #tries = 0
  #stopped = false

  constructor(init: CatchUpInit) {
    this.#init = init
  }

  /**
   * Pull from a member that has connected or announced something. If statements are still missing, ask the other
   * members later. Never rejects.
   */
  async start(peer: string): Promise<void> {
    this.#tries = 0
    await this.#tryPull(peer)
    this.#schedule()
  }

  stop(): void {
    this.#stopped = true
    clearTimeout(this.#timer)
  }

  #schedule(): void {
    if (this.#stopped || this.#timer !== undefined || !this.#init.isBehind() || this.#tries >= MAX_TRIES)
      return
    const pause = Math.min(FIRST_PAUSE_MS * 2 ** this.#tries, LONGEST_PAUSE_MS)
    // `#askAll` never rejects.
    this.#timer = setTimeout(() => void this.#askAll(), pause)
    this.#timer.unref()
    this.#tries++
  }

  async #askAll(): Promise<void> {
    for (const peer of this.#init.peers()) {
      if (this.#stopped || !this.#init.isBehind()) break
      await this.#tryPull(peer)
    }
    this.#timer = undefined
    this.#schedule()
  }

  /** A failed pull is repeated by the next try or by the next connection. */
  async #tryPull(peer: string): Promise<void> {
    try {
      await this.#init.pull(peer)
    } catch (error) {
      this.#init.log.debug(`the sync with ${peer} failed`, error)
    }
  }
}
