/** Answers of the node itself while the composition changes: each belongs to exactly one composition. */
import '../../src/lib/node20.ts'
import { EventEmitter, once } from 'node:events'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import type { AcceptedExpert } from '../../src/acceptance/accepted-experts.ts'
import type { PublicModel } from '../../src/checkpoint/public-model.ts'
import { Composer } from '../../src/composition/composer.ts'
import { PromptEncoder } from '../../src/data/prompt-encoder.ts'
import { limit } from '../../src/lib/limits.ts'
import type { Api } from '../../src/serving/app.ts'
import type { Backend } from '../../src/serving/engine.ts'
import { localBackend } from '../../src/serving/local-engine.ts'
import type { Vocabulary } from '../../src/serving/vocabulary.ts'
import {
  type CountingEngine,
  countingEngine,
  loadTinyModel,
  TINY_DIGEST,
  tinyExperts,
} from '../support/compositions.ts'
import { cleanUp } from '../support/folders.ts'
import { appOf, CHARACTERS, eventsOf, getModels, post, refusalOf } from '../support/inference-api.ts'

let publicModel: PublicModel
let prompts: PromptEncoder
beforeAll(async () => {
  publicModel = await loadTinyModel()
  prompts = new PromptEncoder(publicModel.tokenizer, undefined)
})
afterAll(async () => {
  await prompts.close()
  await cleanUp()
})

interface Served {
  readonly app: Api
  readonly composer: Composer
  readonly engine: CountingEngine
  /** Serve the composition of these institutions from now on. */
  use(...institutions: string[]): Promise<void>
  /** Resolves when all places are taken and this number of requests wait in the queue. */
  hasWaiting(count: number): Promise<void>
  /** Lets all generations begin. */
  readonly open: () => void
}

/** The API of a node with the experts of Court and Hospital. No generation begins before `open`. */
async function serveTiny(vocabulary: Vocabulary = publicModel.tokenizer): Promise<Served> {
  const all = tinyExperts('Court', 'Hospital')
  let inUse: readonly AcceptedExpert[] = all
  const engine = countingEngine()
  const composer = new Composer({
    engine,
    publicModel,
    publicModelDigest: TINY_DIGEST,
    topK: 3,
    router: 'rows',
    weights: 'fp32',
    experts: () => inUse,
    publicStatistics: () => Promise.reject(new Error('not needed to route by rows')),
    onComposed: () => undefined,
  })
  await composer.recompose()
  const local = localBackend(composer, prompts, vocabulary, [])
  const { promise: opened, resolve: open } = Promise.withResolvers<void>()
  const arrivals = new EventEmitter()
  /** A request is checked before it enters the queue, and again when it leaves it. */
  let checked = 0
  const gated: Backend = {
    servedBy: 'node',
    acquire: () => {
      const held = local.acquire()
      return {
        ...held,
        checkSelection: (selection) => {
          checked++
          arrivals.emit('checked')
          held.checkSelection(selection)
        },
        generate: async function* (...asked) {
          await opened
          yield* held.generate(...asked)
        },
      }
    },
  }
  return {
    app: appOf(gated),
    composer,
    engine,
    use: async (...institutions) => {
      inUse = all.filter(({ institution }) => institutions.includes(institution))
      await composer.recompose()
    },
    hasWaiting: async (count) => {
      while (checked < 2 * limit('servedStreams') + count) await once(arrivals, 'checked')
      // Between its check and the queue, a request waits for nothing but resolved promises.
      await new Promise((resolve) => setImmediate(resolve))
    },
    open,
  }
}

const ask = { prompt: 'Hello', max_tokens: 3, temperature: 0 }

interface Attribution {
  readonly composition: string
  readonly experts: readonly { readonly institution: string; readonly share: number }[]
}
async function attributionOf(response: Response): Promise<Attribution> {
  expect(response.status).toBe(200)
  return ((await response.json()) as { flexmesh: Attribution }).flexmesh
}
const institutionsOf = ({ experts }: Attribution): string[] => experts.map(({ institution }) => institution)

describe('an answer of the node', () => {
  it('belongs to the composition that is served when the request leaves the queue', async () => {
    const { app, composer, engine, use, hasWaiting, open } = await serveTiny()
    const before = composer.served.composition.digest
    const running = Array.from({ length: limit('servedStreams') }, () => post(app, ask))
    await hasWaiting(0)
    const waiting = post(app, ask)
    const unaware = post(app, { ...ask, experts: { exclude: ['Hospital'] } })
    await hasWaiting(2)
    await use('Court')
    open()

    for (const response of await Promise.all(running)) {
      const attribution = await attributionOf(response)
      expect(attribution.composition).toBe(before)
      expect(institutionsOf(attribution).sort()).toEqual(['Court', 'Hospital', 'public model'])
      const shares = attribution.experts.map(({ share }) => share)
      expect(shares.every((share) => share > 0)).toBe(true)
      expect(shares.reduce((sum, share) => sum + share, 0)).toBeCloseTo(1, 6)
    }
    const attribution = await attributionOf(await waiting)
    expect(attribution.composition).toBe(composer.served.composition.digest)
    expect(attribution.composition).not.toBe(before)
    expect(institutionsOf(attribution)).toEqual(['public model', 'Court'])
    expect(attribution.experts.reduce((sum, { share }) => sum + share, 0)).toBeCloseTo(1, 6)
    expect(await refusalOf(await unaware)).toEqual([400, 'not-found'])

    await composer.dispose()
    expect(engine.counts.disposed).toBe(engine.counts.compiled)
  })

  it('is streamed to its end by the composition with which it began', async () => {
    const { app, composer, engine, use, open } = await serveTiny()
    const before = composer.served.composition.digest
    open()
    const response = await post(app, { ...ask, max_tokens: 20, stream: true })
    await use()
    const events = eventsOf(await response.text())
    expect(events.at(-1)).toBe('[DONE]')
    const last = JSON.parse(events.at(-2) as string) as { flexmesh: Attribution }
    expect(last.flexmesh.composition).toBe(before)
    expect(last.flexmesh.experts).toHaveLength(3)
    await composer.dispose()
    expect(engine.counts.disposed).toBe(engine.counts.compiled)
  })

  it('lets go of its composition when the client leaves', async () => {
    const { app, composer, engine, hasWaiting, open } = await serveTiny()
    const client = new AbortController()
    const running = Array.from({ length: limit('servedStreams') }, () =>
      post(app, ask, { signal: client.signal }),
    )
    await hasWaiting(0)
    client.abort()
    open()
    for (const response of await Promise.all(running)) expect(response.status).toBe(500)
    await composer.dispose()
    expect(engine.counts.disposed).toBe(engine.counts.compiled)
  })

  it('ends with the text that the tokenizer held back, without counting a token for it', async () => {
    const { app, composer, open } = await serveTiny({
      ...CHARACTERS,
      decodeStream: () => ({ push: () => 'x', flush: () => '\ufffd' }),
    })
    open()
    expect(await (await post(app, ask)).json()).toMatchObject({
      choices: [{ text: 'xxx\ufffd', finish_reason: 'length' }],
      usage: { completion_tokens: 3 },
    })
    await composer.dispose()
  })

  it('that fills the context ends because of its length', async () => {
    const { app, composer, open } = await serveTiny()
    open()
    const { tokenizer, config } = publicModel
    let prompt = 'a'
    while (tokenizer.encode(`${prompt} a`).length + 4 <= config.maxPositionEmbeddings) prompt += ' a'
    const body = await (await post(app, { ...ask, prompt, max_tokens: 50 })).json()
    expect(body).toMatchObject({ choices: [{ finish_reason: 'length' }] })
    const { usage } = body as { usage: { total_tokens: number } }
    expect(usage.total_tokens).toBe(config.maxPositionEmbeddings + 1)
    await composer.dispose()
  })

  it('is of one expert beside the public model if the request names the model of that expert', async () => {
    const { app, composer, open } = await serveTiny()
    open()
    const listed = (await (await getModels(app)).json()) as { data: { id: string }[] }
    const [whole, ...single] = listed.data.map(({ id }) => id)
    expect([whole, single.length]).toEqual(['flexmesh', 2])
    for (const model of single) {
      const { experts } = await attributionOf(await post(app, { ...ask, model }))
      const used = experts.filter(({ share }) => share > 0).map(({ institution }) => institution)
      expect(used).toEqual(['public model', model.split('/')[1]])
    }
    await composer.dispose()
  })

  it('is the same for the same seed, and varies without one', async () => {
    const { app, composer, open } = await serveTiny()
    open()
    const textOf = async (change: object): Promise<string> => {
      const response = await post(app, { ...ask, max_tokens: 8, temperature: 1, ...change })
      return ((await response.json()) as { choices: { text: string }[] }).choices[0]?.text ?? ''
    }
    expect(await textOf({ seed: 3 })).toBe(await textOf({ seed: 3 }))
    expect(new Set([await textOf({}), await textOf({}), await textOf({})]).size).toBeGreaterThan(1)
    await composer.dispose()
  })

  it('follows the biases and penalties of its request', async () => {
    const { app, composer, open } = await serveTiny()
    open()
    const { tokenizer } = publicModel
    const [b, c] = [...tokenizer.encode('bc')] as [number, number]
    const textOf = async (change: object): Promise<string> => {
      const response = await post(app, { ...ask, max_tokens: 6, ...change })
      return ((await response.json()) as { choices: { text: string }[] }).choices[0]?.text ?? ''
    }
    const bias = { logit_bias: { [b]: 100, [c]: 90 } }
    expect(await textOf(bias)).toBe('bbbbbb')
    // The penalty exceeds the difference of the biases, so the answer cannot consist of b alone.
    expect(await textOf({ logit_bias: { [b]: 100, [c]: 99 }, presence_penalty: 2 })).toMatch(/^b*c/)
    expect(await textOf({ ...bias, logit_bias: { [b]: -100, [c]: 100 } })).toBe('cccccc')
    expect(await refusalOf(await post(app, { ...ask, logit_bias: { [tokenizer.vocabSize]: 1 } }))).toEqual([
      400,
      'bad-field',
    ])
    await composer.dispose()
  })
})
