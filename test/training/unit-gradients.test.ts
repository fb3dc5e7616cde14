import { type Tensor, tensor } from '@tensorflow/tfjs'
import { describe, expect, it } from 'vitest'
import { clipFactors, squaredUnitNorms, weightedSum } from '../../src/training/unit-gradients.ts'
import { present } from '../support/engines.ts'

// Inputs A (3, 2) and gradients B (3, 3) of one unit: B'A = [[7, 10], [3, 5], [-1, -1]], whose squared norm is 185.
const A = [1, 2, 3, 4, 0, 1]
const B = [1, 0, -1, 2, 1, 0, 0, 1, 1]

describe('gradients of units', () => {
  it.each(present)(
    'have on $label the same norm from products of rows and from the gradient',
    async ({ engine }) => {
      const norms = await engine.compile(
        () => {
          const rows = (values: number[], copies: number): Tensor =>
            tensor(
              Array.from({ length: 3 }, (_, t) =>
                Array.from({ length: copies }, () =>
                  values.slice(t * (values.length / 3), (t + 1) * (values.length / 3)),
                ).flat(),
              ),
            )
          // Small matrices are materialised; repeated columns make them large enough for products of rows.
          const small = { inputs: tensor(A, [3, 2]), gradients: tensor(B, [3, 3]), scale: 1 }
          const large = { inputs: rows(A, 3), gradients: rows(B, 1), scale: 1 }
          return { small: squaredUnitNorms([small], 1, 3), large: squaredUnitNorms([large], 1, 3) }
        },
        { inputs: {} },
      )
      const { small, large } = await norms.run({})
      await norms.dispose()
      expect([small?.[0], large?.[0]]).toEqual([185, 3 * 185])
    },
  )

  it('are clipped together over all weights, and not at all for public units', async () => {
    const [{ engine }] = present as [(typeof present)[number]]
    const step = await engine.compile(
      () => {
        const part = {
          inputs: tensor([...A, ...A], [6, 2]),
          gradients: tensor([...B, ...B], [6, 3]),
          scale: 2,
        }
        const squared = squaredUnitNorms([part, part], 2, 3)
        const factors = clipFactors(squared, tensor(1 / 3), tensor([0, 1]))
        return { squared, factors, total: weightedSum(part, factors, 3) }
      },
      { inputs: {} },
    )
    const { squared, factors, total } = await step.run({})
    await step.dispose()
    expect(squared).toEqual(Float32Array.of(8 * 185, 8 * 185))
    const clipped = 3 / Math.sqrt(8 * 185)
    expect(factors?.[0]).toBeCloseTo(clipped, 6)
    expect(factors?.[1]).toBe(1)
    const gradient = [7, 10, 3, 5, -1, -1]
    gradient.forEach((x, i) => {
      expect(total?.[i]).toBeCloseTo(2 * x * (1 + clipped), 5)
    })
  })
})
