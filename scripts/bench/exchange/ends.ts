/**
 * Both ends of every transfer that the benchmark compares: our exchange; and, discarding the bytes, a bare libp2p
 * stream with our settings and with those of js-libp2p, and raw TCP.
 */
import '../../../src/lib/node20.ts'
import { randomFillSync } from 'node:crypto'
import { once } from 'node:events'
import { type AddressInfo, connect, createServer } from 'node:net'
import type { Libp2p, Stream } from '@libp2p/interface'
import { multiaddr } from '@multiformats/multiaddr'
import type { FileRef } from '../../../src/lib/file-ref.ts'
import { limit } from '../../../src/lib/limits.ts'
import { drained } from '../../../src/network/frames.ts'
import { type End, type EndInit, startDefaults, startTransport, TIMEOUT_MS } from './end.ts'
import { startExchange } from './start-exchange.ts'

export type Kind = 'exchange' | 'libp2p' | 'libp2pDefaults' | 'bitswap' | 'tcp'

/** Number of bytes in a transfer that discards them. */
export const SENT_BYTES = 512 * 2 ** 20
const RAW_PROTOCOL = '/flexmesh-bench/raw/1.0.0'
/** One MiB of random bytes, which is sent repeatedly. */
const noiseBytes = (): Uint8Array => randomFillSync(new Uint8Array(limit('chunkBytes')))

export const ENDS: Readonly<Record<Kind, (init: EndInit) => Promise<End>>> = {
  exchange: exchangeEnd,
  libp2p: async (init) => libp2pEnd(init, await startTransport()),
  libp2pDefaults: async (init) => libp2pEnd(init, await startDefaults()),
  // Loaded on demand, since it may not be installed.
  bitswap: async (init) => (await import('./bitswap.ts')).bitswapEnd(init),
  tcp: tcpEnd,
}

async function exchangeEnd({ role, dir, file }: EndInit): Promise<End> {
  const { exchange, blobs } = await startExchange(dir)
  if (role === 'sender')
    return { offer: { address: exchange.addresses()[0], ref: await blobs.putFile(file) } }
  const signal = AbortSignal.timeout(TIMEOUT_MS)
  let providers: string[] = []
  let received: FileRef | undefined
  return {
    prepare: async (offers) => {
      providers = await Promise.all(
        (offers as { address: string }[]).map(({ address }) => exchange.connect(address, signal)),
      )
    },
    receive: async (offers) => {
      const [{ ref }] = offers as [{ ref: FileRef }]
      await exchange.fetch(ref, { signal, providers })
      received = ref
    },
    forget: async () => {
      if (received !== undefined) await blobs.delete(received.sha256)
    },
  }
}

/** A protocol without frames and checks. */
async function libp2pEnd({ role }: EndInit, node: Libp2p): Promise<End> {
  if (role === 'sender') await node.handle(RAW_PROTOCOL, (stream) => sendNoise(stream))
  if (role === 'sender') return { offer: { address: String(node.getMultiaddrs()[0]) } }
  return { receive: (offers) => receiveNoise(node, offers as { address: string }[]) }
}

async function sendNoise(stream: Stream): Promise<void> {
  const bytes = noiseBytes()
  const signal = AbortSignal.timeout(TIMEOUT_MS)
  for (let sent = 0; sent < SENT_BYTES; sent += bytes.length) {
    if (!stream.send(bytes)) await drained(stream, signal)
  }
  await stream.close()
}

async function receiveNoise(node: Libp2p, [offer]: readonly { address: string }[]): Promise<void> {
  if (offer === undefined) throw new Error('no sender')
  const stream = await node.dialProtocol(multiaddr(offer.address), RAW_PROTOCOL)
  let received = 0
  const done = Promise.withResolvers<void>()
  stream.addEventListener('message', ({ data }) => {
    received += data.byteLength
    if (received >= SENT_BYTES) done.resolve()
  })
  stream.addEventListener('close', ({ error }) => done.reject(error ?? new Error('closed early')))
  await done.promise
  await stream.close()
}

async function tcpEnd({ role }: EndInit): Promise<End> {
  if (role === 'sender') {
    const bytes = noiseBytes()
    const server = createServer(async (socket) => {
      socket.on('error', () => undefined)
      for (let sent = 0; sent < SENT_BYTES; sent += bytes.length) {
        if (!socket.write(bytes)) await once(socket, 'drain')
      }
      socket.end()
    })
    await once(server.listen(0, '127.0.0.1'), 'listening')
    return { offer: (server.address() as AddressInfo).port }
  }
  return {
    receive: async ([port]) => {
      const socket = connect(port as number, '127.0.0.1')
      let received = 0
      socket.on('data', (data) => {
        received += data.length
      })
      await once(socket, 'end')
      if (received !== SENT_BYTES) throw new Error(`expected ${SENT_BYTES} bytes, got ${received}`)
    },
  }
}
