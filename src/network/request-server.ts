/**
 * Answers the requests of peers: who may use which protocol, how often, and what a fault costs. Opens no streams itself,
 * and does not know what requests mean.
 */
import type { PeerIdString } from '../identity/keys.ts'
import { ExchangeError } from '../lib/errors.ts'
import type { Conduct } from './conduct.ts'
import type { EgressMeter } from './egress.ts'
import { answer } from './frames.ts'
import type { Guests } from './guests.ts'
import type { Answer, NetworkInit } from './network.ts'
import type { ProtocolRow } from './protocol.ts'
import { Quota } from './quota.ts'
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
        await answer(stream, protocol, (request, signal) => body(request, from, signal), {
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
