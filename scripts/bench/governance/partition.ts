/**
 * Splits nodes that share this process into halves that cannot connect to each other: connections between the halves end,
 * and new ones are refused once noise has proved who is at the other end. Knows nothing about what the nodes exchange.
 */
import { noise } from '@chainsafe/libp2p-noise'
import type { MessageStream } from '@libp2p/interface'
import { noiseCrypto } from '../../../src/network/noise-crypto.ts'
import type { Encrypter } from '../../../src/network/transport.ts'

type Secure = ReturnType<Encrypter>['secureInbound']

interface Secured {
  readonly connection: MessageStream
  readonly ends: readonly [string, string]
}

export class Partition {
  #isSplit = false
  readonly #halves = new Map<string, number>()
  readonly #connections = new Set<Secured>()

  /** Encryption for the node with the peer id `self`. */
  encrypter(self: string): Encrypter {
    const create = noise({ crypto: noiseCrypto })
    return (components) => {
      const inner = create(components)
      const guarded =
        (secure: Secure): Secure =>
        async (connection, options) => {
          const result = await secure(connection, options)
          const ends = [self, result.remotePeer.toString()] as const
          if (this.#isSplit && this.#separates(ends)) throw new Error('the network is split')
          const secured = { connection: result.connection, ends }
          this.#connections.add(secured)
          connection.addEventListener('close', () => this.#connections.delete(secured), { once: true })
          return result
        }
      const { secureInbound, secureOutbound } = inner
      inner.secureInbound = guarded(secureInbound.bind(inner))
      inner.secureOutbound = guarded(secureOutbound.bind(inner))
      return inner
    }
  }

  /** @param halves the peer ids of each half */
  split(halves: readonly (readonly string[])[]): void {
    for (const [half, peers] of halves.entries()) for (const peer of peers) this.#halves.set(peer, half)
    this.#isSplit = true
    for (const { connection, ends } of [...this.#connections]) {
      if (this.#separates(ends)) connection.abort(new Error('the network is split'))
    }
  }

  heal(): void {
    this.#isSplit = false
  }

  #separates([one, other]: readonly [string, string]): boolean {
    return this.#halves.get(one) !== this.#halves.get(other)
  }
}
