/** Networks that let every peer connect, with egress ledgers. */
import { createIdentity } from '../../src/identity/keys.ts'
import type { EgressSink } from '../../src/lib/egress.ts'
import { Libp2pNetwork } from '../../src/network/libp2p-network.ts'
import type { EgressInit } from '../../src/node/egress.ts'
import type { Catalogue } from '../../src/store/catalogue.ts'
import { SILENT } from '../../src/telemetry/log.ts'

/** The ledger of the node with key 1, in a folder. */
export function egressInit(dir: string, catalogue: Catalogue): EgressInit {
  return {
    dir: `${dir}/egress`,
    identity: createIdentity(new Uint8Array(32).fill(1)),
    catalogue,
    now: () => Math.floor(Date.now() / 1000),
    log: SILENT,
  }
}

/** A network that is not started; its key is made from `seed`. */
export function networkOf(
  seed: number,
  egress: EgressSink,
  signal: AbortSignal = new AbortController().signal,
): Libp2pNetwork {
  return new Libp2pNetwork({
    identity: createIdentity(new Uint8Array(32).fill(seed)),
    topic: 'test',
    listen: ['/ip4/127.0.0.1/tcp/0'],
    bootstrap: [],
    mdns: false,
    clock: () => performance.now(),
    inviters: [],
    remembered: [],
    egress,
    handlers: {
      isMember: () => true,
      guestsOpen: () => false,
      isRevoked: () => false,
      judge: () => 'ignore',
      onConnected: () => undefined,
      onAnnouncement: () => undefined,
    },
    signal,
    log: SILENT,
  })
}
