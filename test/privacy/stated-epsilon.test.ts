import { describe, expect, it } from 'vitest'
import type { DpParameters } from '../../src/privacy/mechanism.ts'
import { checkStatedEpsilon } from '../../src/privacy/stated-epsilon.ts'

const training: DpParameters = {
  unit: 'document',
  epsilon: 2,
  delta: 5e-5,
  truncationDelta: 0,
  clip: 1,
  noiseMultiplier: 1.2386,
  sampleRate: 64 / 2000,
  steps: 200,
  expectedBatch: 64,
  capacity: 128,
  units: 2000,
  windowsPerUnit: 1,
}

describe('the epsilon that a training states', () => {
  it('is accepted if the accountant gives at most as much', () => {
    expect(() => checkStatedEpsilon(training)).not.toThrow()
    expect(() => checkStatedEpsilon({ ...training, epsilon: 3 })).not.toThrow()
  })

  it.each([
    ['less noise', { noiseMultiplier: 1.2 }],
    ['more steps', { steps: 220 }],
    ['a larger sample', { sampleRate: 0.04 }],
    ['a smaller delta', { delta: 1e-6 }],
    ['a delta that is used up by truncation', { truncationDelta: 4e-5 }],
    ['a lower epsilon', { epsilon: 1 }],
  ])('is refused with %s than it was computed for', (_, change) => {
    expect(() => checkStatedEpsilon({ ...training, ...change })).toThrow(
      /the training states epsilon .* give /,
    )
  })
})
