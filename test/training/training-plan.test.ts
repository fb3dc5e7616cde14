import { describe, expect, it } from 'vitest'
import { TRAIN_DEFAULTS } from '../../src/owner/train-defaults.ts'
import { type PlanRequest, planTraining } from '../../src/training/training-plan.ts'

const SHAPE = { maxPositionEmbeddings: 4096, ropeTheta: 500_000, rmsNormEps: 1e-6 }
/** Shape of OLMo-2 1B. */
const ONE_BILLION = {
  ...SHAPE,
  vocabSize: 100_352,
  hiddenSize: 2048,
  intermediateSize: 8192,
  numHiddenLayers: 16,
  numAttentionHeads: 16,
  numKeyValueHeads: 16,
}
/** Shape of models/small. */
const SMALL = {
  ...SHAPE,
  vocabSize: 4096,
  hiddenSize: 192,
  intermediateSize: 512,
  numHiddenLayers: 4,
  numAttentionHeads: 6,
  numKeyValueHeads: 6,
}

function request(budget: number, more: Partial<PlanRequest> = {}): PlanRequest {
  const { B, T, accumulate } = TRAIN_DEFAULTS
  return { rank: undefined, B, T, accumulate, budget, ...more }
}

describe('the plan of a training', () => {
  it('trains a whole FFN of the sample model with all rows of a batch at once', () => {
    const plan = planTraining(SMALL, request(1e9))
    expect(plan).toMatchObject({ rank: 0, isRankChosen: true, rows: 8, microBatches: 1 })
    expect(plan.bytes).toBeLessThan(400e6)
  })

  it('takes less than 12 GB for rank 64 of a model of a billion parameters, whatever the machine has', () => {
    for (const budget of [12e9, 17e9, 200e9]) {
      const plan = planTraining(ONE_BILLION, request(budget, { rank: 64 }))
      expect(plan).toMatchObject({ rank: 64, isRankChosen: false, rows: 4, microBatches: 2 })
      expect(plan.bytes).toBeLessThan(10e9)
    }
  })

  it.each([
    [40e9, 0],
    [17e9, 128],
    [7.5e9, 128],
    [6.2e9, 16],
  ])('chooses, in %d bytes, an expert of rank %i (0: whole)', (budget, rank) => {
    const plan = planTraining(ONE_BILLION, request(budget))
    expect(plan).toMatchObject({ rank, isRankChosen: true })
    expect(plan.bytes).toBeLessThanOrEqual(budget)
  })

  it('plans more memory for a private training, and fewer rows at once where that does not fit', () => {
    const plain = planTraining(ONE_BILLION, request(200e9, { rank: 4 }))
    const whole = planTraining(ONE_BILLION, request(200e9, { rank: 4, isPrivate: true }))
    expect(whole.bytes).toBeGreaterThan(1.2 * plain.bytes)
    const short = planTraining(ONE_BILLION, request(0.8 * whole.bytes, { rank: 4, isPrivate: true }))
    expect(short.rows).toBeLessThan(whole.rows)
    expect(short.bytes).toBeLessThanOrEqual(0.8 * whole.bytes)
  })

  it('computes fewer rows at once if memory is short, and the same number of rows in a step', () => {
    const plan = planTraining(ONE_BILLION, request(7e9, { rank: 64, accumulate: 3 }))
    expect(plan.rows).toBeLessThan(4)
    expect(plan.rows * plan.microBatches).toBe(24)
  })

  it('refuses what does not fit, and names what does', () => {
    const whole = (): unknown => planTraining(ONE_BILLION, request(12e9, { rank: 0 }))
    expect(whole).toThrow(expect.objectContaining({ family: 'input', code: 'out-of-memory' }))
    expect(whole).toThrow(
      /^this training needs 2\d\.\d GB of memory \(5\.1 GB for the public model in float32\), and 12\.0 GB may be used: --rank 128 fits, --memory allows more, --export-pair DIR trains on a cluster$/,
    )
    expect(() => planTraining(ONE_BILLION, request(5e9))).toThrow(
      /^this training needs 6\.0 GB .* may be used: --memory allows more, --export-pair DIR trains on a cluster$/,
    )
  })

  it('names one micro-batch as an alternative if several do not fit', () => {
    const { bytes } = planTraining(SMALL, request(1e9, { rank: 0 }))
    expect(() => planTraining(SMALL, request(bytes, { rank: 0, accumulate: 4, B: 1 }))).not.toThrow()
    const least = planTraining(SMALL, request(1e9, { rank: 0, B: 1 })).bytes
    expect(() => planTraining(SMALL, request(least, { rank: 0, B: 1, accumulate: 4 }))).toThrow(
      /--accumulate 1 fits/,
    )
  })
})
