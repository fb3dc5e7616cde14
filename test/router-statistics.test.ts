import { mkdir, readFile, stat } from 'node:fs/promises'
import { join } from 'node:path'
import type { Tensor } from '@tensorflow/tfjs'
import fc from 'fast-check'
import { afterAll, describe, expect, it } from 'vitest'
import { checkStatistics } from '../src/acceptance/checks.ts'
import { disjointStretches, packTokens, TokenFile } from '../src/data/token-file.ts'
import { writeFileAtomic } from '../src/lib/files.ts'
import { denseName } from '../src/model/params.ts'
import { mulberry32 } from '../src/model/sampling.ts'
import { type RouterStatistics, solveGate } from '../src/model/solved-router.ts'
import { forward } from '../src/model/transformer.ts'
import { STATISTICS_MEAN, STATISTICS_SECOND } from '../src/packaging/tensor-names.ts'
import { loadPublicModel } from '../src/public-model.ts'
import { publicStatistics } from '../src/router-statistics.ts'
import { gateShares, routerStatistics } from '../src/training/router-statistics.ts'
import { onnx, present } from './support/engines.ts'
import { goldenConfig, goldenPublic } from './support/golden.ts'
import { cleanUp, folder, tinyModel } from './support/network.ts'
import { codeOf } from './support/packages.ts'
import { DecayedMean } from './support/router-statistics.ts'

afterAll(cleanUp)

const { hiddenSize: C, vocabSize } = goldenConfig
/** Log-odds as the statistics give them, the public text one of the owners. */
const PLAIN = { scale: 1, prior: 0 }
const documentsOf = (lengths: readonly number[], seed = 1): Int32Array[] => {
  const random = mulberry32(seed)
  return lengths.map((length) => Int32Array.from({ length }, () => Math.floor(random() * vocabSize)))
}

/** First router input (T, C) of one sequence, from the whole forward pass. */
async function streamOf(ids: Int32Array): Promise<Float32Array> {
  const T = ids.length
  const compiled = await onnx.compile(
    (tensors) => {
      const weights = (name: string): Tensor => tensors[denseName(name)] as Tensor
      const init = { B: 1, T, E: 1, topK: 1, bias: false }
      return { u: forward(goldenConfig, weights, weights('ids'), init).routerInputs[0] as Tensor }
    },
    {
      inputs: { ids: { shape: [1, T], dtype: 'int32' } },
      frozen: {
        ...Object.fromEntries(goldenPublic()),
        ...Object.fromEntries(
          Array.from({ length: goldenConfig.numHiddenLayers }, (_, layer) => [
            `model.layers.${layer}.mlp.gate.weight`,
            { shape: [1, C], data: new Float32Array(C) },
          ]),
        ),
      },
    },
  )
  const { u } = await compiled.run({ ids })
  await compiled.dispose()
  return Float32Array.from(u as Float32Array)
}

/** The definition, one token after the other, with the mean that serving uses. */
async function byDefinition(documents: readonly Int32Array[]): Promise<RouterStatistics> {
  const second = new Float64Array((C * (C + 1)) / 2)
  const mean = new Float64Array(C)
  const feature = new Float32Array(C)
  for (const ids of documents) {
    const u = await streamOf(ids)
    const decayed = new DecayedMean(C)
    const share = 1 / ids.length / documents.length
    for (let t = 0; t < ids.length; t++) {
      decayed.next(u.subarray(t * C, (t + 1) * C), feature)
      let at = 0
      for (let i = 0; i < C; i++) {
        mean[i] = (mean[i] as number) + share * (feature[i] as number)
        for (let j = i; j < C; j++) {
          second[at] = (second[at] as number) + share * (feature[i] as number) * (feature[j] as number)
          at++
        }
      }
    }
  }
  return { second: Float32Array.from(second), mean: Float32Array.from(mean) }
}

const far = (a: Float32Array, b: Float32Array): number =>
  a.reduce((max, x, i) => Math.max(max, Math.abs(x - (b[i] as number))), 0)

describe('router statistics', () => {
  const documents = documentsOf([1, 40, 7, 128, 3, 64, 20, 9, 33, 2, 50])

  it.each(present)('are the moments of the features that serving computes, on $label', async ({ engine }) => {
    const expected = await byDefinition(documents)
    const made = await routerStatistics(engine, goldenConfig, goldenPublic(), documents)
    expect(far(made.mean, expected.mean)).toBeLessThan(2e-6)
    expect(far(made.second, expected.second)).toBeLessThan(2e-6)
  })

  it('count each document the same and move by 2/n at most when one is exchanged', async () => {
    const others = [...documents.slice(1), ...documentsOf([128], 2)]
    const a = await routerStatistics(onnx, goldenConfig, goldenPublic(), documents)
    const b = await routerStatistics(onnx, goldenConfig, goldenPublic(), others)
    const distance = (name: 'mean' | 'second'): number => {
      let total = 0
      let at = 0
      for (let i = 0; i < C; i++) {
        if (name === 'mean') total += ((a.mean[i] as number) - (b.mean[i] as number)) ** 2
        for (let j = i; name === 'second' && j < C; j++) {
          const difference = (a.second[at] as number) - (b.second[at++] as number)
          total += (i === j ? 1 : 2) * difference ** 2
        }
      }
      return Math.sqrt(total)
    }
    for (const name of ['mean', 'second'] as const) {
      expect(distance(name)).toBeLessThanOrEqual(2 / documents.length)
      expect(distance(name)).toBeGreaterThan(0)
    }
  })
})

describe('acceptance of router statistics', () => {
  const judged = ({ second, mean }: RouterStatistics): string => {
    const tensor = (name: string, data: Float32Array) =>
      [name, { name, dtype: 'F32' as const, shape: [data.length], data }] as const
    return codeOf(() =>
      checkStatistics(new Map([tensor(STATISTICS_SECOND, second), tensor(STATISTICS_MEAN, mean)])),
    )
  }

  it('takes those of any text, also where a few tokens span a few directions only', async () => {
    for (const lengths of [[1], [1, 1, 1], [2, 128], new Array(64).fill(5)]) {
      const made = await routerStatistics(onnx, goldenConfig, goldenPublic(), documentsOf(lengths))
      expect(judged(made)).toBe('accept')
    }
  })

  it.each([
    ['a trace above 1', 'statistics-norm', (x: RouterStatistics) => scaled(x, 9, 1)],
    ['no trace', 'statistics-norm', (x: RouterStatistics) => scaled(x, 0, 1)],
    ['a negative outer product', 'statistics-norm', (x: RouterStatistics) => scaled(x, -1, 1)],
    ['a mean longer than 1', 'statistics-norm', (x: RouterStatistics) => scaled(x, 1, 9)],
    ['less spread than its mean', 'statistics-covariance', (x: RouterStatistics) => scaled(x, 0.1, 1)],
    ['a direction of negative spread', 'statistics-covariance', (x: RouterStatistics) => skewed(x)],
  ] as const)('refuses %s: %s', async (_, code, change) => {
    const made = await routerStatistics(onnx, goldenConfig, goldenPublic(), documentsOf([40, 30, 20]))
    expect(judged(change(made))).toBe(code)
  })

  const scaled = ({ second, mean }: RouterStatistics, a: number, b: number): RouterStatistics => ({
    second: second.map((x) => a * x),
    mean: mean.map((x) => b * x),
  })
  /** The same trace and mean, with entry (0, 1) far above what the diagonal allows. */
  const skewed = ({ second, mean }: RouterStatistics): RouterStatistics => ({
    second: second.map((x, i) => (i === 1 ? x + 1 : x)),
    mean,
  })

  it('sees that statistics of the public text would take half of it', async () => {
    const model = { config: goldenConfig, params: goldenPublic() }
    const documents = documentsOf([40, 30, 128], 3)
    const made = await routerStatistics(onnx, model.config, model.params, documents)
    const other = await routerStatistics(onnx, model.config, model.params, documentsOf([40, 30, 128], 4))
    const share = async (guest: RouterStatistics) => {
      const gate = solveGate(C, [made, guest], PLAIN)
      return (await gateShares(onnx, model.config, model.params, gate, documents))[1] as number
    }
    expect(await share(made)).toBeCloseTo(0.5, 6)
    expect(await share(other)).toBeLessThan(0.4)
  })
})

describe('documents of statistics', () => {
  it('are disjoint stretches of one document each', async () => {
    const dir = await folder()
    const path = join(dir, 'train.tokens')
    // Documents of 100, 3 and 60 ids, each after a boundary 0.
    const ids = [100, 3, 60].flatMap((length, i) => [0, ...new Array(length).fill(i + 1)])
    await writeFileAtomic(path, packTokens(Int32Array.from(ids), 2))
    const file = await TokenFile.open(path, 2)
    const all = await disjointStretches(file, 0, 32, 100)
    expect(all.map((part) => [part.length, new Set(part.filter((id) => id !== 0)).size])).toEqual([
      [32, 1],
      [32, 1],
      [32, 1],
      [23, 1],
      [32, 1],
    ])
    const few = await disjointStretches(file, 0, 32, 2)
    expect(few.map((part) => Array.from(part))).toEqual(
      [all[0], all[2]].map((part) => Array.from(part ?? [])),
    )
    await file.close()
  })
})

describe('statistics of the public text', () => {
  it('are computed once and read from their file after that, unless the model is another', async () => {
    const model = await loadPublicModel(await tinyModel())
    const root = await folder()
    await mkdir(root, { recursive: true })
    const signal = AbortSignal.timeout(30_000)
    const first = await publicStatistics(onnx, model, root, signal)
    const path = join(root, '.replay', 'router-statistics.safetensors')
    const written = await stat(path)
    const broken = { ...onnx, compile: () => Promise.reject(new Error('computed again')) }
    expect(await publicStatistics(broken, model, root, signal)).toEqual(first)
    expect((await stat(path)).mtimeMs).toBe(written.mtimeMs)
    const name = 'model.layers.0.self_attn.v_proj.weight'
    const params = new Map(model.params)
    const { shape, data } = params.get(name) ?? { shape: [], data: new Float32Array(0) }
    params.set(name, { shape, data: data.map((x) => 1 - x) })
    await expect(publicStatistics(broken, { ...model, params }, root, signal)).rejects.toThrow(
      'computed again',
    )
    expect((await readFile(path)).length).toBeGreaterThan(4 * first.second.length)
  })
})

describe('a gate', () => {
  const width = 5

  /** Moments of random features, some of them nearly in one plane. */
  function momentsOf(seed: number): RouterStatistics {
    const random = mulberry32(seed)
    const n = 8
    const second = new Float64Array((width * (width + 1)) / 2)
    const mean = new Float64Array(width)
    for (let k = 0; k < n; k++) {
      const x = Array.from({ length: width }, (_, i) => (random() - 0.3) / (1 + i * (seed % 3)))
      let at = 0
      for (let i = 0; i < width; i++) {
        mean[i] = (mean[i] as number) + (x[i] as number) / n
        for (let j = i; j < width; j++) {
          second[at] = (second[at] as number) + ((x[i] as number) * (x[j] as number)) / n
          at++
        }
      }
    }
    return { second: Float32Array.from(second), mean: Float32Array.from(mean) }
  }

  /** Covariance, dense. */
  function covarianceOf({ second, mean }: RouterStatistics): number[][] {
    const full = Array.from({ length: width }, () => new Array<number>(width).fill(0))
    let at = 0
    for (let i = 0; i < width; i++) {
      for (let j = i; j < width; j++) {
        const value = (second[at++] as number) - (mean[i] as number) * (mean[j] as number)
        ;(full[i] as number[])[j] = value
        ;(full[j] as number[])[i] = value
      }
    }
    return full
  }

  const seeds = fc.uniqueArray(fc.integer({ min: 1, max: 1e6 }), { minLength: 3, maxLength: 6 })

  it('does not depend on the order of experts', () => {
    fc.assert(
      fc.property(seeds, (all) => {
        const experts = all.map(momentsOf)
        const { weights, offsets } = solveGate(width, experts, PLAIN)
        const turned = solveGate(width, [...experts].reverse(), PLAIN)
        experts.forEach((_, e) => {
          const other = experts.length - 1 - e
          const row = weights.subarray(e * width, (e + 1) * width)
          const size = Math.hypot(...row)
          row.forEach((value, i) => {
            expect(Math.abs(value - (turned.weights[other * width + i] as number))).toBeLessThan(1e-5 * size)
          })
          expect(turned.offsets[other]).toBeCloseTo(offsets[e] as number, 4)
        })
      }),
      { seed: 5, numRuns: 50 },
    )
  })

  it('is calibrated by one factor of all log-odds and one number more for the public text', () => {
    const experts = [1, 2, 3].map(momentsOf)
    const plain = solveGate(width, experts, PLAIN)
    const { weights, offsets } = solveGate(width, experts, { scale: 0.5, prior: 2 })
    expect(
      far(
        weights,
        plain.weights.map((x) => x / 2),
      ),
    ).toBeLessThan(1e-6)
    expect(
      far(
        offsets,
        plain.offsets.map((x, e) => x / 2 + (e === 0 ? 2 : 0)),
      ),
    ).toBeLessThan(1e-6)
  })

  it('without an expert is the gate of sums from which that expert was subtracted', () => {
    fc.assert(
      fc.property(seeds, (all) => {
        const experts = all.map(momentsOf)
        const [leaves, ...stay] = experts as [RouterStatistics, ...RouterStatistics[]]
        const sums = experts
          .map(covarianceOf)
          .reduce((a, b) => a.map((row, i) => row.map((x, j) => x + (b[i]?.[j] ?? 0))))
        const without = covarianceOf(leaves)
        const pooled = sums.map((row, i) => row.map((x, j) => (x - (without[i]?.[j] ?? 0)) / stay.length))
        const ridge = (0.01 * pooled.reduce((trace, row, i) => trace + (row[i] as number), 0)) / width
        const { weights, offsets } = solveGate(width, stay, PLAIN)
        stay.forEach(({ mean }, e) => {
          const row = weights.subarray(e * width, (e + 1) * width)
          const size = Math.hypot(...row)
          pooled.forEach((line, i) => {
            const image = line.reduce(
              (total, x, j) => total + x * (row[j] as number),
              ridge * (row[i] as number),
            )
            expect(Math.abs(image - (mean[i] as number))).toBeLessThan(1e-5 * (1 + size))
          })
          const product = row.reduce((total, x, i) => total + x * (mean[i] as number), 0)
          expect(offsets[e]).toBeCloseTo(-product / 2, 4)
        })
      }),
      { seed: 6, numRuns: 50 },
    )
  })
})
