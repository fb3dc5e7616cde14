import type { Tensor } from '@tensorflow/tfjs'
import { describe, expect, it } from 'vitest'
import {
  biasName,
  expertName,
  FFN_PROJECTIONS,
  layerName,
  PAIR_EXPERT,
  routerName,
} from '../../src/lib/tensor-names.ts'
import { forward, head } from '../../src/model/transformer.ts'
import type { Param } from '../../src/model/weights.ts'
import type { Engine, Values } from '../../src/tensor/engine.ts'
import { ADAMW_DEFAULTS, AdamW, globalNorm } from '../../src/training/optimizer.ts'
import { compilePairStep, initialTrainables } from '../../src/training/pair.ts'
import { absent, present } from '../support/engines.ts'
import {
  type GoldenCase,
  golden,
  goldenConfig,
  goldenMixture,
  goldenParams,
  goldenPublic,
} from '../support/golden.ts'

const TOLERANCE = 2e-5
const ids = Int32Array.from(golden.input_ids)
const T = ids.length

async function runForward(
  engine: Engine,
  params: ReadonlyMap<string, Param>,
  E: number,
  topK: number,
  bias?: number[][],
) {
  const all = new Map(params)
  bias?.forEach((values, layer) => {
    all.set(biasName(layer), { shape: [E], data: Float32Array.from([0, ...values]) })
  })
  const compiled = await engine.compile(
    (tensors) => {
      const weights = (name: string): Tensor => tensors[name] as Tensor
      const result = forward(goldenConfig, weights, weights('ids'), {
        B: 1,
        T,
        E,
        topK,
        bias: bias !== undefined,
      })
      const out: Record<string, Tensor> = { logits: head(weights, result.hidden) }
      result.routing.forEach((routing, layer) => {
        out[`z${layer}`] = routing.logits
        out[`p${layer}`] = routing.probabilities
        out[`w${layer}`] = routing.weights
      })
      return out
    },
    { inputs: { ids: { shape: [1, T], dtype: 'int32' } }, frozen: Object.fromEntries(all) },
  )
  const out = await compiled.run({ ids })
  await compiled.dispose()
  return out
}

function expectClose(actual: Values | undefined, expected: readonly number[], tolerance = TOLERANCE) {
  expect(actual?.length).toBe(expected.length)
  const worst = Math.max(...expected.map((value, i) => Math.abs(value - (actual?.[i] as number))))
  expect(worst).toBeLessThan(tolerance)
}

function sparse(indexes: number[], values: number[], E: number): number[] {
  const row = new Array<number>(E).fill(0)
  indexes.forEach((index, i) => {
    row[index] = values[i] as number
  })
  return row
}

it.for(absent)('golden vectors on $name', ({ reason }, { skip }) => skip(reason))

describe.each(present)('golden vectors on $label', ({ engine }) => {
  it.each(Object.entries(golden.cases))(
    'equals the reference in the forward pass: logits, router, top-k (%s)',
    async (_, testCase: GoldenCase) => {
      const E = testCase.experts.length
      const out = await runForward(
        engine,
        goldenMixture(testCase.experts),
        E,
        testCase.top_k,
        testCase.bias ?? undefined,
      )
      expectClose(out['logits'], testCase.logits.flat())
      testCase.layers.forEach((layer, l) => {
        expectClose(out[`z${l}`], layer.router_logits.flat())
        expectClose(out[`p${l}`], layer.router_probs.flat())
        expectClose(
          out[`w${l}`],
          layer.topk_index.flatMap((index, t) => sparse(index, layer.topk_weight[t] as number[], E)),
        )
      })
    },
  )

  it('equals the reference in a training step: losses, gradients, clipping and AdamW', async () => {
    const step = golden.pair_train_step
    const C = goldenConfig.hiddenSize
    const rows = [0, 1].map((l) => (goldenParams.get(routerName(l)) as Param).data)
    const publicRows = rows.map((row) => row.subarray(0, C))
    const compiled = await compilePairStep(engine, goldenConfig, goldenPublic(), publicRows, 1, T)
    const trainables = await initialTrainables(
      goldenConfig,
      goldenPublic(),
      Array.from({ length: goldenConfig.numHiddenLayers }, () => new Float32Array(C)),
    )
    for (const l of [0, 1]) trainables.get(routerName(l))?.set(rows[l]?.subarray(C, 2 * C) ?? [])
    const labels = Int32Array.from([...golden.input_ids.slice(1), 0])
    const labelWeights = new Float32Array(T).fill(1 / (T - 1), 0, T - 1)
    const feed = () => ({
      ids,
      labels,
      labelWeights,
      tokenScale: Float32Array.of(1 / (T - 1)),
      ...Object.fromEntries(trainables),
    })
    const out = await compiled.run(feed())
    expect(out['ce']?.[0]).toBeCloseTo(step.ce, 5)
    expect(out['lmZ']?.[0]).toBeCloseTo(step.lm_z, 8)
    expect(out['routerZ']?.[0]).toBeCloseTo(step.router_z, 6)
    const gradients = new Map([...trainables.keys()].map((name) => [name, out[`d.${name}`] as Float32Array]))
    const names = new Map<string, string>()
    for (const l of [0, 1]) {
      for (const p of FFN_PROJECTIONS) names.set(expertName(l, PAIR_EXPERT, p), expertName(l, PAIR_EXPERT, p))
      names.set(routerName(l), layerName(l, 'mlp.gate.weight'))
      names.set(biasName(l), `bias.${l}`)
    }
    for (const [ours, theirs] of names) {
      const expected = step.grads[theirs] as number[]
      const actual = gradients.get(ours) as Float32Array
      if (ours === routerName(0) || ours === routerName(1)) continue // the reference lists row 0 first: zeros
      expectClose(actual.subarray(0, expected.length), expected)
      expect(globalNorm(new Map([['g', actual]]))).toBeCloseTo(step.grad_l2[theirs] as number, 4)
    }
    for (const l of [0, 1]) {
      const norm = globalNorm(new Map([['g', gradients.get(routerName(l)) as Float32Array]]))
      expect(norm).toBeCloseTo(step.grad_l2[routerName(l)] as number, 4)
    }
    const optimizer = new AdamW(ADAMW_DEFAULTS, trainables)
    const norm = optimizer.update(trainables, gradients, step.adamw.lr)
    expect(norm).toBeCloseTo(step.grad_norm_before_clip, 4)
    for (const [ours, theirs] of names) {
      if (ours === routerName(0) || ours === routerName(1)) continue
      const expected = step.adamw.params_after[theirs] as number[]
      expectClose((trainables.get(ours) as Float32Array).subarray(0, expected.length), expected)
    }
    const after = await compiled.run(feed())
    expect(after['ce']?.[0]).toBeCloseTo(step.after.ce, 4)
    expect(after['routerZ']?.[0]).toBeCloseTo(step.after.router_z, 5)
    await compiled.dispose()
  })
})
