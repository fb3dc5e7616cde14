import { describe, expect, it } from 'vitest'
import { mulberry32 } from '../../src/lib/random.ts'
import { zeroRows } from '../../src/model/params.ts'
import type { Compiled, Engine } from '../../src/tensor/engine.ts'
import { globalNorm } from '../../src/training/optimizer.ts'
import { compilePairStep, initialTrainables, type Trainables } from '../../src/training/pair.ts'
import { compilePrivatePairSteps, type UnitShape } from '../../src/training/private-pair.ts'
import { toBatch } from '../../src/training/train.ts'
import { toUnitBatch, type UnitWindows } from '../../src/training/unit-batch.ts'
import { onnx, present } from '../support/engines.ts'
import { goldenConfig as config, goldenPublic } from '../support/golden.ts'

const T = 12
const publicModel = goldenPublic()

/** Units of full windows. */
function unitsOf(count: number, windows: number, seed = 5): UnitWindows[] {
  const random = mulberry32(seed)
  return Array.from({ length: count }, () =>
    Array.from({ length: windows }, () =>
      Int32Array.from({ length: T + 1 }, () => Math.floor(random() * config.vocabSize)),
    ),
  )
}

/** Trainables that have moved away from the public model. */
async function moved(rank: number): Promise<Trainables> {
  const rows = zeroRows(config).map((row, layer) => row.fill(0.1 * (layer + 1)))
  const trainables = await initialTrainables(config, publicModel, rows, { rank })
  const random = mulberry32(9)
  for (const values of trainables.values()) {
    for (let i = 0; i < values.length; i++) values[i] = (values[i] as number) + 0.05 * (random() - 0.5)
  }
  return trainables
}

/** Gradients of the ordinary step for the windows as one batch. */
async function ordinary(
  engine: Engine,
  windows: readonly Int32Array[],
  trainables: Trainables,
  rank: number,
): Promise<Trainables> {
  const rows = zeroRows(config)
  const step = await compilePairStep(engine, config, publicModel, rows, windows.length, T, { rank })
  const out = await step.run({ ...toBatch(windows), ...Object.fromEntries(trainables) })
  await step.dispose()
  return new Map([...trainables.keys()].map((name) => [name, out[`d.${name}`] as Float32Array]))
}

async function privately(
  engine: Engine,
  units: readonly UnitWindows[],
  trainables: Trainables,
  rank: number,
  shape: UnitShape,
  { clip = Number.POSITIVE_INFINITY, free = 0 } = {},
) {
  const [step] = await compilePrivatePairSteps(engine, config, publicModel, zeroRows(config), [shape], {
    rank,
  })
  const out = await (step as Compiled).run({
    ...toUnitBatch(units, shape, free),
    inverseClip: Float32Array.of(1 / clip),
    ...Object.fromEntries(trainables),
  })
  await step?.dispose()
  return {
    norms: Array.from(out['squaredNorms'] as Float32Array, Math.sqrt),
    losses: out['unitLosses'] as Float32Array,
    sums: new Map(
      [...trainables.keys()].map((name) => [name, out[`d.${name}`] as Float32Array]),
    ) as Trainables,
  }
}

/** Largest difference of two sets of arrays, relative to the norm of the second. */
function difference(a: Trainables, b: Trainables): number {
  let worst = 0
  for (const [name, values] of b) {
    values.forEach((x, i) => {
      worst = Math.max(worst, Math.abs(x - (a.get(name)?.[i] as number)))
    })
  }
  return worst / globalNorm(b)
}

describe('the private step of the pair', () => {
  it.each(present.flatMap(({ label, engine }) => [0, 3].map((rank) => [label, rank, engine] as const)))(
    'computes on %s at rank %i the norms of gradients computed one by one, and clips with them',
    async (_, rank, engine) => {
      const trainables = await moved(rank)
      const units = unitsOf(3, 2)
      const each: Trainables[] = []
      for (const windows of units) each.push(await ordinary(engine, windows, trainables, rank))
      const norms = each.map(globalNorm)
      const clip = [...norms].sort((a, b) => a - b)[1] as number
      const result = await privately(engine, units, trainables, rank, { units: 3, windows: 2, T }, { clip })
      norms.forEach((norm, u) => {
        expect(Math.abs((result.norms[u] as number) / norm - 1)).toBeLessThan(1e-5)
      })
      const expected: Trainables = new Map(
        Array.from(trainables, ([name, { length }]) => [
          name,
          Float32Array.from({ length }, (_, i) =>
            each.reduce((sum, g, u) => {
              const factor = Math.min(1, clip / (norms[u] as number))
              return sum + factor * (g.get(name)?.[i] as number)
            }, 0),
          ),
        ]),
      )
      expect(difference(result.sums, expected)).toBeLessThan(1e-5)
    },
  )

  it.each([0, 3])('without a clip at rank %i computes the gradient of the ordinary step', async (rank) => {
    const trainables = await moved(rank)
    const units = unitsOf(4, 1)
    const whole = await ordinary(onnx, units.flat(), trainables, rank)
    const { sums } = await privately(onnx, units, trainables, rank, { units: 4, windows: 1, T })
    const mean = new Map([...sums].map(([name, values]) => [name, values.map((x) => x / 4)]))
    expect(difference(mean, whole)).toBeLessThan(1e-6)
  })

  it('gives a unit the same norm and loss whatever the other units of the batch are', async () => {
    const trainables = await moved(0)
    const [unit, ...others] = unitsOf(3, 1, 21) as [UnitWindows, ...UnitWindows[]]
    const shape = { units: 3, windows: 1, T }
    const beside = await privately(onnx, [unit, ...others], trainables, 0, shape)
    const alone = await privately(onnx, [unit], trainables, 0, shape)
    expect(alone.norms[0]).toBeCloseTo(beside.norms[0] as number, 6)
    expect(alone.losses[0]).toBeCloseTo(beside.losses[0] as number, 6)
  })

  it('ignores positions that no window fills', async () => {
    const trainables = await moved(0)
    const window = (unitsOf(1, 1, 22)[0] as UnitWindows)[0] as Int32Array
    const short = window.subarray(0, 8)
    const padded = await privately(onnx, [[short]], trainables, 0, { units: 2, windows: 2, T })
    const exact = await privately(onnx, [[short]], trainables, 0, { units: 1, windows: 1, T: 7 })
    expect(difference(padded.sums, exact.sums)).toBeLessThan(1e-6)
    expect(padded.norms[0]).toBeCloseTo(exact.norms[0] as number, 5)
    expect(padded.norms[1]).toBe(0)
  })
})
