import { peerIdFromString } from '@libp2p/peer-id'
import { multiaddr } from '@multiformats/multiaddr'
import { afterEach, describe, expect, it } from 'vitest'
import { createIdentity } from '../../src/identity/keys.ts'
import { Mesh } from '../../src/network/mesh.ts'
import { SILENT } from '../../src/telemetry/log.ts'
import { startTransport, stopTransports } from '../support/transport.ts'

afterEach(stopTransports)

const LONG = `/dns4/${'a'.repeat(300)}/tcp/4001`

describe('the addresses that a node tells other members', () => {
  it('leave out those that are too long to be decoded', async () => {
    const transport = await startTransport(1)
    const [some, none] = [2, 3].map((seed) => createIdentity(new Uint8Array(32).fill(seed)).peerId) as [
      string,
      string,
    ]
    const good = '/ip4/192.0.2.1/tcp/4001'
    const reported = { [some]: [LONG, good], [none]: [LONG] }
    for (const [peer, addresses] of Object.entries(reported)) {
      await transport.peerStore.merge(peerIdFromString(peer), {
        multiaddrs: addresses.map((text) => multiaddr(text)),
      })
    }
    const mesh = new Mesh({
      transport: () => transport,
      self: transport.peerId.toString(),
      isMember: (peer) => peer in reported,
      signal: new AbortController().signal,
      log: SILENT,
    })
    expect(await mesh.known()).toEqual([{ peerId: some, addresses: [good] }])
  })
})
