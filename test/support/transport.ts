/** libp2p nodes on loopback that let every peer connect. */
import { createIdentity } from '../../src/identity/keys.ts'
import { createTransport, type Transport } from '../../src/network/transport.ts'

const running: Transport[] = []

/** A started node; its key is made from `seed`. */
export async function startTransport(seed: number): Promise<Transport> {
  const node = await createTransport({
    identity: createIdentity(new Uint8Array(32).fill(seed)),
    listen: ['/ip4/127.0.0.1/tcp/0'],
    bootstrap: [],
    mdns: false,
    gate: {},
    topic: 'test',
  })
  running.push(node)
  await node.start()
  return node
}

/** Stop every node of the test. */
export async function stopTransports(): Promise<void> {
  await Promise.all(running.splice(0).map((node) => node.stop()))
}
