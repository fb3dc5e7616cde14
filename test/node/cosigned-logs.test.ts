/** Members cosign each other's logs: real nodes on loopback. */
import { afterAll, afterEach, describe, expect, it } from 'vitest'
import { cleanUp } from '../support/folders.ts'
import { network, type TestNetwork } from '../support/network.ts'
import { tinyModel } from '../support/tiny-model.ts'

let net: TestNetwork
afterEach(() => net?.close())
afterAll(cleanUp)

describe('three members', () => {
  it('cosign the empty logs of each other', async () => {
    net = await network(['Hospital', 'Archive', 'Court'], await tinyModel())
    await net.watch.until('cosignatures of both others at every log', () =>
      net.nodes.every((node) =>
        net.nodes.every(
          (other) => (node.logs.notes.cosigned(other.identity.peerId, 'final')?.cosigners.length ?? 0) === 2,
        ),
      ),
    )
    expect(1).toBe(1)
  })
})
