import { describe, expect, it } from 'vitest'
import { FormatError } from '../../src/lib/errors.ts'
import { parseRequest } from '../../src/serving/openai.ts'

const plain = { model: 'flexmesh', prompt: 'Hello' }

/** The member that a refusal names. */
function refusedMember(body: object): unknown {
  try {
    parseRequest(body, 'completion')
  } catch (error) {
    if (error instanceof FormatError) return error.fields['param']
    throw error
  }
  return undefined
}

describe('a request without a seed', () => {
  it('draws a seed of its own', () => {
    const seeds = Array.from({ length: 20 }, () => parseRequest(plain, 'completion').seed)
    expect(new Set(seeds).size).toBeGreaterThan(15)
    for (const seed of seeds) {
      expect(Number.isInteger(seed)).toBe(true)
      expect(seed).toBeGreaterThanOrEqual(0)
      expect(seed).toBeLessThan(2 ** 32)
    }
  })

  it('is the same as one whose seed is null', () => {
    const seeds = Array.from({ length: 20 }, () => parseRequest({ ...plain, seed: null }, 'completion').seed)
    expect(new Set(seeds).size).toBeGreaterThan(15)
  })
})

describe('a request', () => {
  it('keeps its seed', () => {
    expect(parseRequest({ ...plain, seed: 0 }, 'completion').seed).toBe(0)
    expect(parseRequest({ ...plain, seed: 2 ** 32 - 1 }, 'completion').seed).toBe(2 ** 32 - 1)
  })

  it.each([
    ['seed', { seed: 2 ** 32 }],
    ['seed', { seed: 1.5 }],
    ['temperature', { temperature: '1' }],
    ['max_tokens', { max_completion_tokens: 0 }],
    ['experts', { experts: ['law'] }],
    ['experts.exlude', { experts: { exlude: ['law'] } }],
  ])('is refused for its member %s', (member, change) => {
    expect(refusedMember({ ...plain, ...change })).toBe(member)
  })
})
