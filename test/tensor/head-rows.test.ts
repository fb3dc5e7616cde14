import { expect, it } from 'vitest'
import { headRows } from '../../src/tensor/fused.ts'

it.each([
  [1024, 4096, 1024],
  [1024, 16_384, 256],
  [1024, 100_352, 128],
  [64, 100_352, 64],
])('the logits of %i rows over %i tokens are computed for %i rows at once', (N, V, rows) => {
  expect(headRows(N, V)).toBe(rows)
})
