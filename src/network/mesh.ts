/**
 * Keeps a node connected to every member whose address it knows. Addresses come from invitations and
 * from other members; a wrong one costs a failed dial, because noise proves who answers.
 */
import type { PeerId } from '@libp2p/interface'
import { peerIdFromString } from '@libp2p/peer-id'
import { type Multiaddr, multiaddr } from '@multiformats/multiaddr'
import { limit } from '../lib/limits.ts'
import type { Transport } from './transport.ts'

/** Where a member was reached; hints, not proofs. */
export interface MemberAddresses {
  readonly peerId: string
  readonly addresses: readonly string[]
}

export interface MeshInit {
  readonly transport: () => Transport
  readonly self: string
  isMember(peer: string): boolean
  readonly signal: AbortSignal
}

/** Pause between two looks at who is missing, ms. */
const REDIAL_MS = 15_000

export class Mesh {
  readonly #init: MeshInit
  readonly #timer: ReturnType<typeof setInterval>

  constructor(init: MeshInit) {
    this.#init = init
    this.#timer = setInterval(() => void this.redial(), REDIAL_MS)
    this.#timer.unref()
  }

  stop(): void {
    clearInterval(this.#timer)
  }

  /** Where we reach members, for another member. */
  async known(): Promise<MemberAddresses[]> {
    const peers = await this.#init.transport().peerStore.all()
    return peers
      .filter(({ id, addresses }) => addresses.length > 0 && this.#init.isMember(id.toString()))
      .map(({ id, addresses }) => ({
        peerId: id.toString(),
        addresses: addresses
          .slice(0, limit('addressesPerMember'))
          .map(({ multiaddr: address }) => String(address)),
      }))
      .slice(0, limit('members'))
  }

  /** Addresses that another member told; those that are not whole addresses are passed over. */
  async learn({ peerId, addresses }: MemberAddresses): Promise<void> {
    if (peerId === this.#init.self || !this.#init.isMember(peerId)) return
    const multiaddrs = addresses.flatMap(parseAddress)
    if (multiaddrs.length === 0) return
    const peer = peerIdFromString(peerId)
    await this.#init.transport().peerStore.merge(peer, { multiaddrs })
    await this.dial(peer)
  }

  async dial(peer: PeerId): Promise<void> {
    const { signal, transport, isMember } = this.#init
    if (signal.aborted || !isMember(peer.toString()) || transport().getConnections(peer).length > 0) return
    const bounded = AbortSignal.any([signal, AbortSignal.timeout(limit('dialTimeout'))])
    await transport()
      .dial(peer, { signal: bounded })
      .catch(() => undefined) // The next round tries again.
  }

  async redial(): Promise<void> {
    const peers = await this.#init.transport().peerStore.all()
    await Promise.all(peers.filter(({ addresses }) => addresses.length > 0).map(({ id }) => this.dial(id)))
  }
}

function parseAddress(text: string): Multiaddr[] {
  try {
    return [multiaddr(text)]
  } catch {
    return []
  }
}
