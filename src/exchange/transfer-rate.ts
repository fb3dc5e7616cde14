/**
 * Measures how fast each provider of a file sends. Time counts in ticks, and only while a request waits for bytes, so
 * that neither a slow disk nor a busy event loop of this node counts against a provider. Does not know what is sent.
 */
import type { PeerIdString } from '../identity/keys.ts'
import { limit } from '../lib/limits.ts'

const TICK_MS = 1_000
const GRACE_TICKS = limit('transferGrace') / TICK_MS
const WINDOW_TICKS = limit('transferWindow') / TICK_MS
/** Ticks after which others may fetch the chunks that a provider was asked for, if it sends below the minimum. */
const SUSPICION_TICKS = 2

interface Rate {
  /** Number of requests that wait for bytes. */
  waiting: number
  /** Ticks so far during which a request waited. */
  ticks: number
  /** Bytes since the last tick. */
  bytes: number
  /** Bytes of each tick of the window, latest last. */
  readonly window: number[]
}

export interface TransferRateInit {
  /** Share of a provider's bytes that this transfer can expect, from 0 to 1, because it serves other transfers too. */
  readonly shareOf: (peer: PeerIdString) => number
  /** Called after each tick. */
  readonly onTick: () => void
}

export class TransferRate {
  readonly #init: TransferRateInit
  readonly #rates = new Map<PeerIdString, Rate>()
  readonly #timer: ReturnType<typeof setInterval>

  /** Starts a timer, which `close` stops. */
  constructor(init: TransferRateInit) {
    this.#init = init
    this.#timer = setInterval(() => this.#tick(), TICK_MS)
    this.#timer.unref()
  }

  /** A request to a provider begins to wait for bytes. */
  wait(peer: PeerIdString): void {
    this.#rate(peer).waiting++
  }

  /** A request to a provider has what it waited for, or has ended. */
  pause(peer: PeerIdString): void {
    this.#rate(peer).waiting--
  }

  arrived(peer: PeerIdString, bytes: number): void {
    this.#rate(peer).bytes += bytes
  }

  /** Whether a provider has sent too little lately, so that other providers should fetch what it was asked for. */
  isSuspect(peer: PeerIdString): boolean {
    return this.#isBelow(peer, SUSPICION_TICKS, SUSPICION_TICKS)
  }

  /** Whether a provider has sent less than `transferRate` over `transferWindow`, after `transferGrace`. */
  isTooSlow(peer: PeerIdString): boolean {
    return this.#isBelow(peer, GRACE_TICKS + WINDOW_TICKS, WINDOW_TICKS)
  }

  close(): void {
    clearInterval(this.#timer)
  }

  #isBelow(peer: PeerIdString, ticks: number, window: number): boolean {
    const rate = this.#rates.get(peer)
    if (rate === undefined || rate.ticks < ticks) return false
    const bytes = rate.window.slice(-window).reduce((sum, one) => sum + one, 0)
    return bytes < (limit('transferRate') * this.#init.shareOf(peer) * window * TICK_MS) / 1000
  }

  #tick(): void {
    for (const rate of this.#rates.values()) {
      if (rate.waiting === 0 && rate.bytes === 0) continue
      rate.ticks++
      rate.window.push(rate.bytes)
      if (rate.window.length > WINDOW_TICKS) rate.window.shift()
      rate.bytes = 0
    }
    this.#init.onTick()
  }

  #rate(peer: PeerIdString): Rate {
    const known = this.#rates.get(peer)
    if (known !== undefined) return known
    const rate: Rate = { waiting: 0, ticks: 0, bytes: 0, window: [] }
    this.#rates.set(peer, rate)
    return rate
  }
}
