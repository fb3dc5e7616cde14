/** Problems of one node's own disk, which say nothing about the packages of others. */
import { appendFile, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import type { Verdict } from '../../src/acceptance/accept.ts'
import { plantTampered } from '../../src/cli/demo-hostile.ts'
import type { Digest } from '../../src/lib/bytes.ts'
import '../../src/lib/node20.ts'
import { InputError } from '../../src/lib/errors.ts'
import { FlexMeshNode } from '../../src/node/node.ts'
import { refuse } from '../../src/node/operator.ts'
import { onnxEngine } from '../../src/tensor/onnx-engine.ts'
import { cleanUp } from '../support/folders.ts'
import { held } from '../support/held.ts'
import { beforeJudging } from '../support/judging.ts'
import { inUse, network, now, outcomes, publish, run, type TestNetwork, train } from '../support/network.ts'
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
    const full = vi.spyOn(hospital.parts.blobs, 'beginPartial').mockImplementation(async () => {
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
    let attempts = 0
    beforeJudging(hospital, async () => {
      attempt.resolve()
      if (attempts++ === 0) throw new Error('EIO: i/o error, read')
    })
    await publish(archive, 'law')
    await attempt.promise
    await hospital.settled()
    expect(await outcomes(hospital)).toEqual([])
    await archive.announce()
    await net.accepted(1)
  })
})

describe('a node whose disk lengthens the file of a package before it is judged', () => {
  it('fetches the file again, and does not blame the publisher for its size', async () => {
    const attempt = Promise.withResolvers<void>()
    let attempts = 0
    beforeJudging(hospital, async (sha256) => {
      if (attempts++ === 0) await appendFile(hospital.parts.blobs.path(sha256 as Digest), 'x')
      attempt.resolve()
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

describe('a node whose disk takes no verdict', () => {
  it('stops using a withdrawn expert at once, and writes it down later', async () => {
    await publish(archive, 'law')
    await net.accepted(1)
    const full = vi
      .spyOn(hospital.catalogue, 'put')
      .mockRejectedValue(new InputError('disk-full', 'no space'))
    await run(archive, 'withdraw', { name: 'law' })
    await net.watch.until('the withdrawal', () => hospital.composer.served.composition.experts.length === 0)
    expect(inUse(hospital)).toEqual([])
    full.mockRestore()
    await hospital.accepted.flush()
    expect(await outcomes(hospital)).toEqual(['withdrawn'])
  })

  it('stops using an expert that the operator refuses, and says that it is not written down', async () => {
    await publish(archive, 'law')
    await net.accepted(1)
    vi.spyOn(hospital.catalogue, 'put').mockRejectedValue(new InputError('disk-full', 'no space'))
    await expect(refuse(hospital.parts, 'law')).rejects.toMatchObject({ code: 'disk-full' })
    expect(hospital.composer.served.composition.experts).toEqual([])
    vi.restoreAllMocks()
  })
})

describe('a file that two versions of a package share', () => {
  it('stays when the older version is superseded while the newer one is judged', async () => {
    await publish(archive, 'law', { domain: 'first' })
    await net.accepted(1)
    const { reached, pass, release } = held()
    beforeJudging(hospital, pass)
    const second = await publish(archive, 'law', { domain: 'second' })
    await reached
    await net.watch.until('the first to be superseded', () => inUse(hospital).length === 0)
    release()
    await net.watch.until('the second', () => inUse(hospital).includes(second))
    const [file] = (await hospital.accepted.manifestOf(second)).files
    expect(await hospital.parts.blobs.has(file.sha256)).toBe(true)
  })

  it('stays when a node opens after a crash between the withdrawal and its effects', async () => {
    const first = await publish(archive, 'law', { domain: 'first' })
    const verdict = await archive.parts.verdicts.get(first)
    const second = await publish(archive, 'law', { domain: 'second' })
    // As if the process had ended before the withdrawal of the first version had any effect.
    await archive.parts.verdicts.put(verdict as Verdict)
    const again = await net.restart(1)
    expect(inUse(again)).toEqual([second])
    expect((await again.parts.verdicts.get(first))?.outcome).toBe('refused')
  })
})

describe('a node that was killed', () => {
  it('deletes the file of a withdrawn package when it opens', async () => {
    const id = await publish(archive, 'law')
    await net.accepted(1)
    const [file] = (await hospital.accepted.manifestOf(id)).files
    const bytes = await hospital.parts.blobs.readAll(file.sha256, file.size)
    await run(archive, 'withdraw', { name: 'law' })
    await net.watch.until('the withdrawal', () => inUse(hospital).length === 0)
    await hospital.parts.blobs.put(bytes)
    const again = await net.restart(0)
    expect(await again.parts.blobs.has(file.sha256)).toBe(false)
  })

  it('keeps the refusal of its operator although the file of the package is gone', async () => {
    const id = await publish(archive, 'law')
    await net.accepted(1)
    const [file] = (await hospital.accepted.manifestOf(id)).files
    await hospital.close()
    await rm(hospital.parts.blobs.path(file.sha256))
    const home = await net.homes[0]
    const alone = await FlexMeshNode.open({ home: home as string, engine: onnxEngine({ threads: 1 }), now })
    await refuse(alone.parts, 'law')
    await alone.close()
    const again = await net.restart(0)
    await archive.announce()
    await again.settled()
    expect(await outcomes(again)).toEqual(['refused-by-operator'])
    await run(again, 'accept', { package: 'law' })
    expect(inUse(again)).toEqual([id])
  })

  it('opens although the prepared public text is damaged', async () => {
    await publish(archive, 'law')
    await net.accepted(1)
    await hospital.close()
    await writeFile(join(hospital.paths.training, '.replay', 'corpus.json'), '{')
    const again = await net.restart(0)
    expect(again.composer.served.composition.router).toBe('solved')
  })

  it('finishes what a crash cut off between a new version and the withdrawal of the older one', async () => {
    await publish(archive, 'law', { domain: 'first' })
    const { catalogue, identity } = archive
    const cut = vi.spyOn(archive.accepted, 'decide')
    const realAppend = catalogue.append.bind(catalogue)
    vi.spyOn(catalogue, 'append').mockImplementation(async (statement, changes) => {
      if (statement.seq === 3) throw new InputError('disk-full', 'no space left')
      return realAppend(statement, changes)
    })
    await expect(publish(archive, 'law', { domain: 'second' })).rejects.toMatchObject({ code: 'disk-full' })
    expect(cut).toHaveBeenCalled()
    vi.restoreAllMocks()
    const again = await net.restart(1)
    await net.watch.until('one version', () => inUse(again).length === 1)
    const [id] = inUse(again)
    expect((await again.accepted.manifestOf(id as Digest)).domain).toBe('second')
    expect((await again.catalogue.tip(identity.peerId))?.seq).toBe(3)
  })
})
