import type { Stream } from '@libp2p/interface'
import { multiaddr } from '@multiformats/multiaddr'
import { afterEach, describe, expect, it } from 'vitest'
import { PROTOCOLS } from '../../src/exchange/protocols.ts'
import { InputError } from '../../src/lib/errors.ts'
import { limit } from '../../src/lib/limits.ts'
import { startError } from '../../src/network/transport.ts'
import { startTransport, stopTransports } from '../support/transport.ts'

/** identify holds 1 inbound stream of a peer, ping 2 and gossipsub 1. */
const SERVICE_STREAMS = 4
const PROTOCOL = '/test/streams/1.0.0'

afterEach(stopTransports)

describe('a connection', () => {
  it('has room for every stream that the protocols promise a peer', () => {
    const promised = PROTOCOLS.reduce((sum, { row }) => sum + row.maxInboundStreams, SERVICE_STREAMS)
    expect(promised).toBeLessThanOrEqual(limit('streamsPerPeer'))
  })

  it('carries streamsPerPeer streams of a peer and no more', async () => {
    const [server, client] = [await startTransport(1), await startTransport(2)]
    await server.handle(PROTOCOL, () => undefined, { maxInboundStreams: 1000 })
    const connection = await client.dial(multiaddr(String(server.getMultiaddrs()[0])))
    const streams: Stream[] = []
    const open = async (): Promise<void> => {
      for (;;) streams.push(await connection.newStream(PROTOCOL, { maxOutboundStreams: 1000 }))
    }
    await expect(open()).rejects.toThrow(/reset/)
    expect(streams).toHaveLength(limit('streamsPerPeer'))
    for (const stream of connection.streams) stream.abort(new Error('the test is over'))
  })
})

describe('the error of a failed start', () => {
  it('names the addresses and the next step when the port is in use', () => {
    const cause = Object.assign(new Error('listen EADDRINUSE'), { code: 'EADDRINUSE' })
    const error = startError(cause, ['/ip4/0.0.0.0/tcp/4001'])
    expect(error).toBeInstanceOf(InputError)
    expect(error.message).toMatch(/\/ip4\/0.0.0.0\/tcp\/4001.*in use.*--listen/)
  })

  it('is passed on otherwise', () => {
    const error = new Error('no such transport')
    expect(startError(error, [])).toBe(error)
  })
})
