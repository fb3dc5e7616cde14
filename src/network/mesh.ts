/**
 * Keeps a node connected to every member whose address it knows. Addresses come from invitations and from other
 * members. A wrong address costs one failed dial and nothing else, because noise proves who answers.
 */
import type { PeerId } from '@libp2p/interface'
import { peerIdFromString } from '@libp2p/peer-id'
import { limit } from '../lib/limits.ts'
import type { Log } from '../telemetry/log.ts'
import { MAX_ADDRESS_LENGTH, parseAddress } from './address.ts'
import type { Transport } from './transport.ts'

/** Addresses at which a member was reached. They are hints, not proofs. */
export interface MemberAddresses {
  readonly peerId: string
  readonly addresses: readonly string[]
}

export interface MeshInit {
  readonly transport: () => Transport
  readonly self: string
  isMember(peer: string): boolean
  readonly signal: AbortSignal
  readonly log: Log
}

/** Interval between two searches for members that are not connected, ms. */
const REDIAL_MS = 15_000

export class Mesh {
  readonly #init: MeshInit
  #timer: ReturnType<typeof setInterval> | undefined

  constructor(init: MeshInit) {
    this.#init = init
  }

  start(): void {
    // `#redial` never rejects.
    this.#timer = setInterval(() => void this.#redial(), REDIAL_MS)
    this.#timer.unref()
  }

  stop(): void {
    clearInterval(this.#timer)
  }

  /**
   * The addresses of members that this node would tell another member. Leaves out addresses that no member would
   * decode: identify passes on whatever a peer reports about itself.
   */
  async known(): Promise<MemberAddresses[]> {
    const peers = await this.#init.transport().peerStore.all()
    return peers
      .filter(({ id }) => this.#init.isMember(id.toString()))
      .map(({ id, addresses }) => ({
        peerId: id.toString(),
        addresses: addresses
          .map(({ multiaddr: address }) => String(address))
          .filter((text) => text.length <= MAX_ADDRESS_LENGTH && parseAddress(text) !== undefined)
          .slice(0, limit('addressesPerMember')),
      }))
      .filter(({ addresses }) => addresses.length > 0)
      .slice(0, limit('members'))
  }

  /**
   * Store addresses that another member or an earlier run reported, and dial the member. Skips text that is not
   * a multiaddr. Never rejects: a lost address is reported again with the next sync.
   */
  async learn({ peerId, addresses }: MemberAddresses): Promise<void> {
    if (peerId === this.#init.self || !this.#init.isMember(peerId)) return
    const multiaddrs = addresses.flatMap((text) => parseAddress(text) ?? [])
    if (multiaddrs.length === 0) return
    try {
      const peer = peerIdFromString(peerId)
      await this.#init.transport().peerStore.merge(peer, { multiaddrs })
      await this.dial(peer)
    } catch (error) {
      this.#init.log.debug(`the addresses of ${peerId} are not stored`, error)
    }
  }

  /** Connect to a member that is not connected. Never rejects: the next round tries again. */
  async dial(peer: PeerId): Promise<void> {
    const { signal, transport, isMember, log } = this.#init
    if (signal.aborted || !isMember(peer.toString()) || transport().getConnections(peer).length > 0) return
    const bounded = AbortSignal.any([signal, AbortSignal.timeout(limit('dialTimeout'))])
    try {
      await transport().dial(peer, { signal: bounded })
    } catch (error) {
      log.debug(`${peer.toString()} does not answer a dial`, error)
    }
  }

  async #redial(): Promise<void> {
    try {
      const peers = await this.#init.transport().peerStore.all()
      await Promise.all(peers.filter(({ addresses }) => addresses.length > 0).map(({ id }) => this.dial(id)))
    } catch (error) {
      this.#init.log.warn('members that are not connected were not dialled', error)
    }
  }
}
