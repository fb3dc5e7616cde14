/**
 * Lets connected members be asked until no announced statement is missing. This is needed because a relayed head can
 * arrive before the member that relayed it holds the statement itself. Does not know what a statement is, and asks nobody
 * itself.
 */

export interface CatchUpInit {
  /** Ask a member when its turn comes, if something is still missing then. */
  ask(peer: string): void
  peers(): readonly string[]
  isBehind(): boolean
  /** Whether a member waits for its turn: then nobody else needs to be asked yet. */
  isWaiting(): boolean
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

  /** A member has connected or announced something: the tries count from here. */
  restart(): void {
    this.#tries = 0
  }

  /** A member was asked. If something is still missing and nobody waits for its turn, ask all members after a pause. */
  asked(): void {
    const { isBehind, isWaiting } = this.#init
    if (this.#stopped || this.#timer !== undefined || this.#tries >= MAX_TRIES) return
    if (!isBehind() || isWaiting()) return
    const pause = Math.min(FIRST_PAUSE_MS * 2 ** this.#tries, LONGEST_PAUSE_MS)
    this.#timer = setTimeout(() => this.#askAll(), pause)
    this.#timer.unref()
    this.#tries++
  }

  stop(): void {
    this.#stopped = true
    clearTimeout(this.#timer)
  }

  #askAll(): void {
    this.#timer = undefined
    // If nobody is connected, the next connection asks.
    for (const peer of this.#init.peers()) this.#init.ask(peer)
  }
}
