/**
 * What this node knows about members as providers of files, across all fetches: who is not asked for a file for a
 * while because it failed to deliver it, and how many requests each member answers now. Knows nothing about chunks.
 */
import type { PeerIdString } from '../identity/keys.ts'
import type { Digest } from '../lib/bytes.ts'
import { BLOB } from './blob.ts'

/** Time for which a provider is not asked for a file after its first failure, ms; doubles with each further one. */
const FIRST_BAN_MS = 30_000
const LONGEST_BAN_MS = 3_600_000
/** Maximum number of pairs of provider and file that are remembered. */
const MAX_BANS = 4096
/**
 * Requests to one member at once, over all files. One less than it accepts, because it may still count a stream that
 * has just ended here.
 */
export const MAX_REQUESTS = BLOB.maxInboundStreams - 1

interface Ban {
  readonly failures: number
  /** Time of the clock, ms. */
  readonly until: number
}

interface Requests {
  running: number
  readonly waiting: (() => void)[]
}

export class Providers {
  readonly #clock: () => number
  /** By `file peer`, oldest first. */
  readonly #bans = new Map<string, Ban>()
  readonly #requests = new Map<PeerIdString, Requests>()

  /** @param clock milliseconds, monotonic. */
  constructor(clock: () => number) {
    this.#clock = clock
  }

  /** Whether a provider may be asked for a file now. */
  mayAsk(peer: PeerIdString, file: Digest): boolean {
    const ban = this.#bans.get(`${file} ${peer}`)
    return ban === undefined || this.#clock() >= ban.until
  }

  /** A provider sent wrong data for a file, or sent it too slowly: do not ask it for this file for a while. */
  strikeOff(peer: PeerIdString, file: Digest): void {
    const key = `${file} ${peer}`
    const failures = (this.#bans.get(key)?.failures ?? 0) + 1
    const duration = Math.min(FIRST_BAN_MS * 2 ** (failures - 1), LONGEST_BAN_MS)
    this.#bans.delete(key)
    this.#bans.set(key, { failures, until: this.#clock() + duration })
    for (const oldest of this.#bans.keys()) {
      if (this.#bans.size <= MAX_BANS) break
      this.#bans.delete(oldest)
    }
  }

  /** A provider delivered what it was asked for: its earlier failures with this file do not count any more. */
  delivered(peer: PeerIdString, file: Digest): void {
    this.#bans.delete(`${file} ${peer}`)
  }

  /** Number of requests that a member answers now. */
  requests(peer: PeerIdString): number {
    return this.#requests.get(peer)?.running ?? 0
  }

  /**
   * Wait until another request to a member may start.
   * @returns a function to call when the request has ended. @throws the reason of `signal`.
   */
  async acquire(peer: PeerIdString, signal: AbortSignal): Promise<() => void> {
    signal.throwIfAborted()
    const requests = this.#requests.get(peer) ?? { running: 0, waiting: [] }
    this.#requests.set(peer, requests)
    if (requests.running >= MAX_REQUESTS) await turn(requests.waiting, signal)
    else requests.running++
    return () => {
      const next = requests.waiting.shift()
      if (next !== undefined) return next() // The next request takes over the place.
      requests.running--
      if (requests.running === 0) this.#requests.delete(peer)
    }
  }
}

/** Resolves when the caller is first in the line and a place becomes free. @throws the reason of `signal`. */
function turn(line: (() => void)[], signal: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    const leave = (): void => {
      line.splice(line.indexOf(enter), 1)
      reject(signal.reason)
    }
    const enter = (): void => {
      signal.removeEventListener('abort', leave)
      resolve()
    }
    line.push(enter)
    signal.addEventListener('abort', leave, { once: true })
  })
}
