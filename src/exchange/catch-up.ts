/**
 * Keeps asking connected members until nothing that was announced is missing: a relayed head can
 * arrive before the member that relayed it holds the statement itself. Knows no statement.
 */
export interface CatchUpInit {
  /** Pull from one member what it has and we lack. Rejects when it cannot be reached. */
  pull(peer: string): Promise<void>
  peers(): readonly string[]
  isBehind(): boolean
}

const FIRST_PAUSE_MS = 250
const LONGEST_PAUSE_MS = 60_000
/** About ten minutes; a publisher that announces what nobody holds is then forgotten. */
const MAX_TRIES = 18

export class CatchUp {
  readonly #init: CatchUpInit
  #timer: ReturnType<typeof setTimeout> | undefined
  #tries = 0
  #stopped = false

  constructor(init: CatchUpInit) {
    this.#init = init
  }

  /** Pull from a member that has connected or announced something, and from others if that was not all. */
  async start(peer: string): Promise<void> {
    this.#tries = 0
    await this.#pullQuietly(peer)
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
    this.#timer = setTimeout(() => void this.#askAll(), pause)
    this.#timer.unref()
    this.#tries++
  }

  async #askAll(): Promise<void> {
    for (const peer of this.#init.peers()) {
      if (this.#stopped || !this.#init.isBehind()) break
      await this.#pullQuietly(peer)
    }
    this.#timer = undefined
    this.#schedule()
  }

  /** What fails here is tried again, or comes with the next connection. */
  async #pullQuietly(peer: string): Promise<void> {
    await this.#init.pull(peer).catch(() => undefined)
  }
}
