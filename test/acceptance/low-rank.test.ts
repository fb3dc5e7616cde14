import { describe, expect, it } from 'vitest'
import { DEFAULT_POLICY } from '../../src/acceptance/policy.ts'
import { checkFinite, checkNorms } from '../../src/acceptance/weight-checks.ts'
import { WeightScan } from '../../src/acceptance/weight-scan.ts'
import { tensorsOfExpert } from '../../src/checkpoint/expert-tensors.ts'
import { concatBytes } from '../../src/lib/bytes.ts'
import { lowRankOf } from '../../src/model/low-rank.ts'
import { materialised } from '../../src/model/merged-weight.ts'
import type { Expert } from '../../src/model/params.ts'
import { loadParams, type Param, type WeightMap } from '../../src/model/weights.ts'
import { onnx as engine } from '../support/engines.ts'
import { goldenConfig as config } from '../support/golden.ts'
import { fullExpert, publicModel } from '../support/low-rank.ts'
import { packTensors, unpackFile } from '../support/package-bytes.ts'

const { hiddenSize: C, intermediateSize: F } = config

describe('acceptance of a low-rank expert', () => {
  const tensorsOf = async (expert: Expert): Promise<Map<string, Param>> => {
    const { parts } = packTensors(await loadParams(tensorsOfExpert(config, expert)), 'F32')
    return unpackFile(concatBytes(...parts))
  }
  const name = 'model.layers.1.mlp.experts.1.up_proj'
  const changed = async (change: (A: Float32Array, B: Float32Array) => void) => {
    const tensors = await tensorsOf((await lowRankOf(engine, fullExpert(1), publicModel, 3)).expert)
    const [A, B] = ['A', 'B'].map((factor) => tensors.get(`${name}.lora_${factor}.weight`)?.data)
    change(A as Float32Array, B as Float32Array)
    return tensors
  }
  /** Whether a policy with this limit accepts the distance of every tensor from the public model. */
  const isWithin = async (tensors: WeightMap, maxDeltaRatio: number): Promise<boolean> => {
    try {
      await checkNorms(new WeightScan(tensors, publicModel), { ...DEFAULT_POLICY, maxDeltaRatio })
      return true
    } catch {
      return false
    }
  }

  it('measures the same difference from the public model as of merged weights', async () => {
    const { expert } = await lowRankOf(engine, fullExpert(1), publicModel, 3)
    const merged = await tensorsOf(materialised(expert, publicModel))
    const factors = await tensorsOf(expert)
    const limits = Array.from({ length: 60 }, (_, i) => 0.01 * 1.1 ** i)
    const verdicts = await Promise.all(limits.map((limit) => isWithin(factors, limit)))
    expect(verdicts).toEqual(await Promise.all(limits.map((limit) => isWithin(merged, limit))))
    expect(new Set(verdicts).size).toBe(2)
  })

  it.each([
    ['a difference too large', (_: Float32Array, B: Float32Array) => B.set(B.map((x) => 100 * x))],
    [
      'large terms that cancel',
      (A: Float32Array, B: Float32Array) => {
        for (let i = 0; i < C; i++) A[i] = A[C + i] = 1000
        for (let o = 0; o < F; o++) {
          B[3 * o] = 1
          B[3 * o + 1] = -1
        }
      },
    ],
    [
      'factors whose product overflows',
      (A: Float32Array, B: Float32Array) => void [A.fill(1e30), B.fill(1e30)],
    ],
  ])('refuses %s', async (_, change) => {
    await expect(
      checkNorms(new WeightScan(await changed(change), publicModel), DEFAULT_POLICY),
    ).rejects.toThrow(/up_proj/)
    await checkNorms(new WeightScan(await changed(() => undefined), publicModel), DEFAULT_POLICY)
  })

  it('refuses a factor that is not finite', async () => {
    await expect(
      checkFinite(new WeightScan(await changed((A) => A.fill(Number.NaN, 2, 3)), publicModel)),
    ).rejects.toThrow(/lora_A.weight\[2\]/)
  })
})
