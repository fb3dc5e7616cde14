/** Attacks of outsiders on the sockets of a node: unfinished handshakes from one address and from many. */
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest'
import type { FlexMeshNode } from '../../src/node/node.ts'
import { cleanUp } from '../support/folders.ts'
import { type Flood, floodWithSockets } from '../support/hostile/sockets.ts'
import { network, type TestNetwork } from '../support/network.ts'
import { tinyModel } from '../support/tiny-model.ts'

let net: TestNetwork
const floods: Flood[] = []

beforeAll(async () => {
  net = await network(['Hospital', 'Archive'], await tinyModel())
  await net.connected()
})
afterEach(() => {
  for (const flood of floods.splice(0)) flood.stop()
})
afterAll(async () => {
  await net?.close()
  await cleanUp()
})

const address = (): string => (net.nodes[0] as FlexMeshNode).addresses()[0] as string
/** The first bytes of an honest peer: it speaks multistream and wants noise. */
const HELLO = Buffer.from('\x13/multistream/1.0.0\n\x07/noise\n')

describe('an honest member that restarts', () => {
  it.each([
    ['20 sockets a second that send nothing, from its own address', 20, {}],
    ['20 sockets a second that begin a handshake, from its own address', 20, { send: HELLO }],
    [
      '20 sockets a second that send text, from its own address',
      20,
      { send: Buffer.from('GET / HTTP/1.1\r\n\r\n') },
    ],
    [
      '60 sockets a second from 200 other addresses',
      60,
      { sources: Array.from({ length: 200 }, (_, i) => `127.0.1.${i + 1}`) },
    ],
  ] as const)('is connected again in spite of %s', async (_, perSecond, options) => {
    const flood = floodWithSockets(address(), perSecond, options)
    floods.push(flood)
    await net.restart(1, () => flood.reached(2 * perSecond))
    const before = flood.opened()
    await net.connected()
    // Ten seconds of the attack; the number of sockets is the clock of this test.
    expect(flood.opened() - before).toBeLessThan(10 * perSecond)
  })
})
