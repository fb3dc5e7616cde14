import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import type { PublicModel } from '../../src/checkpoint/public-model.ts'
import { compose } from '../../src/composition/compose.ts'
import { type Completion, ComposedModel } from '../../src/composition/composed-model.ts'
import type { Engine } from '../../src/tensor/engine.ts'
import { countingEngine, loadTinyModel, TINY_DIGEST, tinyExperts } from '../support/compositions.ts'
import { cleanUp } from '../support/folders.ts'

let publicModel: PublicModel
beforeAll(async () => {
  publicModel = await loadTinyModel()
})
afterAll(cleanUp)

const { signal: never } = new AbortController()

function modelOn(
  engine: Engine,
  format: 'fp32' | 'bf16' = 'fp32',
  earlier: Promise<unknown> = Promise.resolve(),
): ComposedModel {
  const { config, weights } = publicModel
  const composition = compose(config, { digest: TINY_DIGEST, weights }, tinyExperts('Court', 'Hospital'), 2)
  return new ComposedModel(engine, publicModel, composition, { weights: format }, earlier)
}

const completion = (change: Partial<Completion> = {}): Completion => ({
  prompt: Int32Array.of(0, 17, 300),
  maxTokens: 3,
  sampling: { temperature: 0, topP: 1, seed: 1 },
  selection: {},
  ...change,
})

async function tokensOf(model: ComposedModel): Promise<number[]> {
  const ids: number[] = []
  for await (const { id } of model.complete(completion(), never)) ids.push(id)
  return ids
}

/** Whether a promise has resolved once every promise that can continue has done so. */
async function isSettled(promise: Promise<unknown>): Promise<boolean> {
  let settled = false
  promise.then(
    () => {
      settled = true
    },
    () => {
      settled = true
    },
  )
  await new Promise((resolve) => setImmediate(resolve))
  return settled
}

describe('a composed model', () => {
  it('that is held once loads its weights when its predecessors have freed their memory', async () => {
    const engine = countingEngine()
    const freed = Promise.withResolvers<void>()
    const model = modelOn(engine, 'bf16', freed.promise)
    expect(model.servingFormat().way).toBe('held')
    const answer = tokensOf(model)
    // Another model answers meanwhile, which takes as long as this one would.
    const other = modelOn(countingEngine(), 'bf16')
    const expected = await tokensOf(other)
    expect(engine.counts.compiled).toBe(0)
    freed.resolve()
    expect(await answer).toEqual(expected)
    await Promise.all([model.retire(), other.retire()])
  })

  it('that is small does not wait for its predecessors', async () => {
    const model = modelOn(countingEngine(), 'fp32', new Promise(() => undefined))
    expect(model.servingFormat().way).toBe('copy')
    expect(await tokensOf(model)).not.toEqual([])
    await model.retire()
  })

  it('shares one generator between all answers, and disposes of everything that it compiled', async () => {
    const engine = countingEngine()
    const model = modelOn(engine)
    const first = await tokensOf(model)
    const { compiled } = engine.counts
    expect(compiled).toBeGreaterThan(0)
    expect(await Promise.all([tokensOf(model), tokensOf(model)])).toEqual([first, first])
    await model.retire()
    expect(engine.counts).toEqual({ compiled, disposed: compiled })
  })

  it('answers its holders after it was retired, and frees its memory when the last one lets go', async () => {
    const engine = countingEngine()
    const model = modelOn(engine)
    const [first, second] = [model.acquire(), model.acquire()]
    const expected = await tokensOf(model)
    const retired = model.retire()
    first.release()
    first.release() // Lets go only once.
    expect(await tokensOf(model)).toEqual(expected)
    expect(await isSettled(retired)).toBe(false)
    expect(engine.counts.disposed).toBe(0)
    second.release()
    await retired
    expect(engine.counts.disposed).toBe(engine.counts.compiled)
  })

  it('lets a holder begin its first answer after it was retired', async () => {
    const engine = countingEngine()
    const model = modelOn(engine)
    const lease = model.acquire()
    const retired = model.retire()
    expect(await tokensOf(model)).toHaveLength(3)
    lease.release()
    await retired
    expect(engine.counts.compiled).toBeGreaterThan(0)
    expect(engine.counts.disposed).toBe(engine.counts.compiled)
  })

  it('completes an answer that was begun before it was retired', async () => {
    const engine = countingEngine()
    const model = modelOn(engine)
    const tokens = model.complete(completion(), never)
    await tokens.next()
    const retired = model.retire()
    const rest: unknown[] = []
    for await (const token of tokens) rest.push(token)
    await retired
    expect(rest).toHaveLength(2)
    expect(engine.counts.disposed).toBe(engine.counts.compiled)
  })

  it('refuses new holders and answers without a holder after it was retired, and compiles nothing', async () => {
    const engine = countingEngine()
    const model = modelOn(engine)
    await tokensOf(model)
    await model.retire()
    const { compiled } = engine.counts
    expect(() => model.acquire()).toThrow('replaced')
    await expect(tokensOf(model)).rejects.toThrow('retired')
    expect(engine.counts).toEqual({ compiled, disposed: compiled })
  })

  it('can be retired twice at the same time', async () => {
    const engine = countingEngine()
    const model = modelOn(engine)
    await tokensOf(model)
    await Promise.all([model.retire(), model.retire()])
    expect(engine.counts.disposed).toBe(engine.counts.compiled)
  })

  it('compiles nothing if it is retired before its first answer', async () => {
    const engine = countingEngine()
    await modelOn(engine).retire()
    expect(engine.counts).toEqual({ compiled: 0, disposed: 0 })
  })

  it('tries again to create a generator after a failure', async () => {
    const engine = countingEngine(1)
    const model = modelOn(engine)
    await expect(tokensOf(model)).rejects.toThrow('out of memory')
    expect(await tokensOf(model)).toHaveLength(3)
    await model.retire()
    expect(engine.counts.disposed).toBe(engine.counts.compiled)
  })

  it('refuses a selection that names no expert before it compiles anything', async () => {
    const engine = countingEngine()
    const tokens = modelOn(engine).complete(completion({ selection: { exclude: ['Bank'] } }), never)
    await expect(tokens.next()).rejects.toMatchObject({ code: 'not-found' })
    expect(engine.counts.compiled).toBe(0)
  })
})
