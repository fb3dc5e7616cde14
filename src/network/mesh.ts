/**
 * Keeps a node connected to every member whose address it knows (address-table.ts). It is the only part that dials:
 * libp2p dials no address that this class did not choose.
 */
import type { Connection } from '@libp2p/interface'
import { CODE_P2P, type Multiaddr, multiaddr } from '@multiformats/multiaddr'
import type { PeerIdString } from '../identity/keys.ts'
import { limit } from '../lib/limits.ts'
import { linkSignals } from '../lib/linked-signal.ts'
import type { Log } from '../telemetry/log.ts'
import type { AddressTable } from './address-table.ts'
import type { Transport } from './transport.ts'

export interface MeshInit {
  readonly transport: () => Transport
  readonly addresses: AddressTable
  isMember(peer: PeerIdString): boolean
  readonly signal: AbortSignal
  readonly log: Log
}

/** Interval between two searches for members that are not connected and may be dialled, ms. */
const SEARCH_MS = 500

export class Mesh {
  readonly #init: MeshInit
  /** Addresses that are being dialled, with the number of dials of each. */
  readonly #dialling = new Map<string, number>()
  readonly #attempts = new Map<PeerIdString, Promise<void>>()
  #timer: ReturnType<typeof setInterval> | undefined

  constructor(init: MeshInit) {
    this.#init = init
  }

  start(): void {
    this.#dialAll()
    this.#timer = setInterval(() => this.#dialAll(), SEARCH_MS)
    this.#timer.unref()
  }

  stop(): void {
    clearInterval(this.#timer)
  }

  /** Whether this class is dialling an address. */
  isDialling(address: Multiaddr): boolean {
    return this.#dialling.has(textOf(address))
  }

  /** Dial addresses of one peer at once. @throws the error of libp2p. */
  async dial(addresses: readonly Multiaddr[], signal: AbortSignal): Promise<Connection> {
    const texts = addresses.map(textOf)
    for (const text of texts) this.#dialling.set(text, (this.#dialling.get(text) ?? 0) + 1)
    try {
      const connection = await this.#init.transport().dial([...addresses], { signal })
      this.#init.addresses.reached(connection.remotePeer.toString(), connection.remoteAddr)
      return connection
    } finally {
      for (const text of texts) {
        const count = (this.#dialling.get(text) ?? 1) - 1
        if (count > 0) this.#dialling.set(text, count)
        else this.#dialling.delete(text)
      }
    }
  }

  /** Connect to a member that is not connected, if an address of it may be dialled now. Never rejects. */
  connect(peer: PeerIdString): Promise<void> {
    const running = this.#attempts.get(peer)
    if (running !== undefined) return running
    const attempt = this.#connect(peer).finally(() => this.#attempts.delete(peer))
    this.#attempts.set(peer, attempt)
    return attempt
  }

  async #connect(peer: PeerIdString): Promise<void> {
    const { addresses, log } = this.#init
    if (this.#isSettled(peer)) return
    const due = addresses.due(peer)
    if (due.length > 0 && !(await this.#try(peer, due))) {
      addresses.failed(peer, due)
      log.debug(`${peer} does not answer at ${due.join(', ')}`)
    }
    const hint = this.#isSettled(peer) ? undefined : addresses.takeHint(peer)
    if (hint !== undefined && !(await this.#try(peer, [hint]))) log.debug(`${peer} is not at ${hint}`)
  }

  async #try(peer: PeerIdString, addresses: readonly Multiaddr[]): Promise<boolean> {
    const { signal, release } = linkSignals(this.#init.signal, AbortSignal.timeout(limit('dialTimeout')))
    try {
      await this.dial(
        addresses.map((address) => address.encapsulate(`/p2p/${peer}`)),
        signal,
      )
      return true
    } catch (error) {
      this.#init.log.debug(`a dial of ${peer} failed`, error)
      return false
    } finally {
      release()
    }
  }

  /** Whether a peer needs no dial. */
  #isSettled(peer: PeerIdString): boolean {
    const { signal, isMember } = this.#init
    return signal.aborted || !isMember(peer) || this.#connected().has(peer)
  }

  #connected(): Set<PeerIdString> {
    return new Set(this.#init.transport().getPeers().map(String))
  }

  #dialAll(): void {
    const connected = this.#connected()
    for (const peer of this.#init.addresses.peers()) {
      // `connect` never rejects.
      if (!connected.has(peer)) void this.connect(peer)
    }
  }
}

/** An address without its peer id. */
function textOf(address: Multiaddr): string {
  return String(multiaddr(String(address)).decapsulateCode(CODE_P2P))
}
