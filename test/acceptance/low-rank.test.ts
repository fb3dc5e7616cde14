import { describe, expect, it } from 'vitest'
import { DEFAULT_POLICY } from '../../src/acceptance/policy.ts'
import { checkFinite, checkNorms } from '../../src/acceptance/weight-checks.ts'
import { tensorsOfExpert } from '../../src/checkpoint/expert-tensors.ts'
import type { ExpertTensor } from '../../src/checkpoint/safetensors.ts'
import { concatBytes } from '../../src/lib/bytes.ts'
import { lowRankOf, materialised } from '../../src/model/low-rank.ts'
import type { Expert } from '../../src/model/params.ts'
import { packExpert } from '../../src/packaging/package.ts'
import { goldenConfig as config } from '../support/golden.ts'
import { fullExpert, publicModel } from '../support/low-rank.ts'
import { unpackFile } from '../support/unpack.ts'

const { hiddenSize: C, intermediateSize: F, numHiddenLayers: L } = config

describe('acceptance of a low-rank expert', () => {
  const shape = { layers: L, hidden_size: C, intermediate_size: F }
  const tensorsOf = (expert: Expert): Map<string, ExpertTensor> => {
    const { parts } = await packExpert(tensorsOfExpert(config, expert), 'F32')
    return unpackFile(concatBytes(...parts), shape)
  }
  const name = 'model.layers.1.mlp.experts.1.up_proj'
  const changed = (change: (A: Float32Array, B: Float32Array) => void) => {
    const tensors = tensorsOf(lowRankOf(fullExpert(1), publicModel, 3).expert)
    const [A, B] = ['A', 'B'].map((factor) => tensors.get(`${name}.lora_${factor}.weight`)?.data)
    change(A as Float32Array, B as Float32Array)
    return tensors
  }
  /** Whether a policy with this limit accepts the distance of every tensor from the public model. */
  const isWithin = (tensors: ReadonlyMap<string, ExpertTensor>, maxDeltaRatio: number): boolean => {
    try {
      checkNorms(tensors, publicModel, { ...DEFAULT_POLICY, maxDeltaRatio })
      return true
    } catch {
      return false
    }
  }

  it('measures the same difference from the public model as of merged weights', () => {
    const { expert } = lowRankOf(fullExpert(1), publicModel, 3)
    const merged = tensorsOf(materialised(expert, publicModel))
    const factors = tensorsOf(expert)
    const limits = Array.from({ length: 60 }, (_, i) => 0.01 * 1.1 ** i)
    const verdicts = limits.map((limit) => isWithin(factors, limit))
    expect(verdicts).toEqual(limits.map((limit) => isWithin(merged, limit)))
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
  ])('refuses %s', (_, change) => {
    expect(() => checkNorms(changed(change), publicModel, DEFAULT_POLICY)).toThrow(/up_proj/)
    expect(() =>
      checkNorms(
        changed(() => undefined),
        publicModel,
        DEFAULT_POLICY,
      ),
    ).not.toThrow()
  })

  it('refuses a factor that is not finite', () => {
    expect(() => checkFinite(changed((A) => A.fill(Number.NaN, 2, 3)))).toThrow(/lora_A.weight\[2\]/)
  })
})
