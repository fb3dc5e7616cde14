import { describe, expect, it } from 'vitest'
import { DEFAULT_POLICY } from '../../src/acceptance/policy.ts'
import { checkNorms, checkRouterRows } from '../../src/acceptance/weight-checks.ts'
import { WeightScan } from '../../src/acceptance/weight-scan.ts'
import { tensorsOfExpert } from '../../src/checkpoint/expert-tensors.ts'
import { concatBytes } from '../../src/lib/bytes.ts'
import type { Expert } from '../../src/model/params.ts'
import { loadParams, type Param, type Params } from '../../src/model/weights.ts'
import { goldenConfig as config } from '../support/golden.ts'
import { fullExpert, publicModel } from '../support/low-rank.ts'
import { packTensors, unpackFile } from '../support/package-bytes.ts'
import { codeOfAsync } from '../support/packages.ts'

async function tensorsOf(expert: Expert<Param>): Promise<Map<string, Param>> {
  const { parts } = packTensors(await loadParams(tensorsOfExpert(config, expert)), 'F32')
  return unpackFile(concatBytes(...parts))
}

/** The code with which the checks of the weights refuse an expert, or `accept`. */
const judged = (expert: Expert<Param>, model: Params = publicModel): Promise<string> =>
  codeOfAsync(async () => {
    const scan = new WeightScan(await tensorsOf(expert), model)
    await checkNorms(scan, DEFAULT_POLICY)
    await checkRouterRows(scan, DEFAULT_POLICY)
  })

const scaled = (expert: Expert<Param>, ffn: number, rows: number): Expert<Param> => ({
  ...expert,
  ffn: new Map(
    [...expert.ffn].map(([key, { shape, data }]) => [key, { shape, data: data.map((x) => ffn * x) }]),
  ),
  routerRows: expert.routerRows.map((row) => row.map((x) => rows * x)),
})

/** The public model with weights that a factor multiplies: all of the embedding and of the norms after each block. */
const scaledModel = (factor: number): Params =>
  new Map(
    [...publicModel].map(([name, { shape, data }]) => [
      name,
      /embed_tokens|post_/.test(name) ? { shape, data: data.map((x) => factor * x) } : { shape, data },
    ]),
  )

describe('the scale of an expert', () => {
  /** Rows of norm 9, about as long as those of honest training for a residual stream whose elements are about 1. */
  const honest = ((): Expert<Param> => {
    const expert = fullExpert(1)
    const norm = (row: Float32Array): number => Math.sqrt(row.reduce((sum, x) => sum + x * x, 0))
    return { ...expert, routerRows: expert.routerRows.map((row) => row.map((x) => (9 * x) / norm(row))) }
  })()

  it.each([
    [1, 1],
    [2, 1],
    [3, 1],
    [0.5, 1],
    [1, 0.5],
    [1, 2],
    [1, 3],
    [1, 0],
  ])('is left to the measurements for an FFN times %d and router rows times %d', async (ffn, rows) => {
    expect(await judged(scaled(honest, ffn, rows))).toBe('accept')
  })

  it.each([
    [4, 1, 'norm-bound'],
    [10, 1, 'norm-bound'],
    [-3, 1, 'norm-bound'],
    [1, 10, 'router-norm'],
    [1, -10, 'router-norm'],
    [1, 100, 'router-norm'],
  ])('is refused for an FFN times %d and router rows times %d: %s', async (ffn, rows, code) => {
    expect(await judged(scaled(honest, ffn, rows))).toBe(code)
  })

  it('of router rows is bounded relative to the residual stream of the public model', async () => {
    const ten = scaledModel(10)
    expect(await judged(scaled(honest, 1, 0.1), ten)).toBe('accept')
    expect(await judged(scaled(honest, 1, 1), ten)).toBe('router-norm')
    const tenth = scaledModel(0.1)
    expect(await judged(scaled(honest, 1, 10), tenth)).toBe('accept')
    expect(await judged(scaled(honest, 1, 100), tenth)).toBe('router-norm')
  })

  it('that is refused is stated with its bound and what to do next', async () => {
    const far = new WeightScan(await tensorsOf(scaled(honest, 1, 10)), publicModel)
    await expect(checkRouterRows(far, DEFAULT_POLICY)).rejects.toThrow(
      /norm 90\.00, at most [\d.]+ is allowed beside this public model; .*--steps/,
    )
    const large = new WeightScan(await tensorsOf(scaled(honest, 10, 1)), publicModel)
    await expect(checkNorms(large, DEFAULT_POLICY)).rejects.toThrow(
      /at most 4 is allowed; .* at most 3; .*--steps/,
    )
  })
})
