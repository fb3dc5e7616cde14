/** Attempts to make a node believe an older, another or a longer history; see support/rollback/cases.ts. */
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest'
import type { PublicModel } from '../../src/checkpoint/public-model.ts'
import { loadTinyModel } from '../support/compositions.ts'
import { cleanUp } from '../support/folders.ts'
import { ATTACKS, HONEST_CASES } from '../support/rollback/cases.ts'
import { newVictim, type Victim } from '../support/rollback/victim.ts'

let model: PublicModel
let victim: Victim | undefined

beforeAll(async () => {
  model = await loadTinyModel()
})
afterEach(async () => {
  await victim?.node.close()
  victim = undefined
})
afterAll(cleanUp)

describe('a node', () => {
  it.each(ATTACKS.map((one) => [one.class, one.title, one] as const))(
    'refuses (%s): %s',
    async (_class, _title, { run }) => {
      victim = await newVictim(model)
      expect(await run(victim)).toBe(false)
    },
  )

  it.each(HONEST_CASES)('takes in %s', async (_title, run) => {
    victim = await newVictim(model)
    expect(await run(victim)).toBe(true)
  })

  it('is offered at least as many cases as the conformance tests of The Update Framework have', () => {
    expect(ATTACKS.length).toBeGreaterThanOrEqual(56)
    expect(new Set(ATTACKS.map(({ title }) => title)).size).toBe(ATTACKS.length)
  })
})
