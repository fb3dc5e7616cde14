/**
 * The providers of one file while it is fetched: asks them, at the pace that each can answer, and drops those that send
 * wrong data, send too slowly or do not hold the file. Does not know which chunks are missing.
 */
import type { PeerIdString } from '../identity/keys.ts'
import { ExchangeError, FormatError, VerificationError } from '../lib/errors.ts'
import type { FileRef } from '../lib/file-ref.ts'
import { limit } from '../lib/limits.ts'
import { linkSignals } from '../lib/linked-signal.ts'
import type { Providers } from './providers.ts'
import { TransferRate } from './transfer-rate.ts'

export interface FileSourcesInit {
  readonly ref: FileRef
  /** Members that may hold the file, in the order in which they are asked. */
  readonly peers: readonly PeerIdString[]
  readonly providers: Providers
}

/** Yields the frames of an answer. */
export type Question<T> = (
  signal: AbortSignal,
  onBytes: (count: number) => void,
) => AsyncGenerator<T, void, void>

export class FileSources {
  readonly #init: FileSourcesInit
  /** Aborted with the reason for which the provider was dropped. */
  readonly #usable = new Map<PeerIdString, AbortController>()
  /** Number of requests for this file that each provider answers now. */
  readonly #requests = new Map<PeerIdString, number>()
  readonly #rate: TransferRate
  readonly #onTick = new Set<() => void>()
  #failure: unknown

  constructor(init: FileSourcesInit) {
    const { ref, peers, providers } = init
    this.#init = init
    const allowed = peers.filter((peer) => providers.mayAsk(peer, ref.sha256))
    for (const peer of allowed) this.#usable.set(peer, new AbortController())
    this.#failure = new ExchangeError(
      'unreachable',
      allowed.length < peers.length
        ? `${ref.sha256}: every connected member that may hold it failed to deliver it and is asked again later`
        : `no member that holds ${ref.sha256} is connected`,
    )
    this.#rate = new TransferRate({
      shareOf: (peer) => (this.#requests.get(peer) ?? 0) / Math.max(1, providers.requests(peer)),
      onTick: () => this.#tick(),
    })
  }

  /** Providers that may be asked, in order. */
  usable(): PeerIdString[] {
    return [...this.#usable.keys()]
  }

  /** Why the last provider was dropped. */
  get failure(): unknown {
    return this.#failure
  }

  isUsable(peer: PeerIdString): boolean {
    return this.#usable.has(peer)
  }

  /** Whether others should fetch what this provider was asked for, because it sends little or nothing. */
  isSuspect(peer: PeerIdString): boolean {
    return !this.isUsable(peer) || this.#rate.isSuspect(peer)
  }

  /** Ask this provider before the others. */
  prefer(peer: PeerIdString): void {
    const others = [...this.#usable].filter(([other]) => other !== peer)
    const own = this.#usable.get(peer)
    if (own === undefined) return
    this.#usable.clear()
    for (const [one, controller] of [[peer, own] as const, ...others]) this.#usable.set(one, controller)
  }

  /** Call `listener` about once a second. */
  onTick(listener: () => void): void {
    this.#onTick.add(listener)
  }

  /**
   * Ask a provider and yield the frames of its answer.
   * @throws the error of the question; ExchangeError `timeout` if the provider was dropped because it is too slow; the
   * reason of `signal`.
   */
  async *ask<T>(
    peer: PeerIdString,
    question: Question<T>,
    signal: AbortSignal,
  ): AsyncGenerator<T, void, void> {
    const dropped = this.#usable.get(peer)?.signal ?? AbortSignal.abort(this.#failure)
    const either = linkSignals(signal, dropped)
    const release = await this.#init.providers.acquire(peer, either.signal).catch((error: unknown) => {
      either.release()
      throw error
    })
    const frames = question(either.signal, (count) => this.#rate.arrived(peer, count))
    this.#countRequest(peer, 1)
    try {
      for (;;) {
        const { done, value } = await this.#timed(peer, frames)
        if (done === true) return
        yield value
      }
    } catch (error) {
      throw dropped.aborted && !signal.aborted ? dropped.reason : error
    } finally {
      await frames.return()
      this.#countRequest(peer, -1)
      release()
      either.release()
    }
  }

  /** Do not ask a provider any more. Other reasons than a lost connection count against it in later fetches too. */
  drop(peer: PeerIdString, error: unknown): void {
    const controller = this.#usable.get(peer)
    if (controller === undefined) return
    this.#usable.delete(peer)
    this.#failure = asExchangeError(error)
    if (isOffence(error)) this.#init.providers.strikeOff(peer, this.#init.ref.sha256)
    controller.abort(this.#failure)
  }

  delivered(peer: PeerIdString): void {
    this.#init.providers.delivered(peer, this.#init.ref.sha256)
  }

  /** Stop measuring. */
  close(): void {
    this.#rate.close()
  }

  #countRequest(peer: PeerIdString, change: 1 | -1): void {
    this.#requests.set(peer, (this.#requests.get(peer) ?? 0) + change)
  }

  async #timed<T>(
    peer: PeerIdString,
    frames: AsyncGenerator<T, void, void>,
  ): Promise<IteratorResult<T, void>> {
    this.#rate.wait(peer)
    try {
      return await frames.next()
    } finally {
      this.#rate.pause(peer)
    }
  }

  #tick(): void {
    for (const peer of this.usable()) {
      if (!this.#rate.isTooSlow(peer)) continue
      const least = `${limit('transferRate') / 1024} KiB/s`
      this.drop(peer, new ExchangeError('timeout', `${peer}: expected at least ${least} of a file, got less`))
    }
    for (const listener of this.#onTick) listener()
  }
}

/** Whether an error comes from what a provider sent or did not send, and not from this node. */
export function isProviderFault(error: unknown): boolean {
  return error instanceof ExchangeError || isWrongAnswer(error)
}

/** A provider that lost its connection or does not hold the file has done nothing wrong. */
function isOffence(error: unknown): boolean {
  return isWrongAnswer(error) || (error instanceof ExchangeError && error.code === 'timeout')
}

function isWrongAnswer(error: unknown): error is FormatError | VerificationError {
  return error instanceof FormatError || error instanceof VerificationError
}

/**
 * A wrong or malformed answer proves something about the provider that sent it and nothing about the signer of the
 * package, so it must not look like a fault of the package.
 */
function asExchangeError(error: unknown): unknown {
  return isWrongAnswer(error) ? new ExchangeError('protocol', error.message, {}, error) : error
}
