/** One end of a measured transfer, and the libp2p node that some of them share. */
import { noise } from '@chainsafe/libp2p-noise'
import { yamux } from '@chainsafe/libp2p-yamux'
import { identify } from '@libp2p/identify'
import type { Libp2p } from '@libp2p/interface'
import { tcp } from '@libp2p/tcp'
import { createLibp2p } from 'libp2p'
import { createIdentity } from '../../../src/identity/keys.ts'
import { createTransport, type Transport } from '../../../src/network/transport.ts'
import { LOOPBACK } from './start-exchange.ts'

export const TIMEOUT_MS = 300_000

export interface EndInit {
  readonly role: 'sender' | 'receiver'
  /** A folder of its own, shared by the senders of one kind. */
  readonly dir: string
  /** What is sent. */
  readonly file: string
}

export interface End {
  /** What the receivers need to know of a sender. */
  readonly offer?: unknown
  /** Connections are not timed. */
  prepare?(offers: readonly unknown[]): Promise<void>
  receive?(offers: readonly unknown[]): Promise<void>
  /** Back to where nothing was received. */
  forget?(): Promise<void>
}

/** The libp2p node that the exchange has. */
export async function startTransport(): Promise<Transport> {
  const node = await createTransport({
    identity: createIdentity(),
    listen: [LOOPBACK],
    bootstrap: [],
    mdns: false,
    gate: {},
    topic: 'bench',
  })
  await node.start()
  return node
}

/** TCP, noise and yamux as js-libp2p sets them. */
export async function startDefaults(): Promise<Libp2p> {
  return createLibp2p({
    addresses: { listen: [LOOPBACK] },
    transports: [tcp()],
    connectionEncrypters: [noise()],
    streamMuxers: [yamux()],
    services: { identify: identify() },
  })
}
