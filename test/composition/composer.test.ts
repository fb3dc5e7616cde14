import '../../src/lib/node20.ts'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import type { AcceptedExpert } from '../../src/acceptance/accepted-experts.ts'
import type { PublicModel } from '../../src/checkpoint/public-model.ts'
import type { ComposedModel } from '../../src/composition/composed-model.ts'
import { Composer, type ComposerInit } from '../../src/composition/composer.ts'
import type { Engine } from '../../src/tensor/engine.ts'
import { countingEngine, loadTinyModel, TINY_DIGEST, tinyExperts } from '../support/compositions.ts'
import { cleanUp } from '../support/folders.ts'
import { madeUpStatistics } from '../support/router-statistics.ts'
import { TINY } from '../support/tiny-model.ts'

let publicModel: PublicModel
beforeAll(async () => {
  publicModel = await loadTinyModel()
})
afterAll(cleanUp)

const statistics = madeUpStatistics(TINY.vocabSize, 1)

interface Composed {
  readonly composer: Composer
  /** Experts in use; a test may change the list. */
  readonly experts: AcceptedExpert[]
  /** Institutions of each composition that was served, in order. */
  readonly served: string[][]
}

function compose(engine: Engine, change: Partial<ComposerInit> = {}): Composed {
  const experts = tinyExperts('Court', 'Hospital').map((one) => ({
    ...one,
    expert: { ...one.expert, statistics },
  }))
  const served: string[][] = []
  const composer = new Composer({
    engine,
    publicModel,
    publicModelDigest: TINY_DIGEST,
    topK: 3,
    router: 'auto',
    weights: 'fp32',
    experts: () => [...experts],
    publicStatistics: async () => statistics,
    onComposed: (composition) => served.push(composition.experts.map(({ institution }) => institution)),
    ...change,
  })
  return { composer, experts, served }
}

async function answer(model: ComposedModel): Promise<number> {
  const completion = {
    prompt: Int32Array.of(0, 17),
    maxTokens: 2,
    sampling: { temperature: 0, topP: 1, seed: 1 },
    selection: {},
  }
  let tokens = 0
  for await (const _ of model.complete(completion, new AbortController().signal)) tokens++
  return tokens
}

describe('a composer', () => {
  it('serves the public model alone, and then the experts in use', async () => {
    const { composer, served } = compose(countingEngine())
    expect(composer.served.composition.experts).toEqual([])
    await composer.recompose()
    expect(composer.served.composition.experts).toHaveLength(2)
    expect(composer.served.composition.router).toBe('solved')
    expect(served).toHaveLength(1)
    await composer.dispose()
  })

  it('leaves out an expert that is withdrawn while the public statistics are computed', async () => {
    const counting = Promise.withResolvers<typeof statistics>()
    const { composer, experts } = compose(countingEngine(), { publicStatistics: () => counting.promise })
    const composing = composer.recompose()
    const withdrawn = experts.pop()
    counting.resolve(statistics)
    await composing
    const ids = composer.served.composition.experts.map(({ id }) => id)
    expect(ids).toHaveLength(1)
    expect(ids).not.toContain(withdrawn?.id)
    await composer.dispose()
  })

  it('counts the public statistics only if a gate may be solved', async () => {
    const publicStatistics = (): Promise<never> => Promise.reject(new Error('not needed'))
    const { composer } = compose(countingEngine(), { publicStatistics, router: 'rows' })
    await composer.recompose()
    expect(composer.served.composition.router).toBe('rows')
    await composer.dispose()
  })

  it('keeps the model, and reports nothing, if the experts in use have not changed', async () => {
    const { composer, served } = compose(countingEngine())
    await composer.recompose()
    const { served: model } = composer
    await composer.recompose()
    expect(composer.served).toBe(model)
    expect(served).toHaveLength(1)
    await composer.dispose()
  })

  it('routes by router rows if the statistics of the public text cannot be had', async () => {
    const { composer } = compose(countingEngine(), {
      publicStatistics: () => Promise.reject(new Error('a damaged file')),
    })
    await composer.recompose()
    expect(composer.served.composition.router).toBe('rows')
    expect(composer.served.composition.experts).toHaveLength(2)
    await composer.dispose()
  })

  it('keeps an earlier model until its holder lets go, and waits for it when it is disposed', async () => {
    const engine = countingEngine()
    const { composer, experts } = compose(engine)
    await composer.recompose()
    const lease = composer.acquire()
    await answer(lease.model)
    experts.pop()
    await composer.recompose()
    expect(composer.served).not.toBe(lease.model)
    expect(engine.counts.disposed).toBe(0)
    expect(await answer(lease.model)).toBe(2)
    const disposed = composer.dispose()
    lease.release()
    await disposed
    expect(engine.counts.disposed).toBe(engine.counts.compiled)
    expect(() => composer.acquire()).toThrow()
  })

  it('reports memory that cannot be freed when it is disposed, not before', async () => {
    const engine = countingEngine()
    const failing: Engine = {
      ...engine,
      compile: async (...args) => ({
        ...(await engine.compile(...args)),
        dispose: () => Promise.reject(new Error('the session is gone')),
      }),
    }
    const { composer } = compose(failing)
    await answer(composer.served)
    await composer.recompose()
    await new Promise((resolve) => setImmediate(resolve)) // An unhandled rejection would fail the test here.
    await expect(composer.dispose()).rejects.toThrow('the session is gone')
  })
})
