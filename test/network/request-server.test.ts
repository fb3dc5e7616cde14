import { setImmediate } from 'node:timers/promises'
import { afterEach, expect, it } from 'vitest'
import { limit } from '../../src/lib/limits.ts'
import type { Libp2pNetwork } from '../../src/network/libp2p-network.ts'
import type { ProtocolRow } from '../../src/network/protocol.ts'
import { networkOf } from '../support/egress-nodes.ts'
import { UNRECORDED } from '../support/transport.ts'

/** Frames as large as those of statements, of which two fill the places of a peer. */
const ROW: ProtocolRow = {
  id: '/test/large-frames/1.0.0',
  maxRequestBytes: 1024,
  maxResponseBytes: (limit('sentFramesPerPeer') / 2) * limit('envelopeBytes'),
  maxResponseFrames: 4,
  timeoutMs: 60_000,
  timeoutPer: 'answer',
  maxInboundStreams: 4,
  quota: { burst: 10, everyMs: 1 },
  guests: 'none',
}
const TURNS = 500
const never = new AbortController().signal
const running: Libp2pNetwork[] = []

afterEach(async () => {
  await Promise.all(running.splice(0).map((network) => network.stop()))
})

it('creates few frames at once for one peer, and answers all of its requests', async () => {
  const [server, client] = [networkOf(1, UNRECORDED), networkOf(2, UNRECORDED)]
  let [begun, active, most] = [0, 0, 0]
  const twoBegun = Promise.withResolvers<void>()
  server.handle(ROW, async function* () {
    if (++begun === 2) twoBegun.resolve()
    most = Math.max(most, ++active)
    await twoBegun.promise
    // Time for the other requests to arrive.
    for (let i = 0; i < TURNS; i++) await setImmediate()
    active--
    yield { at: 1 }
  })
  for (const network of [server, client]) {
    running.push(network)
    await network.start()
  }
  const peer = await client.connect(server.addresses()[0] as string, never)
  const answers = Array.from({ length: 4 }, async () => {
    for await (const frame of client.ask(peer, ROW, {}, never)) expect(frame).toEqual({ at: 1 })
  })
  await Promise.all(answers)
  expect([begun, most]).toEqual([4, 2])
})
