import { multiaddr } from '@multiformats/multiaddr'
import { afterEach, describe, expect, it } from 'vitest'
import { digestOf } from '../../src/lib/bytes.ts'
import { limit } from '../../src/lib/limits.ts'
import { drained } from '../../src/network/frames.ts'
import { incoming } from '../../src/network/incoming.ts'
import { startTransport, stopTransports } from '../support/transport.ts'

const PROTOCOL = '/test/incoming/1.0.0'
const PIECE = new Uint8Array(2 ** 18).map((_, i) => i * 7)
/** 40 MiB: several times the bytes that may wait unread. */
const PIECES = 160
const MAX_UNREAD = 2 ** 20
const signal = new AbortController().signal

afterEach(stopTransports)

describe('the bytes of a stream', () => {
  it('wait for a slow reader, and all arrive even if the sender has closed the stream meanwhile', async () => {
    const [sender, receiver] = [await startTransport(1), await startTransport(2)]
    let sent = 0
    await sender.handle(PROTOCOL, async (stream) => {
      for (; sent < PIECES; sent++) if (!stream.send(PIECE.slice())) await drained(stream, signal)
      await stream.close()
    })
    const stream = await receiver.dialProtocol(multiaddr(String(sender.getMultiaddrs()[0])), PROTOCOL)
    stream.maxReadBufferLength = 2 * limit('streamWindowBytes')
    const received: Uint8Array[] = []
    for await (const data of incoming(stream, MAX_UNREAD)) {
      received.push(data.subarray())
      if (received.length > 12) continue
      // The reader stops several times, each time for long enough that the sender fills the buffers.
      for (let turn = 0; turn < 300; turn++) await new Promise((resolve) => setImmediate(resolve))
      expect(sent).toBeLessThan(PIECES)
    }
    expect(sent).toBe(PIECES)
    expect(digestOf(...received)).toBe(digestOf(...Array.from({ length: PIECES }, () => PIECE)))
  })

  it('are followed by the error of a stream that the sender aborts', async () => {
    const [sender, receiver] = [await startTransport(1), await startTransport(2)]
    const arrived = Promise.withResolvers<void>()
    await sender.handle(PROTOCOL, async (stream) => {
      stream.send(PIECE.slice())
      await arrived.promise
      stream.abort(new Error('enough'))
    })
    const stream = await receiver.dialProtocol(multiaddr(String(sender.getMultiaddrs()[0])), PROTOCOL)
    stream.maxReadBufferLength = 2 * limit('streamWindowBytes')
    let bytes = 0
    await expect(async () => {
      for await (const data of incoming(stream, MAX_UNREAD)) {
        bytes += data.byteLength
        if (bytes === PIECE.length) arrived.resolve()
      }
    }).rejects.toThrow(/reset/)
    expect(bytes).toBe(PIECE.length)
  })
})
