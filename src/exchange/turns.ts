/**
 * Visits members one after the other, each once for all that asked for it before its turn. A member that is slow delays
 * the others by a short time only. Does not know why members are visited.
 */
export interface TurnsInit {
  /** Never rejects. */
  visit(peer: string): Promise<void>
  /** Whether there is still a reason for a visit when the turn of a member has come. */
  isDue(peer: string): boolean
  /** Time after which the next visit begins although the last one goes on, ms. */
  readonly patienceMs: number
  /** Number of visits that may follow each other at once; then one every `everyMs`. */
  readonly burst: number
  readonly everyMs: number
}

export class Turns {
  readonly #init: TurnsInit
  /** Members that wait for their turn, in order. */
  readonly #waiting = new Set<string>()
  /** Whether the next visit may not begin yet. */
  #isHeld = false
  /** When a whole burst may begin again, ms. */
  #restedAt = 0
  #isStopped = false

  constructor(init: TurnsInit) {
    this.#init = init
  }

  /** Whether a member waits for its turn. */
  get isWaiting(): boolean {
    return this.#waiting.size > 0
  }

  /** Visit a member when its turn comes: at once if nobody is visited. */
  add(peer: string): void {
    if (this.#isStopped) return
    this.#waiting.add(peer)
    this.#next()
  }

  stop(): void {
    this.#isStopped = true
    this.#waiting.clear()
  }

  #next(): void {
    if (this.#isHeld) return
    for (const peer of this.#waiting) {
      this.#waiting.delete(peer)
      if (!this.#init.isDue(peer)) continue
      this.#isHeld = true
      // Never rejects.
      void this.#visit(peer).then(() => {
        this.#isHeld = false
        this.#next()
      })
      return
    }
  }

  /** Resolves when the next visit may begin: this one has ended or takes too long, and it is not too early. */
  async #visit(peer: string): Promise<void> {
    const { visit, patienceMs, burst, everyMs } = this.#init
    this.#restedAt = Math.max(this.#restedAt, performance.now()) + everyMs
    await Promise.race([visit(peer), pause(patienceMs)])
    await pause(this.#restedAt - (burst - 1) * everyMs - performance.now())
  }
}

async function pause(ms: number): Promise<void> {
  if (ms > 0) await new Promise((resolve) => setTimeout(resolve, ms).unref())
}
