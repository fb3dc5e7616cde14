/** libp2p nodes on loopback that let every peer connect. */
import { createIdentity } from '../../src/identity/keys.ts'
import type { EgressSink } from '../../src/lib/egress.ts'
import { EgressMeter } from '../../src/network/egress.ts'
import type { StreamPolicy } from '../../src/network/guarded-muxer.ts'
import { createTransport, type Transport } from '../../src/network/transport.ts'

const running: Transport[] = []

/** Drops what a node of a test sends. */
export const UNRECORDED: EgressSink = { add: () => undefined, persist: async () => undefined }

/** A started node; its key is made from `seed`. All peers may use all protocols, unless `streams` says otherwise. */
export async function startTransport(
  seed: number,
  streams: Partial<StreamPolicy> = {},
  egress = new EgressMeter(UNRECORDED, () => true),
): Promise<Transport> {
  const node = await createTransport({
    identity: createIdentity(new Uint8Array(32).fill(seed)),
    listen: ['/ip4/127.0.0.1/tcp/0'],
    gate: {},
    streams: {
      clock: () => performance.now(),
      protocolsFor: () => undefined,
      onFlood: () => undefined,
      onTooManyStreams: () => undefined,
      ...streams,
    },
    topic: 'test',
    egress,
  })
  running.push(node)
  await node.start()
  return node
}

/** Stop every node of the test. */
export async function stopTransports(): Promise<void> {
  await Promise.all(running.splice(0).map((node) => node.stop()))
}
