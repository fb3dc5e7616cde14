import { describe, expect, it } from 'vitest'
import { factorName } from '../../src/lib/tensor-names.ts'
import { materialised } from '../../src/model/merged-weight.ts'
import { expertRank, mixtureWeights, zeroRows } from '../../src/model/params.ts'
import { type Params, wholeValues } from '../../src/model/weights.ts'
import { ADAMW_DEFAULTS, AdamW } from '../../src/training/optimizer.ts'
import {
  compilePairStep,
  initialTrainables,
  releasedExpert,
  type Trainables,
} from '../../src/training/pair.ts'
import { toBatch } from '../../src/training/train.ts'
import { onnx as engine } from '../support/engines.ts'
import { goldenConfig as config, golden } from '../support/golden.ts'
import { publicModel } from '../support/low-rank.ts'

const { hiddenSize: C, numHiddenLayers: L } = config

describe('training a low-rank expert', () => {
  const rank = 4
  const rows = Array.from({ length: L }, (_, l) =>
    Float32Array.from({ length: C }, (_, i) => Math.sin(l + i)),
  )
  const constantRows = zeroRows(config)
  const ids = Int32Array.from(golden.input_ids)

  async function lossesOf(steps: number, rankOf: number) {
    const compiled = await compilePairStep(engine, config, publicModel, zeroRows(config), 1, ids.length - 1, {
      rank: rankOf,
    })
    const trainables = await initialTrainables(config, publicModel, rows, { rank: rankOf })
    const optimizer = new AdamW(ADAMW_DEFAULTS, trainables)
    const losses: number[] = []
    let gradients = new Map<string, Float32Array>()
    for (let step = 0; step < steps; step++) {
      const batch = { ...toBatch([ids]), ...Object.fromEntries(trainables) }
      const out = await compiled.run(batch)
      losses.push(out['ce']?.[0] as number)
      gradients = new Map([...trainables.keys()].map((name) => [name, out[`d.${name}`] as Float32Array]))
      optimizer.update(trainables, gradients, 2e-3)
    }
    await compiled.dispose()
    return { losses, trainables, gradients }
  }

  it('starts as the public model and learns', async () => {
    const low = await lossesOf(30, rank)
    const full = await lossesOf(1, 0)
    expect(low.losses[0]).toBeCloseTo(full.losses[0] as number, 5)
    expect(low.losses.at(-1)).toBeLessThan((low.losses[0] as number) - 0.05)
  })

  it('has gradients that agree with finite differences of the loss', async () => {
    const { trainables, gradients } = await lossesOf(3, rank)
    const compiled = await compilePairStep(engine, config, publicModel, zeroRows(config), 1, ids.length - 1, {
      rank,
    })
    const lossAt = async (): Promise<number> => {
      const out = await compiled.run({ ...toBatch([ids]), ...Object.fromEntries(trainables) })
      return out['loss']?.[0] as number
    }
    const out = await compiled.run({ ...toBatch([ids]), ...Object.fromEntries(trainables) })
    expect(gradients.size).toBeGreaterThan(0)
    for (const projection of ['gate_proj', 'up_proj', 'down_proj'] as const) {
      for (const factor of ['A', 'B'] as const) {
        const name = factorName(1, 1, projection, factor)
        const values = trainables.get(name) as Float32Array
        const gradient = out[`d.${name}`] as Float32Array
        // The slope of the loss in the direction of the gradient is the norm of the gradient.
        const norm = Math.hypot(...gradient)
        const from = values.slice()
        const step = 0.02
        const move = (by: number): void =>
          values.set(from.map((x, i) => x + (by * (gradient[i] as number)) / norm))
        move(step)
        const above = await lossAt()
        move(-step)
        const below = await lossAt()
        values.set(from)
        expect((above - below) / (2 * step) / norm).toBeCloseTo(1, 1)
      }
    }
    await compiled.dispose()
  })

  it('releases factors that compute what was trained', async () => {
    const { trainables } = await lossesOf(5, rank)
    const expert = releasedExpert(config, trainables, constantRows)
    expect(expertRank(expert)).toBe(rank)
    const params: Params = mixtureWeights(config, publicModel, zeroRows(config), [expert])
    expect(params.has('model.layers.0.mlp.experts.1.gate_proj.weight')).toBe(false)
    expect(params.get(factorName(0, 1, 'down_proj', 'B'))?.shape).toEqual([C, rank])
    const lossOf = async (values: Trainables, rankOf: number): Promise<number> => {
      const compiled = await compilePairStep(
        engine,
        config,
        publicModel,
        zeroRows(config),
        1,
        ids.length - 1,
        {
          rank: rankOf,
        },
      )
      const out = await compiled.run({ ...toBatch([ids]), ...Object.fromEntries(values) })
      await compiled.dispose()
      return out['ce']?.[0] as number
    }
    // The trained rows and bias, with the merged weights of the released factors.
    const merged: Trainables = new Map([...trainables].filter(([name]) => !name.includes('lora')))
    for (const [key, weight] of materialised(expert, publicModel).ffn) {
      const [layer, projection] = key.split('.')
      merged.set(`model.layers.${layer}.mlp.experts.1.${projection}.weight`, await wholeValues(weight))
    }
    expect(await lossOf(merged, 0)).toBeCloseTo(await lossOf(trainables, rank), 5)
  })
})
