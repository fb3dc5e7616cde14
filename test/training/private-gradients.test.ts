/** The traps of DP-SGD: every rule whose violation would make the stated epsilon wrong has a test. */
import { describe, expect, it } from 'vitest'
import { mulberry32 } from '../../src/lib/random.ts'
import type { Uniform } from '../../src/privacy/random.ts'
import type { Compiled } from '../../src/tensor/engine.ts'
import type { Trainables } from '../../src/training/pair.ts'
import { PrivateGradients, type PrivateGradientsInit } from '../../src/training/private-gradients.ts'
import type { UnitWindows } from '../../src/training/unit-batch.ts'

const T = 4
const PUBLIC_ID = 1

/**
 * A step of one trained value. The gradient of a unit is the first id of its first window; public units are not
 * clipped. Records what each run was given.
 */
function fakeStep(runs: { ids: Int32Array; isFree: Float32Array; clip: number }[], units: number): Compiled {
  return {
    run: async (inputs, into) => {
      const ids = inputs['ids'] as Int32Array
      const isFree = inputs['isFree'] as Float32Array
      const clip = 1 / (inputs['inverseClip']?.[0] as number)
      const weights = inputs['labelWeights'] as Float32Array
      runs.push({ ids: ids.slice(), isFree: isFree.slice(), clip })
      const squaredNorms = new Float32Array(units)
      const unitLosses = new Float32Array(units)
      let sum = 0
      for (let u = 0; u < units; u++) {
        const isEmpty = weights[u * T] === 0
        const id = ids[u * T] as number
        const gradient = isEmpty ? 0 : id === BROKEN ? Number.NaN : id
        squaredNorms[u] = gradient ** 2
        unitLosses[u] = gradient
        sum += isFree[u] === 1 ? gradient : gradient / Math.max(1, Math.abs(gradient) / clip)
      }
      into?.['d.w']?.fill(sum)
      return { squaredNorms, unitLosses }
    },
    dispose: async () => undefined,
  }
}
const BROKEN = 999

function gradientsOf(change: {
  ids?: readonly number[]
  parameters?: Partial<PrivateGradientsInit['parameters']>
  publicUnits?: number
  units?: number
  uniform?: Uniform
}) {
  const ids = change.ids ?? [2, 3, 4, 5]
  const runs: Parameters<typeof fakeStep>[0] = []
  const units = change.units ?? 2
  const publicUnits = change.publicUnits ?? 0
  const trainables: Trainables = new Map([['w', new Float32Array(1)]])
  const windowOf = (id: number): UnitWindows => [Int32Array.of(id, 0, 0, 0, 0)]
  const source = new PrivateGradients({
    steps: [{ compiled: fakeStep(runs, units), shape: { units, windows: 1, T } }],
    parameters: {
      clip: Number.POSITIVE_INFINITY,
      noiseMultiplier: 0,
      sampleRate: 1,
      expectedBatch: ids.length,
      capacity: ids.length,
      units: ids.length,
      ...change.parameters,
    },
    trainables,
    windows: async (unit) => windowOf(ids[unit] as number),
    publicWindows: async () => Array.from({ length: publicUnits }, () => windowOf(PUBLIC_ID)),
    publicUnits,
    uniform: change.uniform ?? mulberry32(3),
  })
  const gradient = async (step = 0): Promise<number> =>
    (await source.gradient(step, trainables))?.gradients.get('w')?.[0] as number
  return { gradient, runs, source, trainables }
}

describe('the gradient of a private step', () => {
  it('sums the units of all micro-batches and divides by the expected number of units', async () => {
    const { gradient, runs } = gradientsOf({ parameters: { expectedBatch: 7 } })
    expect(await gradient()).toBeCloseTo((2 + 3 + 4 + 5) / 7, 6)
    expect(runs).toHaveLength(2)
  })

  it('divides by the expected number even if far fewer units were sampled', async () => {
    const { gradient } = gradientsOf({ ids: [2], parameters: { expectedBatch: 64 } })
    expect(await gradient()).toBeCloseTo(2 / 64, 6)
  })

  it('clips every unit by itself, not sums of units', async () => {
    const { gradient } = gradientsOf({ parameters: { clip: 3 } })
    expect(await gradient()).toBeCloseTo((2 + 3 + 3 + 3) / 4, 6)
  })

  it('changes by at most the clip if a unit is added, whatever the units are', async () => {
    const random = mulberry32(11)
    for (let trial = 0; trial < 200; trial++) {
      const ids = Array.from({ length: 1 + Math.floor(random() * 6) }, () => 2 + Math.floor(random() * 900))
      const parameters = { clip: 1 + 9 * random(), expectedBatch: 1, capacity: 10 }
      const without = await gradientsOf({ ids, parameters: { ...parameters } }).gradient()
      const added = [...ids, 2 + Math.floor(random() * 900)]
      const withUnit = await gradientsOf({ ids: added, parameters: { ...parameters } }).gradient()
      expect(Math.abs(withUnit - without)).toBeLessThanOrEqual(parameters.clip * (1 + 1e-6))
    }
  })

  it('adds noise once for a step, whatever the number of micro-batches', async () => {
    const variance = async (units: number): Promise<number> => {
      const parameters = { noiseMultiplier: 2, clip: 5, expectedBatch: 4 }
      const { gradient } = gradientsOf({ units, parameters, ids: [2, 3, 4, 5] })
      const mean = (2 + 3 + 4 + 5) / 4
      let squares = 0
      for (let step = 0; step < 2000; step++) squares += ((await gradient(step)) - mean) ** 2
      return squares / 2000
    }
    const expected = ((2 * 5) / 4) ** 2
    for (const units of [1, 4]) expect(Math.abs((await variance(units)) / expected - 1)).toBeLessThan(0.12)
  })

  it('has noise of the stated variance over 10,000 draws', async () => {
    const { gradient } = gradientsOf({
      parameters: { noiseMultiplier: 1.5, clip: 2, sampleRate: 0, expectedBatch: 1 },
    })
    let sum = 0
    let squares = 0
    for (let step = 0; step < 10_000; step++) {
      const noise = (await gradient(step)) / 3
      sum += noise
      squares += noise ** 2
    }
    expect(Math.abs(sum / 10_000)).toBeLessThan(0.04)
    // A standard deviation of the estimate is 1.4 %; the noise is 0.1 % larger than stated, for rounding.
    expect(Math.abs(squares / 10_000 - 1)).toBeLessThan(0.05)
  })

  it('takes noise from the cryptographic generator unless a test replaces it', async () => {
    const { runs } = gradientsOf({})
    const make = (): PrivateGradients =>
      new PrivateGradients({
        steps: [{ compiled: fakeStep(runs, 2), shape: { units: 2, windows: 1, T } }],
        parameters: { clip: 1, noiseMultiplier: 1, sampleRate: 0, expectedBatch: 1, capacity: 1, units: 1 },
        trainables: new Map([['w', new Float32Array(64)]]),
        windows: async () => [],
        publicWindows: async () => [],
        publicUnits: 0,
      })
    const trainables: Trainables = new Map([['w', new Float32Array(64)]])
    const draw = async (source: PrivateGradients): Promise<number[]> =>
      Array.from((await source.gradient(0, trainables))?.gradients.get('w') as Float32Array)
    // Equal seeds or a draw that is used again would give equal numbers.
    const source = make()
    const draws = [await draw(source), await draw(source), await draw(make())]
    expect(new Set(draws.flat()).size).toBe(3 * 64)
  })

  it('has noise even if no unit was sampled', async () => {
    const { gradient, runs } = gradientsOf({ parameters: { sampleRate: 0, noiseMultiplier: 1, clip: 1 } })
    expect(await gradient()).not.toBe(0)
    expect(runs).toHaveLength(0)
  })

  it('adds public units without clip, and always the same number of them', async () => {
    const some = gradientsOf({
      ids: [],
      publicUnits: 3,
      parameters: { clip: 0.5, expectedBatch: 5, units: 0 },
    })
    expect(await some.gradient()).toBeCloseTo(3 / 8, 6)
    const { gradient, runs } = gradientsOf({ publicUnits: 3, parameters: { clip: 0.5, expectedBatch: 5 } })
    expect(await gradient()).toBeCloseTo((3 + 4 * 0.5) / 8, 6)
    const free = runs.flatMap(({ ids, isFree }) =>
      [...isFree].filter((x, u) => x === 1 && ids[u * T] === PUBLIC_ID),
    )
    expect(free).toHaveLength(3)
    const wrong = runs.flatMap(({ ids, isFree }) =>
      [...isFree].filter((x, u) => x === 1 && ids[u * T] !== PUBLIC_ID),
    )
    expect(wrong).toHaveLength(0)
  })

  it('counts a unit whose gradient is not finite as zero, and keeps the other units', async () => {
    const { gradient } = gradientsOf({ ids: [2, BROKEN, 4, 5] })
    expect(await gradient()).toBeCloseTo((2 + 4 + 5) / 4, 6)
  })

  it('never uses more units than the capacity that is in the account', async () => {
    const { gradient, runs } = gradientsOf({
      ids: [2, 2, 2, 2, 2, 2],
      parameters: { capacity: 3, expectedBatch: 1 },
    })
    expect(await gradient()).toBeCloseTo(6, 6)
    expect(runs).toHaveLength(2)
  })
})
