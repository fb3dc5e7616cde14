/**
 * What members have told this node and received from it since it started, for those who wait for it. Knows nothing
 * about statements.
 */
import type { PeerIdString } from '../identity/keys.ts'

export class SyncWatch {
  /** Seats that have told everything that they hold. */
  readonly #told = new Set<PeerIdString>()
  /** The latest of our own statements that every complete answer to some member has held. */
  #sentThrough = 0
  readonly #waiting = new Set<() => void>()

  /** Number of seats that have told everything that they hold. */
  get tellers(): number {
    return this.#told.size
  }

  /** Call `wake` once this node has acted on it. */
  told(seat: PeerIdString): void {
    this.#told.add(seat)
  }

  /** A member has received an answer that was complete and reached our own statement `seq`. */
  sent(seq: number): void {
    this.#sentThrough = Math.max(this.#sentThrough, seq)
    this.wake()
  }

  /** Resolves once some member has received our own statement `seq`. @throws the reason of the signal. */
  untilSent(seq: number, signal: AbortSignal): Promise<void> {
    return this.until(() => this.#sentThrough >= seq, signal)
  }

  /**
   * Resolves once a condition holds, which is asked whenever members have told or received something.
   * @throws the reason of the signal.
   */
  async until(condition: () => boolean, signal: AbortSignal): Promise<void> {
    const onAbort = (): void => this.wake()
    signal.addEventListener('abort', onAbort)
    try {
      while (!condition()) {
        signal.throwIfAborted()
        await new Promise<void>((resolve) => this.#waiting.add(resolve))
      }
    } finally {
      signal.removeEventListener('abort', onAbort)
    }
  }

  /** Let those who wait look again. */
  wake(): void {
    const waiting = [...this.#waiting]
    this.#waiting.clear()
    for (const resolve of waiting) resolve()
  }
}
