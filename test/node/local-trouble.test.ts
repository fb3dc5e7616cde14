/** Problems of one node's own disk, which say nothing about the packages of others. */
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import { plantTampered } from '../../src/cli/demo-hostile.ts'
import '../../src/lib/node20.ts'
import { InputError } from '../../src/lib/errors.ts'
import type { FlexMeshNode } from '../../src/node/node.ts'
import { cleanUp } from '../support/folders.ts'
import { inUse, network, outcomes, publish, type TestNetwork, train } from '../support/network.ts'
import { tinyModel } from '../support/tiny-model.ts'

let net: TestNetwork
let hospital: FlexMeshNode
let archive: FlexMeshNode

beforeEach(async () => {
  net = await network(['Hospital', 'Archive'], await tinyModel())
  ;[hospital, archive] = net.nodes as [FlexMeshNode, FlexMeshNode]
  await net.connected()
  await train(archive, 'law', 'archive')
})
afterEach(async () => {
  await net.close()
  await cleanUp()
})

describe('a node with a full disk', () => {
  it('gives no verdict on a package, and accepts it once there is room', async () => {
    const attempt = Promise.withResolvers<void>()
    const full = vi.spyOn(hospital.blobs, 'beginPartial').mockImplementation(async () => {
      attempt.resolve()
      throw new InputError('disk-full', 'no space left')
    })
    await publish(archive, 'law')
    await attempt.promise
    await hospital.settled()
    expect(await outcomes(hospital)).toEqual([])
    full.mockRestore()
    await archive.announce()
    await net.accepted(1)
    expect(await outcomes(hospital)).toEqual(['accepted'])
  })
})

describe('a node whose disk fails in a way that it does not expect', () => {
  it('judges the package later, and keeps running', async () => {
    const attempt = Promise.withResolvers<void>()
    vi.spyOn(hospital.blobs, 'readAll').mockImplementationOnce(async () => {
      attempt.resolve()
      throw new Error('EIO: i/o error, read')
    })
    await publish(archive, 'law')
    await attempt.promise
    await hospital.settled()
    expect(await outcomes(hospital)).toEqual([])
    await archive.announce()
    await net.accepted(1)
  })
})

describe('a node whose own log holds a statement that it did not sign', () => {
  it('opens, refuses that statement and composes the rest', async () => {
    const id = await publish(archive, 'law')
    const again = await net.restart(1, () => plantTampered(archive.paths.root, archive.identity.peerId))
    await again.settled()
    expect(await outcomes(again)).toContain('bad-signature')
    expect(inUse(again)).toEqual([id])
  })
})
