/** What private trainings take of the account, through the node that runs them. */
import { rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import type { FlexMeshNode } from '../../src/node/node.ts'
import type { TrainRequest } from '../../src/owner/train-expert.ts'
import { cleanUp, folder } from '../support/folders.ts'
import { network, run, type TestNetwork } from '../support/network.ts'
import { codeOfAsync } from '../support/packages.ts'
import { tinyModel } from '../support/tiny-model.ts'

const EPSILON = 50

let net: TestNetwork
let node: FlexMeshNode
let data: string

beforeEach(async () => {
  net = await network(['Hospital'], await tinyModel())
  ;[node] = net.nodes as [FlexMeshNode]
  data = join(await folder(), 'notes.jsonl')
  const notes = Array.from({ length: 300 }, (_, i) => JSON.stringify({ text: `note ${i} of ward ${i % 7}` }))
  await writeFile(data, notes.join('\n'))
})
afterEach(async () => {
  await net.close()
  await cleanUp()
})

const request = (name: string): TrainRequest => ({
  name,
  paths: [data],
  steps: 3,
  accumulate: 1,
  rank: 1,
  seed: 1,
  privacy: { unit: 'document', epsilon: EPSILON },
})

/** Train until the end, or until `stop` returns true for a step. */
async function train(
  name: string,
  stop: (step: number) => boolean | Promise<boolean> = () => false,
): Promise<void> {
  const abort = new AbortController()
  try {
    for await (const event of node.trainings.train(request(name), abort.signal)) {
      if (event.stage === 'step' && (await stop(event.step))) abort.abort()
    }
  } catch (error) {
    if (!abort.signal.aborted) throw error
  }
}

/** The largest epsilon that a document has spent. */
const spent = async (): Promise<number | null | undefined> =>
  (await node.trainings.budget.report()).groups[0]?.epsilon

describe('a private training', () => {
  it('has paid before its first step, keeps what its checkpoint holds when it is stopped, and pays once in all', async () => {
    let before: number | null | undefined
    await train('ward', () => true)
    const kept = (await spent()) as number
    expect(kept).toBeLessThan(EPSILON)
    await train('ward', async (step) => {
      if (step === 2) before = await spent()
      return false
    })
    expect(before).toBeGreaterThan(0.9 * EPSILON)
    const paid = await spent()
    expect(paid).toBe(before)
    expect(paid).toBeLessThanOrEqual(EPSILON * (1 + 1e-9))
  })

  it('is charged again under the same name after its folder was removed, unless that exceeds the limit, and is published at no cost', async () => {
    await train('ward')
    await rm(join(node.paths.training, 'ward'), { recursive: true })
    const delta = (await node.trainings.budget.report()).delta
    await node.trainings.budget.setLimit({ epsilon: 1.1 * EPSILON, delta })
    const paid = await spent()
    expect(await codeOfAsync(() => train('ward'))).toBe('over-budget')
    expect(await spent()).toBe(paid)
    await node.trainings.budget.setLimit(undefined)
    await train('ward')
    const both = await spent()
    expect(both).toBeGreaterThan(1.2 * EPSILON)
    const { summary } = await run<{ summary: object }>(node, 'publish', {
      name: 'ward',
      noAudit: true, // Its documents are too short for an audit.
    })
    expect(summary).toMatchObject({ privacy: { mechanism: 'dp-sgd', tunedRuns: 2 } })
    expect(await spent()).toBe(both)
  })
})
