/** A node that asks a guarantee of the experts of others, and what owners publish about their trainings. */
import { readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { changeMaxEpsilon } from '../../src/node/found.ts'
import type { FlexMeshNode } from '../../src/node/node.ts'
import type { DpParameters } from '../../src/privacy/mechanism.ts'
import { cleanUp } from '../support/folders.ts'
import { inUse, network, outcomes, publish, run, type TestNetwork, train } from '../support/network.ts'
import { codeOfAsync } from '../support/packages.ts'
import { tinyModel } from '../support/tiny-model.ts'

/** As a training with --epsilon 2 records it. */
const GUARANTEE: DpParameters = {
  unit: 'document',
  epsilon: 2,
  delta: 5e-5,
  truncationDelta: 0,
  clip: 1,
  noiseMultiplier: 1.238525,
  sampleRate: 0.032,
  steps: 200,
  expectedBatch: 64,
  capacity: 128,
  units: 2000,
  windowsPerUnit: 1,
}

let net: TestNetwork
let hospital: FlexMeshNode
let archive: FlexMeshNode

beforeEach(async () => {
  net = await network(['Hospital', 'Archive'], await tinyModel())
  ;[hospital, archive] = net.nodes as [FlexMeshNode, FlexMeshNode]
  await net.introduced()
  await train(archive, 'law', 'archive')
})
afterEach(async () => {
  await net.close()
  await cleanUp()
})

/** Let the finished training `law` be one with a guarantee. */
async function guarantee(change: Partial<DpParameters> = {}): Promise<void> {
  const path = join(archive.paths.training, 'law', 'result.json')
  const result = JSON.parse(await readFile(path, 'utf8')) as object
  await writeFile(path, JSON.stringify({ ...result, privacy: { ...GUARANTEE, ...change } }))
}

const stricter = (epsilonMicro: number | undefined): Promise<FlexMeshNode> =>
  net.restart(0, () => changeMaxEpsilon(hospital.paths.root, epsilonMicro))

/** What the hospital's command `experts` says about every package. */
async function privacy(node: FlexMeshNode): Promise<unknown[]> {
  const { packages } = await run<{ packages: { privacy?: unknown }[] }>(node, 'experts')
  return packages.map((one) => one.privacy)
}

describe('an expert that was trained without a guarantee', () => {
  it('says so, leaves a node that asks for one, and returns when the node no longer does', async () => {
    await publish(archive, 'law')
    await net.accepted(1)
    expect(await privacy(hospital)).toEqual([{ mechanism: 'none' }])
    const strict = await stricter(8_000_000)
    await net.watch.until('the refusal', async () => (await outcomes(strict)).includes('privacy-required'))
    expect(inUse(strict)).toEqual([])
    const lenient = await stricter(undefined)
    await net.watch.until('the expert', () => inUse(lenient).length === 1)
    expect(await outcomes(lenient)).toEqual(['accepted'])
  })

  it("stays in use at its owner's own node, whatever that asks of others", async () => {
    await publish(archive, 'law')
    await net.accepted(1)
    const strict = await net.restart(1, () => changeMaxEpsilon(archive.paths.root, 1_000_000))
    expect(inUse(strict)).toHaveLength(1)
  })
})

describe('an expert that was trained with a guarantee', () => {
  it('states it without exact figures of the text, and is accepted up to the epsilon that a node asks for', async () => {
    await guarantee()
    const strict = await stricter(2_000_000)
    await net.connected()
    const { summary } = await run<{ summary: Record<string, unknown> }>(archive, 'publish', { name: 'law' })
    expect(summary).toMatchObject({
      training: { documents: 0, tokens: 0 },
      privacy: { mechanism: 'dp-sgd', epsilonMicro: 1_999_999, deltaInverse: 20_000, attestation: 'self' },
    })
    expect(summary['statistics']).toBeUndefined()
    expect((summary['eval'] as { set: string }[]).map(({ set }) => set)).toEqual(['public'])
    await net.accepted(1)
    expect(await privacy(strict)).toMatchObject([{ mechanism: 'dp-sgd' }])
    const stricterStill = await stricter(1_999_998)
    await net.watch.until('the refusal', async () =>
      (await outcomes(stricterStill)).includes('privacy-required'),
    )
  })

  it('is not published with exact router statistics, nor with an epsilon that its parameters do not give', async () => {
    await guarantee()
    expect(await codeOfAsync(() => publish(archive, 'law', { statistics: 'exact' }))).toBe('usage')
    await guarantee({ epsilon: 1 })
    expect(await codeOfAsync(() => publish(archive, 'law'))).toBe('mismatch')
  })
})
