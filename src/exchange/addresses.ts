/**
 * The addresses protocol: a member tells another at which addresses it reached the other members. Implements
 * protocols/package-exchange, Addresses. Addresses are hints, because noise proves who answers.
 */
import type { PeerIdString } from '../identity/keys.ts'
import { FormatError } from '../lib/errors.ts'
import { Fields } from '../lib/fields.ts'
import { limit } from '../lib/limits.ts'
import { MAX_ADDRESS_LENGTH } from '../network/address.ts'
import type { MemberAddresses } from '../network/address-table.ts'
import type { Answer, Asker, Network } from '../network/network.ts'
import type { ProtocolRow } from '../network/protocol.ts'

export const ADDRESSES: ProtocolRow = {
  id: '/flexmesh/addresses/1.0.0',
  maxRequestBytes: limit('requestBytes'),
  maxResponseBytes: limit('requestBytes'),
  maxResponseFrames: limit('members'),
  timeoutMs: limit('requestTimeout'),
  timeoutPer: 'answer',
  maxInboundStreams: limit('protocolInboundStreams'),
  // A member asks after a connection, and then once a minute at most.
  quota: { burst: 128, everyMs: 50 },
  guests: 'none',
  sends: () => () => ({ kind: 'addresses' }),
}

export function decodeAddressesRequest(value: unknown): void {
  new Fields(value, 'addresses request').end()
}

export function decodeAddressesFrame(value: unknown): MemberAddresses {
  const fields = new Fields(value, 'addresses frame')
  const peerId = fields.text('peerId', 64)
  const addresses = fields.list('addresses', limit('addressesPerMember'), (item, title) => {
    if (typeof item !== 'string' || item.length > MAX_ADDRESS_LENGTH) {
      throw new FormatError('bad-field', `${title}: expected at most ${MAX_ADDRESS_LENGTH} characters`)
    }
    return item
  })
  fields.end()
  return { peerId, addresses }
}

export function serveAddresses({ network }: { readonly network: Network }): Answer {
  return async function* (value) {
    decodeAddressesRequest(value)
    for (const { peerId, addresses } of await network.knownAddresses()) {
      yield { peerId, addresses: [...addresses] }
    }
  }
}

export async function askAddresses(
  network: Asker,
  peer: PeerIdString,
  signal: AbortSignal,
): Promise<MemberAddresses[]> {
  const members: MemberAddresses[] = []
  for await (const frame of network.ask(peer, ADDRESSES, {}, signal)) {
    members.push(decodeAddressesFrame(frame))
  }
  return members
}
