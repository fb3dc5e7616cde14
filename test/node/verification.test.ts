/** Damage of files on disk while a node runs, and packages that end the node or a thread of it. */
import { open, readFile, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import { JobThreads } from '../../src/jobs/threads.ts'
import { type Digest, utf8 } from '../../src/lib/bytes.ts'
import type { FlexMeshNode } from '../../src/node/node.ts'
import { reconsider } from '../../src/node/operator.ts'
import { Catalogue } from '../../src/store/catalogue.ts'
import { cleanUp } from '../support/folders.ts'
import { inUse, network, outcomes, publish, type TestNetwork, train } from '../support/network.ts'
import { tinyModel } from '../support/tiny-model.ts'

let net: TestNetwork
let hospital: FlexMeshNode
let archive: FlexMeshNode
let law: Digest

beforeEach(async () => {
  net = await network(['Hospital', 'Archive'], await tinyModel())
  ;[hospital, archive] = net.nodes as [FlexMeshNode, FlexMeshNode]
  await net.connected()
  await train(archive, 'law', 'archive')
  law = await publish(archive, 'law')
  await net.accepted(1)
})
afterEach(async () => {
  await net.close()
  await cleanUp()
})

async function changeByte(path: string): Promise<void> {
  const file = await open(path, 'r+')
  const { size } = await file.stat()
  const { buffer } = await file.read(new Uint8Array(1), 0, 1, size - 1)
  await file.write(Uint8Array.of((buffer[0] as number) ^ 1), 0, 1, size - 1)
  await file.close()
}

/** A whole pass over all files of a node. */
async function verify(node: FlexMeshNode): Promise<void> {
  await node.verifier.stopped()
  await node.verifier.run()
}

describe('a node whose disk damages the file of a package in use', () => {
  it('stops using it, fetches it again and uses it again', async () => {
    const [{ sha256 }] = (await hospital.accepted.manifestOf(law)).files
    const path = hospital.parts.blobs.path(sha256)
    const whole = await readFile(path)
    await changeByte(path)
    await verify(hospital)
    await net.watch.until('the package to be used again', () => inUse(hospital).includes(law))
    expect((await readFile(path)).equals(whole)).toBe(true)
    expect(hospital.composer.serves(law)).toBe(true)
  })
})

describe('a node whose disk damages the public model', () => {
  const path = (node: FlexMeshNode): string => join(node.paths.publicModel, 'model.safetensors')
  const damage = async (node: FlexMeshNode): Promise<void> => {
    const bytes = await readFile(path(node))
    await rm(path(node)) // It may be a second name of the copy in the store.
    await writeFile(path(node), bytes)
    await changeByte(path(node))
  }

  it('must stop, and is repaired from its own copy when it starts again', async () => {
    const whole = await readFile(path(hospital))
    await damage(hospital)
    const failure = expect(hospital.failure).rejects.toMatchObject({
      code: 'io',
      message: expect.stringMatching(/has damaged .*model\.safetensors.*start the node again/),
    })
    await verify(hospital)
    await failure
    const again = await net.restart(0)
    expect((await readFile(path(again))).equals(whole)).toBe(true)
    expect(inUse(again)).toEqual([law])
  })

  it('does not start with a damaged copy, and says which file must be replaced', async () => {
    const whole = await readFile(path(hospital))
    await damage(hospital)
    await verify(hospital)
    const { files } = hospital.charter.publicModel
    const weights = files.find(({ role }) => role === 'weights')
    const refused = net.restart(0, () => changeByte(hospital.parts.blobs.path(weights?.sha256 as Digest)))
    await expect(refused).rejects.toMatchObject({
      code: 'io',
      message: expect.stringMatching(/and the copy of it; replace it by model\.safetensors from/),
    })
    await writeFile(path(hospital), whole)
    expect(inUse(await net.open(0))).toEqual([law])
  })
})

describe('a package during whose judgement the process has ended', () => {
  /** As if the process had ended this number of times. */
  const ended = (times: number) => async (): Promise<void> => {
    const catalogue = await Catalogue.open(hospital.paths.root)
    await catalogue.put('judgings', law, utf8(String(times)))
    await catalogue.close()
  }

  it('is judged again before it is used', async () => {
    const again = await net.restart(0, ended(1))
    await again.settled()
    expect(inUse(again)).toEqual([law])
    expect(await again.parts.verdicts.unendedJudgings(law)).toBe(0)
  })

  it('waits for the operator after the second time, and the node serves without it', async () => {
    const again = await net.restart(0, ended(2))
    await again.settled()
    expect(inUse(again)).toEqual([])
    const [report] = await again.packages()
    expect(report).toMatchObject({
      id: law,
      state: 'failed',
      progress: { isFinal: true, needsOperator: true },
    })
    await reconsider(again.parts, 'law')
    await again.settled()
    expect(inUse(again)).toEqual([law])
    expect(await again.parts.verdicts.unendedJudgings(law)).toBe(0)
  })
})

describe('a package whose judgement ends its thread', () => {
  it.each([
    ['exits', 'process.exit(7)'],
    ['throws outside of its job', "setImmediate(() => { throw new Error('Model data size exceeds') })"],
    [
      'runs out of memory',
      "throw Object.assign(new Error('heap limit'), { code: 'ERR_WORKER_OUT_OF_MEMORY' })",
    ],
  ])('has a state while the node serves, and a verdict after the next start, if it %s', async (_, dies) => {
    const source = `
      import { parentPort as port } from 'node:worker_threads'
      port.on('message', () => { ${dies} })`
    const entry = new URL(`data:text/javascript,${encodeURIComponent(source)}`)
    const threads = new JobThreads({ engine: {}, publicModel: '', training: '', root: '', entry })
    const run = hospital.activities.run.bind(hospital.activities)
    vi.spyOn(hospital.activities, 'run').mockImplementation(async function* (name, request, signal) {
      return yield* (name === 'judge' ? threads : { run }).run(name, request, signal)
    })
    const second = await publish(archive, 'law', { domain: 'second' })
    await net.watch.until('a failed judgement', () => hospital.parts.states.get(second)?.kind === 'failed')
    expect(hospital.composer.serves(second)).toBe(false)
    expect(hospital.composer.acquire().release()).toBeUndefined()
    await threads.close()
    const again = await net.restart(0)
    await net.watch.until('the second package', () => inUse(again).includes(second))
    expect(await outcomes(again)).toContain('accepted')
  })
})
