/** A node that computes in threads reaches the same results, to the bit, as one that computes in the main thread. */
import { readFile } from 'node:fs/promises'
import { afterEach, expect, it } from 'vitest'
import type { FlexMeshNode } from '../../src/node/node.ts'
import { trainingDirs } from '../../src/owner/training-folder.ts'
import { cleanUp } from '../support/folders.ts'
import { inUse, network, publish, run, type TestNetwork } from '../support/network.ts'
import { shortText } from '../support/texts.ts'
import { tinyModel } from '../support/tiny-model.ts'

const open: TestNetwork[] = []
afterEach(async () => {
  for (const net of open.splice(0)) await net.close()
  await cleanUp()
})

interface Results {
  readonly expert: Buffer
  readonly measured: readonly unknown[]
  readonly evaluation: unknown
}

/** Two nodes; the first trains and publishes an expert, the second judges and evaluates it. */
async function results(modelDir: string, text: string, inThreads: boolean): Promise<Results> {
  const net = await network(
    ['Hospital', 'Archive'],
    modelDir,
    inThreads ? { jobThreads: { threads: 2 } } : {},
  )
  open.push(net)
  const [hospital, archive] = net.nodes as [FlexMeshNode, FlexMeshNode]
  await net.connected()
  await run(hospital, 'train', { name: 'law', data: [text], steps: 2 })
  await publish(hospital, 'law')
  await net.accepted(1)
  const measured = await Promise.all(
    net.nodes.map(async (node) => (await node.parts.verdicts.get(inUse(node)[0] as never))?.measurement),
  )
  const evaluation = await run(archive, 'evaluate', { data: [{ name: 'text', path: text }], optOut: true })
  const { expert } = trainingDirs(hospital.paths.training, 'law')
  const { experts: _, ...scores } = evaluation as Record<string, unknown>
  return { expert: await readFile(expert), measured, evaluation: scores }
}

it('trains, judges and evaluates to the same bits in threads', async () => {
  const modelDir = await tinyModel()
  const text = await shortText('hospital')
  const here = await results(modelDir, text, false)
  const inThreads = await results(modelDir, text, true)
  expect(inThreads.expert.equals(here.expert)).toBe(true)
  expect(inThreads.measured).toEqual(here.measured)
  expect(inThreads.evaluation).toEqual(here.evaluation)
})
