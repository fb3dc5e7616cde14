import { expect, it } from 'vitest'
import { KvCache } from '../../src/inference/kv-cache.ts'
import { goldenConfig } from '../support/golden.ts'

const E = 3

it('keeps gate sums when it grows', async () => {
  const cache = new KvCache(goldenConfig, E, 4, 600)
  await cache.ensure(2, 100)
  const values = [0, 1].map((slot) => Float32Array.from({ length: 100 * E }, (_, i) => 1000 * slot + i))
  values.forEach((sums, slot) => {
    cache.gateSums(slot).set(sums)
  })
  await cache.ensure(3, 500)
  values.forEach((sums, slot) => {
    expect(cache.gateSums(slot).subarray(0, sums.length)).toEqual(sums)
  })
})

it('keeps keys and values when it grows, and grows no further than necessary where memory is short', async () => {
  const cache = new KvCache(goldenConfig, E, 4, 600)
  await cache.ensure(2, 128)
  const filled = (layer: number) => [cache.keys(layer, 0, 2), cache.values(layer, 0, 2)]
  const { numHiddenLayers: L, numKeyValueHeads: H } = goldenConfig
  for (let layer = 0; layer < L; layer++) {
    filled(layer).forEach((array, kind) => {
      array.forEach((_, i) => {
        array[i] = 1000 * layer + 100 * kind + (i % 97)
      })
    })
  }
  const before = Array.from({ length: L }, (_, layer) => filled(layer).map((array) => array.slice()))
  await cache.ensure(3, 130, 3 * 200 * cache.positionBytes)
  expect(cache.positions).toBe(130)
  before.forEach((arrays, layer) => {
    filled(layer).forEach((array, kind) => {
      const width = array.length / (2 * H * 130)
      for (let head = 0; head < 2 * H; head++) {
        const from = head * 128 * width
        const old = (arrays[kind] as Float32Array).subarray(from, from + 128 * width)
        expect(array.subarray(head * 130 * width, (head * 130 + 128) * width)).toEqual(old)
      }
    })
  })
  await cache.ensure(3, 131)
  expect(cache.positions).toBe(260)
})
