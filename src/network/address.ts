/** Addresses as people and messages write them: multiaddrs such as /ip4/192.0.2.1/tcp/4001/p2p/12D3KooW... */
import { type Multiaddr, multiaddr } from '@multiformats/multiaddr'
import type { PeerIdString } from '../identity/keys.ts'

/** Maximum number of characters of an address in a message between members. */
export const MAX_ADDRESS_LENGTH = 256

/** Undefined when `text` is not a multiaddr. */
export function parseAddress(text: string): Multiaddr | undefined {
  try {
    return multiaddr(text)
  } catch {
    return undefined
  }
}

/** The peer id that an address ends with. Undefined when it has none or is not a multiaddr. */
export function peerIdOf(address: string): PeerIdString | undefined {
  return parseAddress(address)
    ?.getComponents()
    .findLast(({ name }) => name === 'p2p')?.value
}
