/** Signals that live as long as the node must not keep what belongs to one request: Node 20 never lets go of it. */
import { getEventListeners } from 'node:events'
import { afterEach, expect, it, vi } from 'vitest'
import { limit } from '../../src/lib/limits.ts'
import type { Libp2pNetwork } from '../../src/network/libp2p-network.ts'
import type { ProtocolRow } from '../../src/network/protocol.ts'
import { networkOf } from '../support/egress-nodes.ts'
import { UNRECORDED } from '../support/transport.ts'

const ROW: ProtocolRow = {
  id: '/test/signals/1.0.0',
  maxRequestBytes: 1024,
  maxResponseBytes: 1024,
  maxResponseFrames: 4,
  timeoutMs: limit('requestTimeout'),
  timeoutPer: 'answer',
  maxInboundStreams: 4,
  quota: { burst: 10, everyMs: 1 },
  guests: 'none',
}
const running: Libp2pNetwork[] = []

afterEach(async () => {
  vi.restoreAllMocks()
  await Promise.all(running.splice(0).map((network) => network.stop()))
})

it('of a network and of a caller are free again after each dial and each request', async () => {
  const [stopping, caller] = [new AbortController(), new AbortController()]
  const any = vi.spyOn(AbortSignal, 'any')
  const [server, client] = [networkOf(1, UNRECORDED), networkOf(2, UNRECORDED, stopping.signal)]
  server.handle(ROW, async function* () {
    yield { at: 1 }
  })
  for (const network of [server, client]) {
    running.push(network)
    await network.start()
  }
  const signals = [stopping.signal, caller.signal]
  const listeners = (): number =>
    signals.reduce((sum, signal) => sum + getEventListeners(signal, 'abort').length, 0)
  const before = listeners()
  const peer = await client.connect(server.addresses()[0] as string, caller.signal)
  for (let i = 0; i < 3; i++) {
    for await (const frame of client.ask(peer, ROW, {}, caller.signal)) expect(frame).toEqual({ at: 1 })
  }
  await expect(client.connect('/ip4/127.0.0.1/tcp/1', caller.signal)).rejects.toThrow()
  expect(listeners()).toBe(before)
  expect(any.mock.calls.flat(2).filter((signal) => signals.includes(signal))).toEqual([])
})
