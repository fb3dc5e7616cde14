import { readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { startNode } from '../../src/cli/start.ts'
import type { CompositionFile } from '../../src/composition/composition-file.ts'
import type { Selection } from '../../src/composition/selection.ts'
import { digestOf } from '../../src/lib/bytes.ts'
import type { FlexMeshNode } from '../../src/node/node.ts'
import type { ServingEngine } from '../../src/serving/app.ts'
import { type Gateway, openGateway } from '../../src/serving/gateway.ts'
import { parseUpstreamUrl } from '../../src/serving/upstream-engine.ts'
import { closeServers, serve } from '../support/fake-server.ts'
import { cleanUp, EXAMPLES, folder, network, run, type TestNetwork, tinyModel } from '../support/network.ts'

const DAY = 86_400
const url = parseUpstreamUrl('http://127.0.0.1:9/v1')
let net: TestNetwork
let node: FlexMeshNode
let gateway: Gateway
let exported: string
let clock = Math.floor(Date.now() / 1000)

/** Stands for the node's own engine; every name that the composition has is known. */
const local = (): ServingEngine => ({
  servedBy: 'node',
  composition: node.composer.served.composition.digest,
  experts: [],
  contextLength: 32,
  countTokens: (text) => text.length,
  checkSelection: () => {
    throw new Error('checked by the node')
  },
  generate: async function* () {},
})

beforeAll(async () => {
  net = await network(['Archives'], await tinyModel(), { now: () => clock })
  node = net.nodes[0] as FlexMeshNode
  for (const [name, text] of [
    ['law', 'archive'],
    ['medicine', 'hospital'],
    ['theorems', 'university'],
  ] as const) {
    await run(node, 'train', { name, data: [join(EXAMPLES, text, 'text')], steps: 1 })
    await run(node, 'publish', { name })
  }
  exported = join(await folder(), 'out')
  await run(node, 'compose', { exclude: ['theorems'], exportOnnx: exported })
  gateway = await openGateway(node, local, { url, compositionFile: join(exported, 'composition.json') })
}, 120_000)
afterAll(cleanUp)

const servedBy = async (selection: Selection): Promise<string> =>
  (await gateway.engineFor(selection)).servedBy

describe('a node in front of an upstream', () => {
  it('lets it answer, under the composition that it serves', async () => {
    const engine = await gateway.engineFor({})
    expect(engine.servedBy).toBe('upstream')
    expect(engine.composition).toBe(gateway.composition.composition)
    expect(engine.composition).not.toBe(node.composer.served.composition.digest)
    expect(engine.experts).toHaveLength(3)
  })

  it('answers itself where a selection leaves out what the upstream cannot leave out', async () => {
    expect(await servedBy({ exclude: ['law'] })).toBe('node')
    expect(await servedBy({ include: ['law'] })).toBe('node')
    expect(await servedBy({ include: [] })).toBe('node')
    expect(await servedBy({ exclude: ['theorems'] })).toBe('upstream')
    expect(await servedBy({ include: ['law', 'medicine'] })).toBe('upstream')
    expect(await servedBy({ include: ['Archives'] })).toBe('upstream')
  })

  it('lets the node check the names of a selection', async () => {
    const engine = await gateway.engineFor({ exclude: ['chemistry'] })
    expect(() => engine.checkSelection({} as never)).toThrow('checked by the node')
  })

  it('refuses an export that is not of this consortium or public model', async () => {
    const file = JSON.parse(await readFile(join(exported, 'composition.json'), 'utf8')) as CompositionFile
    const opened = async (change: Partial<CompositionFile>): Promise<unknown> => {
      const path = join(await folder(), 'composition.json')
      await writeFile(path, JSON.stringify({ ...file, ...change }))
      return openGateway(node, local, { url, compositionFile: path })
    }
    const other = digestOf(Uint8Array.of(1))
    await expect(opened({ consortium: other })).rejects.toMatchObject({ code: 'wrong-consortium' })
    await expect(opened({ composition: other })).rejects.toMatchObject({ code: 'wrong-digest' })
  })

  it('stops using it when the operator refuses an expert, and names it and why', async () => {
    await run(node, 'refuse', { package: 'medicine' })
    const refusal = { status: 503, code: 'expert_not_in_use' }
    await expect(gateway.engineFor({})).rejects.toMatchObject(refusal)
    await expect(gateway.engineFor({})).rejects.toThrow(/medicine of Archives.*refused-by-operator/)
    expect(await servedBy({ exclude: ['medicine'] })).toBe('node')
    await run(node, 'accept', { package: 'medicine' })
    expect(await servedBy({})).toBe('upstream')
  })

  it('stops using it when consent ends', async () => {
    const now = clock
    clock += 200 * DAY
    await expect(gateway.engineFor({})).rejects.toThrow(/consent ended at 20/)
    clock = now
    expect(await servedBy({})).toBe('upstream')
  })

  it('stops using it when an owner withdraws', async () => {
    await run(node, 'withdraw', { name: 'law' })
    await expect(gateway.engineFor({})).rejects.toMatchObject({ status: 503, code: 'expert_not_in_use' })
    await expect(gateway.engineFor({})).rejects.toThrow(/law of Archives.*withdrawn, its owner took it back/)
    expect(await servedBy({ exclude: ['law'] })).toBe('node')
  })

  it('is what "flexmesh start --upstream" runs', async () => {
    const dir = join(await folder(), 'out')
    await run(node, 'compose', { exportOnnx: dir })
    await node.close()
    const upstream = await serve((_, body, response) => {
      const { model } = JSON.parse(body) as { model: string }
      response.writeHead(200, { 'content-type': 'text/event-stream' })
      const choices = [{ text: 'from elsewhere', finish_reason: 'stop' }]
      response.end(`data: ${JSON.stringify({ model, choices })}\n\ndata: [DONE]\n\n`)
    })
    const running = await startNode({
      home: net.homes[0] as string,
      port: 0,
      engine: { threads: 1 },
      upstream: { url: upstream, compositionFile: join(dir, 'composition.json') },
      onEvent: () => undefined,
    })
    const ask = async (more: object): Promise<unknown> => {
      const answer = await fetch(`http://127.0.0.1:${running.api.port}/v1/completions`, {
        method: 'POST',
        headers: { 'content-type': 'application/json', authorization: `Bearer ${running.apiKey}` },
        body: JSON.stringify({ model: 'flexmesh', prompt: 'Hello', max_tokens: 2, ...more }),
      })
      return answer.json()
    }
    expect(await ask({})).toMatchObject({
      choices: [{ text: 'from elsewhere' }],
      flexmesh: { served_by: 'upstream' },
    })
    expect(await ask({ experts: { exclude: ['medicine'] } })).toMatchObject({
      usage: { completion_tokens: 2 },
      flexmesh: { served_by: 'node' },
    })
    await running.stop()
    await closeServers()
  })
})
