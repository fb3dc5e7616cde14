import { expect, it } from 'vitest'
import { KvCache } from '../../src/inference/kv-cache.ts'
import { goldenConfig } from '../support/golden.ts'

const E = 3

it('keeps gate sums when it grows', () => {
  const cache = new KvCache(goldenConfig, E, 4, 600)
  cache.ensure(2, 100)
  const values = [0, 1].map((slot) => Float32Array.from({ length: 100 * E }, (_, i) => 1000 * slot + i))
  values.forEach((sums, slot) => {
    cache.gateSums(slot).set(sums)
  })
  cache.ensure(3, 500)
  values.forEach((sums, slot) => {
    expect(cache.gateSums(slot).subarray(0, sums.length)).toEqual(sums)
  })
})
