import { multiaddr } from '@multiformats/multiaddr'
import { afterEach, describe, expect, it } from 'vitest'
import { createIdentity } from '../../src/identity/keys.ts'
import { digestOf } from '../../src/lib/bytes.ts'
import { drained } from '../../src/network/frames.ts'
import { incoming } from '../../src/network/incoming.ts'
import { createTransport, type Transport } from '../../src/network/transport.ts'

const PROTOCOL = '/test/incoming/1.0.0'
const PIECE = new Uint8Array(2 ** 18).map((_, i) => i * 7)
const PIECES = 160 // 40 MiB: many times what may lie unread.
const signal = AbortSignal.timeout(60_000)
const running: Transport[] = []

afterEach(async () => {
  for (const node of running.splice(0)) await node.stop()
})

async function start(seed: number): Promise<Transport> {
  const node = await createTransport({
    identity: createIdentity(new Uint8Array(32).fill(seed)),
    listen: ['/ip4/127.0.0.1/tcp/0'],
    bootstrap: [],
    mdns: false,
    gate: {},
    topic: 'test',
  })
  running.push(node)
  return node
}

describe('what arrives on a stream', () => {
  it('waits for a slow reader, and is all there when the other side has ended meanwhile', async () => {
    const [sender, receiver] = [await start(1), await start(2)]
    let sent = 0
    await sender.handle(PROTOCOL, async (stream) => {
      for (; sent < PIECES; sent++) if (!stream.send(PIECE.slice())) await drained(stream, signal)
      await stream.close()
    })
    await sender.start()
    const stream = await receiver.dialProtocol(multiaddr(String(sender.getMultiaddrs()[0])), PROTOCOL)
    const received: Uint8Array[] = []
    for await (const data of incoming(stream)) {
      received.push(data.subarray())
      if (received.length > 12) continue
      // Pauses, goes on and pauses again: each time, the other side sends as much as it may.
      for (let turn = 0; turn < 300; turn++) await new Promise((resolve) => setImmediate(resolve))
      expect(sent).toBeLessThan(PIECES)
    }
    expect(sent).toBe(PIECES)
    expect(digestOf(...received)).toBe(digestOf(...Array.from({ length: PIECES }, () => PIECE)))
  })

  it('ends with the error of a stream that was reset, after what had arrived', async () => {
    const [sender, receiver] = [await start(1), await start(2)]
    const arrived = Promise.withResolvers<void>()
    await sender.handle(PROTOCOL, async (stream) => {
      stream.send(PIECE.slice())
      await arrived.promise
      stream.abort(new Error('enough'))
    })
    await sender.start()
    const stream = await receiver.dialProtocol(multiaddr(String(sender.getMultiaddrs()[0])), PROTOCOL)
    let bytes = 0
    await expect(async () => {
      for await (const data of incoming(stream)) {
        bytes += data.byteLength
        if (bytes === PIECE.length) arrived.resolve()
      }
    }).rejects.toThrow(/reset/)
    expect(bytes).toBe(PIECE.length)
  })
})
