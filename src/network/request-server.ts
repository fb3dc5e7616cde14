/**
 * Answers the requests of peers: who may use which protocol, how often, and what a fault costs. Opens no streams itself,
 * and does not know what requests mean.
 */
import type { PeerIdString } from '../identity/keys.ts'
import { ExchangeError } from '../lib/errors.ts'
import { limit } from '../lib/limits.ts'
import type { Conduct } from './conduct.ts'
import type { EgressMeter } from './egress.ts'
import { answer } from './frames.ts'
import type { Guests } from './guests.ts'
import type { Answer, NetworkInit } from './network.ts'
import type { ProtocolRow } from './protocol.ts'
import { Quota } from './quota.ts'
import { Slots } from './slots.ts'
import type { Transport } from './transport.ts'

interface RequestServerInit extends Pick<NetworkInit, 'clock' | 'handlers' | 'log'> {
  readonly guests: Guests
  readonly conduct: Conduct
  readonly egress: EgressMeter
}

export class RequestServer {
  readonly #init: RequestServerInit
  readonly #answers = new Map<ProtocolRow, Answer>()
  readonly #quota: Quota
  readonly #frames = new Slots({ perKey: limit('sentFramesPerPeer'), total: Number.POSITIVE_INFINITY })

  constructor(init: RequestServerInit) {
    this.#init = init
    this.#quota = new Quota(init.clock)
  }

  /** Answer a protocol, from the call of `register` on. */
  handle(protocol: ProtocolRow, body: Answer): void {
    this.#answers.set(protocol, body)
  }

  async register(transport: Transport): Promise<void> {
    for (const [protocol, body] of this.#answers) await this.#register(transport, protocol, body)
  }

  /** Ids of the protocols that a peer may use; undefined for a member, which may use all. */
  protocolsFor(peer: PeerIdString): string[] | undefined {
    if (this.#init.handlers.isMember(peer)) return undefined
    return [...this.#answers.keys()].filter((row) => this.#mayUse(peer, row)).map(({ id }) => id)
  }

  async #register(transport: Transport, protocol: ProtocolRow, body: Answer): Promise<void> {
    const { handlers, guests, conduct, egress, log } = this.#init
    await transport.handle(
      protocol.id,
      async (stream, connection) => {
        const from = connection.remotePeer.toString()
        guests.active(from)
        const frames = (request: unknown, signal: AbortSignal): AsyncIterable<unknown> =>
          isLarge(protocol)
            ? body(request, from, signal)
            : this.#inPlace(from, protocol, body(request, from, signal), signal)
        await answer(stream, protocol, frames, {
          log,
          account: egress.of(stream),
          refuse: () => this.#refusal(from, protocol),
          onFault: () => conduct.fault(from, 'frame'),
        })
        if (!handlers.isMember(from) && protocol.guests === 'all') guests.answered(from)
      },
      { maxInboundStreams: protocol.maxInboundStreams },
    )
  }

  /** The frames of an answer, each created once the peer has a place for it, which it keeps until it is sent. */
  async *#inPlace(
    peer: PeerIdString,
    { maxResponseBytes }: ProtocolRow,
    frames: AsyncIterable<unknown>,
    signal: AbortSignal,
  ): AsyncGenerator<unknown, void, void> {
    const count = Math.max(1, Math.floor(maxResponseBytes / limit('envelopeBytes')))
    const source = frames[Symbol.asyncIterator]()
    try {
      for (;;) {
        const free = await this.#frames.take(peer, signal, count)
        try {
          const next = await source.next()
          if (next.done === true) return
          yield next.value
        } finally {
          free()
        }
      }
    } finally {
      await source.return?.()
    }
  }

  #mayUse(peer: PeerIdString, { guests }: ProtocolRow): boolean {
    const { handlers } = this.#init
    if (handlers.isMember(peer)) return true
    if (guests === 'revoked') return handlers.isRevoked(peer)
    if (guests === 'all') return handlers.guestsOpen()
    return guests === 'proven' && this.#init.guests.isProven(peer)
  }

  /** Why a peer may not send a request now. Counts the request. */
  #refusal(from: PeerIdString, protocol: ProtocolRow): ExchangeError | undefined {
    if (!this.#mayUse(from, protocol)) return new ExchangeError('refused', `${from} is not a member`)
    if (this.#quota.take(from, protocol)) return undefined
    // An institution that waits for its approval asks again and again.
    if (protocol.guests !== 'all') this.#init.conduct.fault(from, 'quota')
    return new ExchangeError('quota', `${from} asks too often`)
  }
}

/** Whether the frames of an answer are chunks, whose places the protocol takes itself: it reads ahead. */
export function isLarge({ maxResponseBytes }: ProtocolRow): boolean {
  return maxResponseBytes > limit('frameBytes')
}
