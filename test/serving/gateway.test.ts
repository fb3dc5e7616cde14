import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest'
import { startNode } from '../../src/cli/running-node.ts'
import { compositionDigest } from '../../src/composition/compose.ts'
import {
  type ComposedExpert,
  type CompositionFile,
  encodeCompositionFile,
} from '../../src/composition/composition-file.ts'
import type { Selection } from '../../src/composition/selection.ts'
import { type Digest, digestOf } from '../../src/lib/bytes.ts'
import { InputError } from '../../src/lib/errors.ts'
import { type GatewayInit, openGateway } from '../../src/serving/gateway.ts'
import { parseRequest } from '../../src/serving/openai.ts'
import { parseUpstreamUrl } from '../../src/serving/upstream-engine.ts'
import { closeServers, serve } from '../support/fake-server.ts'
import { cleanUp, folder } from '../support/folders.ts'
import { CHARACTERS, fixedEngine } from '../support/inference-api.ts'
import { network, publish, run, type TestNetwork, train } from '../support/network.ts'
import { tinyModel } from '../support/tiny-model.ts'

const DAY = 86_400
const NOW = 1_800_000_000
const url = parseUpstreamUrl('http://127.0.0.1:9/v1')
const digest = (n: number): Digest => digestOf(Uint8Array.of(n))
const consortium = digest(1)
const publicModel = digest(2)
const experts: ComposedExpert[] = ['law', 'medicine'].map((name, i) => ({
  id: digest(10 + i),
  name,
  institution: 'Archives',
  license: 'CC0-1.0',
  expiresAt: NOW + 100 * DAY,
}))
experts.sort((a, b) => (a.id < b.id ? -1 : 1))
const composition: CompositionFile = {
  consortium,
  publicModel,
  composition: compositionDigest(
    publicModel,
    experts.map(({ id }) => id),
    2,
  ),
  topK: 2,
  experts,
}
const idOf = (name: string): Digest => experts.find((expert) => expert.name === name)?.id as Digest

afterAll(cleanUp)

/** A gateway of a node that uses all experts, among them `theorems`, which the upstream lacks. */
async function open(change: Partial<GatewayInit> = {}, file: CompositionFile = composition) {
  const compositionFile = join(await folder(), 'composition.json')
  await writeFile(compositionFile, encodeCompositionFile(file))
  const engine = fixedEngine({
    checkSelection: ({ exclude = [] }) => {
      if (exclude.includes('chemistry')) throw new InputError('not-found', 'no expert named chemistry')
    },
  })
  return openGateway({
    upstream: { url, compositionFile },
    local: { servedBy: 'node', acquire: () => engine },
    consortium,
    publicModel,
    prompts: {
      longestToken: 1,
      vocabularySize: 256,
      turnEnds: [],
      encode: async (prompt) => new Int32Array(1 + String(prompt).length),
    },
    vocabulary: CHARACTERS,
    contextLength: 32,
    whyNotInUse: async () => undefined,
    onComposition: () => undefined,
    now: () => NOW,
    ...change,
  })
}

describe('a gateway', () => {
  it('lets the upstream answer, with the composition of its export', async () => {
    const backend = (await open())({})
    expect(backend.servedBy).toBe('upstream')
    const engine = await backend.acquire()
    expect(engine.composition).toBe(composition.composition)
    expect(engine.experts[0]).toEqual({ institution: 'public model', expert: 'public' })
    expect(engine.experts.slice(1).map(({ expert }) => expert)).toEqual(experts.map(({ name }) => name))
  })

  it.each<[Selection, 'node' | 'upstream']>([
    [{ exclude: ['law'] }, 'node'],
    [{ include: ['law'] }, 'node'],
    [{ include: [] }, 'node'],
    [{ exclude: ['theorems'] }, 'upstream'],
    [{ include: ['law', 'medicine'] }, 'upstream'],
    [{ include: ['Archives'] }, 'upstream'],
  ])('lets the node answer a selection that the upstream cannot honour: %j by %s', async (selection, by) => {
    expect((await open())(selection).servedBy).toBe(by)
  })

  it('lets the node answer where a format must be followed, and compute embeddings', async () => {
    const backendFor = await open()
    const format = { type: 'json_object' }
    const body = { model: 'flexmesh', messages: [{ role: 'user', content: 'a' }], response_format: format }
    expect(backendFor(parseRequest(body, 'chat')).servedBy).toBe('node')
    expect(backendFor({ isEmbedding: true }).servedBy).toBe('node')
  })

  it('refuses a name that matches no expert of the node, whichever backend answers', async () => {
    const engine = await (await open())({ exclude: ['chemistry'] }).acquire()
    expect(() => engine.checkSelection({ exclude: ['chemistry'] })).toThrow('no expert named chemistry')
  })

  it('refuses an export of another consortium or public model', async () => {
    await expect(open({ consortium: digest(3) })).rejects.toMatchObject({ code: 'wrong-consortium' })
    await expect(open({ publicModel: digest(3) })).rejects.toMatchObject({ code: 'wrong-public-model' })
    const forged = { ...composition, composition: digest(3) }
    await expect(open({}, forged)).rejects.toMatchObject({ code: 'wrong-digest' })
  })

  it('does not use the upstream while the node does not use one of its experts, and says why', async () => {
    const reasons = new Map([[idOf('medicine'), 'refused-by-operator, the operator refused it']])
    const backendFor = await open({ whyNotInUse: async (id) => reasons.get(id) })
    const refusal = { status: 503, code: 'expert_not_in_use' }
    await expect(backendFor({}).acquire()).rejects.toMatchObject(refusal)
    await expect(backendFor({}).acquire()).rejects.toThrow(/medicine of Archives.*refused-by-operator/)
    expect(backendFor({ exclude: ['medicine'] }).servedBy).toBe('node')
    reasons.clear()
    await expect(backendFor({}).acquire()).resolves.toBeDefined()
  })

  it('does not use the upstream after the consent for one of its experts has ended', async () => {
    const backendFor = await open({ now: () => NOW + 200 * DAY })
    await expect(backendFor({}).acquire()).rejects.toThrow(/consent ended at 20/)
  })
})

describe('"flexmesh start --upstream"', () => {
  let net: TestNetwork
  let compositionFile: string

  beforeAll(async () => {
    net = await network(['Archives'], await tinyModel())
    const [node] = net.nodes as [TestNetwork['nodes'][number]]
    for (const [name, text] of [
      ['law', 'archive'],
      ['medicine', 'hospital'],
    ] as const) {
      await train(node, name, text)
      await publish(node, name)
    }
    const exported = join(await folder(), 'out')
    await run(node, 'compose', { exportOnnx: exported })
    compositionFile = join(exported, 'composition.json')
    await net.close()
  })
  afterEach(closeServers)

  /** A server that answers for whichever composition it is asked for. */
  const upstream = (): Promise<URL> =>
    serve((_, body, response) => {
      const { model } = JSON.parse(body) as { model: string }
      response.writeHead(200, { 'content-type': 'text/event-stream' })
      const choices = [{ text: 'from elsewhere', finish_reason: 'stop' }]
      response.end(`data: ${JSON.stringify({ model, choices })}\n\ndata: [DONE]\n\n`)
    })

  it('answers by the upstream, by the node, or not at all after an owner has withdrawn', async () => {
    const running = await startNode({
      home: net.homes[0] as string,
      port: 0,
      engine: { threads: 1 },
      upstream: { url: await upstream(), compositionFile },
      onEvent: () => undefined,
    })
    const send = async (path: string, body: object): Promise<unknown> => {
      const answer = await fetch(`http://127.0.0.1:${running.api.port}${path}`, {
        method: 'POST',
        headers: { 'content-type': 'application/json', authorization: `Bearer ${running.apiKey}` },
        body: JSON.stringify(body),
      })
      return answer.json()
    }
    const ask = (more: object): Promise<unknown> =>
      send('/v1/completions', { model: 'flexmesh', prompt: 'Hello', max_tokens: 2, ...more })
    expect(await ask({})).toMatchObject({
      choices: [{ text: 'from elsewhere' }],
      flexmesh: { served_by: 'upstream' },
    })
    expect(await ask({ experts: { exclude: ['medicine'] } })).toMatchObject({
      usage: { completion_tokens: 2 },
      flexmesh: { served_by: 'node' },
    })
    const ofOne = { model: 'flexmesh/Archives/medicine' }
    const byOne = {
      model: ofOne.model,
      flexmesh: {
        served_by: 'node',
        experts: expect.arrayContaining([expect.objectContaining({ share: 0 })]),
      },
    }
    expect(await ask({ ...ofOne, prompt: [[5, 6]] })).toMatchObject({ ...byOne, usage: { prompt_tokens: 2 } })
    const { tokens } = (await send('/tokenize', { prompt: 'Hello', add_special_tokens: false })) as {
      tokens: number[]
    }
    expect(await send('/detokenize', { tokens })).toEqual({ prompt: 'Hello' })
    await run(running.node, 'withdraw', { name: 'law' })
    expect(await ask(ofOne)).toMatchObject({ model: ofOne.model, flexmesh: { served_by: 'node' } })
    expect(await ask({ model: 'flexmesh/Archives/law' })).toMatchObject({
      error: { code: 'model_not_found' },
    })
    expect(await ask({})).toMatchObject({
      error: {
        code: 'expert_not_in_use',
        message: expect.stringMatching(/law of Archives.*: withdrawn, its owner took it back/),
      },
    })
    await running.stop()
  })
})
