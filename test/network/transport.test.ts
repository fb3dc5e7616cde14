import type { Stream } from '@libp2p/interface'
import { multiaddr } from '@multiformats/multiaddr'
import { afterEach, describe, expect, it } from 'vitest'
import { PROTOCOLS } from '../../src/exchange/protocols.ts'
import { InputError } from '../../src/lib/errors.ts'
import { limit } from '../../src/lib/limits.ts'
import { startError, type Transport } from '../../src/network/transport.ts'
import { startTransport, stopTransports } from '../support/transport.ts'

/** identify holds 1 inbound stream of a peer, ping 2 and gossipsub 1. */
const SERVICE_STREAMS = 4
const PROTOCOL = '/test/streams/1.0.0'
/** Peers that gossipsub would neither send to nor hear by default, because they have one address. */
const SHARING = 16

afterEach(stopTransports)

/** Resolves with the first event after which the condition holds. */
function eventWhere(
  target: Transport['services']['pubsub'],
  name: 'subscription-change' | 'gossipsub:message',
  holds: () => boolean,
): Promise<void> {
  return new Promise((resolve) => {
    target.addEventListener(name, () => {
      if (holds()) resolve()
    })
  })
}

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

describe('announcements', () => {
  it('reach members that share one address with many others, and are heard from them', async () => {
    const hub = await startTransport(1)
    const others = await Promise.all(Array.from({ length: SHARING }, (_, i) => startTransport(2 + i)))
    for (const { services } of [hub, ...others]) services.pubsub.subscribe('test')
    const address = multiaddr(String(hub.getMultiaddrs()[0]))
    const { pubsub } = hub.services
    const all = eventWhere(
      pubsub,
      'subscription-change',
      () => pubsub.getSubscribers('test').length === SHARING,
    )
    for (const other of others) {
      await other.services.identify.identify(await other.dial(address))
    }
    for (const connection of hub.getConnections()) await hub.services.identify.identify(connection)
    await all
    const { recipients } = await pubsub.publish('test', Uint8Array.of(1))
    expect(recipients).toHaveLength(SHARING)
    const heard = eventWhere(pubsub, 'gossipsub:message', () => true)
    await others.at(-1)?.services.pubsub.publish('test', Uint8Array.of(2))
    await heard
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
