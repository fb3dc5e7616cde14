/**
 * The addresses at which members may be reached, by how much is known about each. What other peers say about a member
 * is only a hint: it is tried once, and it neither replaces nor delays a better address. Does not dial.
 */
import { CODE_P2P, type Multiaddr } from '@multiformats/multiaddr'
import type { PeerIdString } from '../identity/keys.ts'
import { limit } from '../lib/limits.ts'
import { MAX_ADDRESS_LENGTH, parseAddress } from './address.ts'
import { Rate } from './rate.ts'
import { type Scope, type Source, scopeOf, sourceOf } from './source.ts'

/** Addresses of one member, as members tell them each other. */
export interface MemberAddresses {
  readonly peerId: string
  readonly addresses: readonly string[]
}

/**
 * - `configured`: from the operator, in an invitation or in the settings.
 * - `proven`: this node dialled it and the member proved its identity.
 * - `own`: the member said it about itself over a connection on which it had proved its identity.
 */
type Origin = 'configured' | 'proven' | 'own'

interface Entry {
  /** Without the peer id. */
  readonly address: Multiaddr
  origin: Origin
  /** Number of failed dials since the last success. */
  failures: number
  /** Time before which the address is not dialled again, ms. */
  nextTry: number
}

/** Addresses of one member that are dialled in one attempt. */
const ADDRESSES_PER_DIAL = 4
const FIRST_PAUSE_MS = 500
const LONGEST_PAUSE_MS = 15_000
/** Longest pause for an address at which the member has never been reached, ms. */
const LONGEST_PAUSE_UNPROVEN_MS = 600_000

export interface AddressTableInit {
  readonly self: PeerIdString
  /** Milliseconds, monotonic. */
  readonly clock: () => number
  isMember(peer: PeerIdString): boolean
}

export class AddressTable {
  readonly #init: AddressTableInit
  readonly #entries = new Map<PeerIdString, Map<string, Entry>>()
  /** Hints that wait for their only dial. */
  readonly #hints = new Map<PeerIdString, Map<string, Multiaddr>>()
  /** By member and address: each hint is accepted once in `hintPause`. */
  readonly #hintRate: Rate
  /** By member: hints that may be dialled. */
  readonly #memberRate: Rate
  /** Sources from which members connected, most recent last. */
  readonly #provenSources = new Set<Source>()

  constructor(init: AddressTableInit) {
    this.#init = init
    this.#hintRate = new Rate(init.clock, { burst: 0, everyMs: limit('hintPause') })
    this.#memberRate = new Rate(init.clock, {
      burst: limit('addressesPerMember') - 1,
      everyMs: limit('hintPause') / limit('addressesPerMember'),
    })
  }

  /** Addresses from the operator, peer id included. */
  configure(addresses: readonly string[]): void {
    for (const text of addresses) {
      const address = parseAddress(text)
      const peer = address?.getComponents().findLast(({ code }) => code === CODE_P2P)?.value
      if (address !== undefined && peer !== undefined) this.#put(peer, address, 'configured')
    }
  }

  /** Addresses at which members were reached in an earlier run. */
  remember(members: readonly MemberAddresses[]): void {
    for (const { peerId, addresses } of members) {
      for (const address of addresses.flatMap((text) => parseAddress(text) ?? [])) {
        this.#put(peerId, address, 'proven')
      }
    }
  }

  /** This node dialled an address, and `peer` proved its identity there. */
  reached(peer: PeerIdString, address: Multiaddr): void {
    if (!this.#init.isMember(peer)) return
    this.#put(peer, address, 'proven')
    for (const entry of this.#entries.get(peer)?.values() ?? []) {
      entry.failures = 0
      entry.nextTry = 0
    }
  }

  /** A member has connected from this address, whose port does not matter. */
  connectedFrom(address: Multiaddr): void {
    const source = sourceOf(address)
    this.#provenSources.delete(source)
    this.#provenSources.add(source)
    const [oldest] = this.#provenSources
    if (this.#provenSources.size > limit('knownSources') && oldest !== undefined)
      this.#provenSources.delete(oldest)
  }

  /**
   * The addresses that a member reports about itself; they replace its earlier report.
   * @param via the address of the connection on which it did so.
   */
  reported(peer: PeerIdString, addresses: readonly Multiaddr[], via: Multiaddr): void {
    if (!this.#init.isMember(peer)) return
    const known = this.#entries.get(peer)
    for (const [text, { origin }] of known ?? []) if (origin === 'own') known?.delete(text)
    const usable = addresses.filter((address) => isCredible(address, scopeOf(via)))
    for (const address of usable.slice(0, limit('addressesPerMember'))) this.#put(peer, address, 'own')
  }

  /**
   * Addresses of a member from anybody else. Keeps those that are credible and were not tried lately.
   * @param scope where the address of the connection to the informant can be reached.
   */
  hint({ peerId, addresses }: MemberAddresses, scope: Scope): void {
    if (peerId === this.#init.self || !this.#init.isMember(peerId)) return
    const hints = this.#hints.get(peerId) ?? new Map<string, Multiaddr>()
    for (const parsed of addresses.flatMap((text) => parseAddress(text) ?? [])) {
      const address = parsed.decapsulateCode(CODE_P2P)
      const text = String(address)
      const isKnown = this.#entries.get(peerId)?.has(text) ?? false
      if (isKnown || hints.has(text) || hints.size >= limit('addressesPerMember')) continue
      if (isCredible(address, scope) && this.#hintRate.take(`${peerId} ${text}`)) hints.set(text, address)
    }
    if (hints.size > 0) this.#hints.set(peerId, hints)
  }

  /** A hint that may be dialled now. It is not returned again. */
  takeHint(peer: PeerIdString): Multiaddr | undefined {
    const hints = this.#hints.get(peer)
    const [first] = hints ?? []
    if (hints === undefined || first === undefined || !this.#memberRate.take(peer)) return undefined
    hints.delete(first[0])
    if (hints.size === 0) this.#hints.delete(peer)
    return first[1]
  }

  /** The addresses to dial now, best first. Empty when all of them have to wait. */
  due(peer: PeerIdString): Multiaddr[] {
    const now = this.#init.clock()
    const rank: Record<Origin, number> = { proven: 0, configured: 1, own: 2 }
    return [...(this.#entries.get(peer)?.values() ?? [])]
      .filter(({ nextTry }) => nextTry <= now)
      .sort((a, b) => a.failures - b.failures || rank[a.origin] - rank[b.origin])
      .slice(0, ADDRESSES_PER_DIAL)
      .map(({ address }) => address)
  }

  /** Dialled without success. */
  failed(peer: PeerIdString, addresses: readonly Multiaddr[]): void {
    for (const address of addresses) {
      const entry = this.#entries.get(peer)?.get(String(address))
      if (entry === undefined) continue
      const longest = entry.origin === 'own' ? LONGEST_PAUSE_UNPROVEN_MS : LONGEST_PAUSE_MS
      entry.nextTry = this.#init.clock() + Math.min(FIRST_PAUSE_MS * 2 ** entry.failures, longest)
      entry.failures++
    }
  }

  /** A member has disconnected and may be back at once. */
  disconnected(peer: PeerIdString): void {
    for (const entry of this.#entries.get(peer)?.values() ?? []) {
      if (entry.origin === 'own') continue
      entry.failures = 0
      entry.nextTry = this.#init.clock() + FIRST_PAUSE_MS
    }
  }

  /** Members with an address or a hint. */
  peers(): PeerIdString[] {
    return [...new Set([...this.#entries.keys(), ...this.#hints.keys()])].filter((peer) =>
      this.#init.isMember(peer),
    )
  }

  /** What this node tells other members: where it reached a member, and what the member says about itself. */
  known(): MemberAddresses[] {
    return [...this.#entries]
      .filter(([peer]) => this.#init.isMember(peer))
      .map(([peerId, entries]) => ({
        peerId,
        addresses: [...entries]
          .filter(([text, { origin }]) => origin !== 'configured' && text.length <= MAX_ADDRESS_LENGTH)
          .map(([text]) => text)
          .slice(-limit('addressesPerMember')),
      }))
      .filter(({ addresses }) => addresses.length > 0)
      .slice(0, limit('members'))
  }

  /** Whether a member connected from this source or has an address there that is more than a hint. */
  isKnownSource(source: Source): boolean {
    if (this.#provenSources.has(source)) return true
    return [...this.#entries].some(
      ([peer, entries]) =>
        this.#init.isMember(peer) &&
        [...entries.values()].some(({ address }) => sourceOf(address) === source),
    )
  }

  #put(peer: PeerIdString, withPeer: Multiaddr, origin: Origin): void {
    if (peer === this.#init.self) return
    const address = withPeer.decapsulateCode(CODE_P2P)
    const text = String(address)
    const entries = this.#entries.get(peer) ?? new Map<string, Entry>()
    this.#entries.set(peer, entries)
    const known = entries.get(text)
    if (known !== undefined && origin !== 'proven') return
    entries.delete(text)
    entries.set(text, { address, origin, failures: known?.failures ?? 0, nextTry: known?.nextTry ?? 0 })
    const same = [...entries].filter(([, entry]) => entry.origin === origin)
    const oldest = same[0]
    if (same.length > limit('addressesPerMember') && oldest !== undefined) entries.delete(oldest[0])
  }
}

/**
 * Whether an address from a peer is worth a dial: an IP address that is no more local than the connection over which
 * it was told, because a loopback or private address means another host elsewhere. Names are not resolved for peers.
 */
function isCredible(address: Multiaddr, told: Scope): boolean {
  const scope = scopeOf(address)
  const isTcp = address.getComponents().some(({ name }) => name === 'tcp')
  if (!isTcp || String(address).length > MAX_ADDRESS_LENGTH) return false
  if (scope === 'public') return true
  if (scope === 'private') return told === 'private' || told === 'loopback'
  return scope === 'loopback' && told === 'loopback'
}
