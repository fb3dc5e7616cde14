/** The interface of one end of a measured transfer, and the two libp2p nodes that ends use. */
import { noise } from '@chainsafe/libp2p-noise'
import { yamux } from '@chainsafe/libp2p-yamux'
import { identify } from '@libp2p/identify'
import type { Libp2p } from '@libp2p/interface'
import { tcp } from '@libp2p/tcp'
import { createLibp2p } from 'libp2p'
import { createIdentity } from '../../../src/identity/keys.ts'
import { EgressMeter } from '../../../src/network/egress.ts'
import { createTransport, type Transport } from '../../../src/network/transport.ts'
import { LOOPBACK } from './start-exchange.ts'

export const TIMEOUT_MS = 300_000

export interface EndInit {
  readonly role: 'sender' | 'receiver'
  /** Folder for its data; all senders of one kind share one. */
  readonly dir: string
  /** The file that is sent. */
  readonly file: string
}

export interface End {
  /** What receivers need to reach a sender and to name its file. */
  readonly offer?: unknown
  /** Opens connections; not measured. */
  prepare?(offers: readonly unknown[]): Promise<void>
  receive?(offers: readonly unknown[]): Promise<void>
  /** Deletes what was received. */
  forget?(): Promise<void>
}

/** A libp2p node with the settings of our exchange. */
export async function startTransport(): Promise<Transport> {
  const node = await createTransport({
    identity: createIdentity(),
    listen: [LOOPBACK],
    gate: {},
    streams: {
      clock: () => performance.now(),
      protocolsFor: () => undefined,
      onFlood: () => undefined,
      onTooManyStreams: () => undefined,
    },
    topic: 'bench',
    egress: new EgressMeter({ add: () => undefined, persist: async () => undefined }, () => true),
  })
  await node.start()
  return node
}

/** A libp2p node with TCP, noise and yamux in the settings of js-libp2p. */
export async function startDefaults(): Promise<Libp2p> {
  return createLibp2p({
    addresses: { listen: [LOOPBACK] },
    transports: [tcp()],
    connectionEncrypters: [noise()],
    streamMuxers: [yamux()],
    services: { identify: identify() },
  })
}
