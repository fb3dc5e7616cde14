import type { Tensor } from '@tensorflow/tfjs'
import { describe, expect, it } from 'vitest'
import type { AcceptedExpert } from '../../src/acceptance/accepted-experts.ts'
import { compose } from '../../src/composition/compose.ts'
import { selectionMask } from '../../src/composition/selection.ts'
import { digestOf } from '../../src/lib/bytes.ts'
import { mulberry32 } from '../../src/lib/random.ts'
import { denseName } from '../../src/lib/tensor-names.ts'
import { type Expert, mixtureWeights, zeroRows } from '../../src/model/params.ts'
import { LEFT_OUT } from '../../src/model/routing-plan.ts'
import { forward, head } from '../../src/model/transformer.ts'
import { loadParams, type Param, type WeightMap } from '../../src/model/weights.ts'
import { onnxEngine } from '../../src/tensor/onnx-engine.ts'
import { ADAMW_DEFAULTS, AdamW } from '../../src/training/optimizer.ts'
import { compilePairStep, initialTrainables, type Trainables } from '../../src/training/pair.ts'
import { toBatch } from '../../src/training/train.ts'
import { golden, goldenConfig, goldenPublic } from '../support/golden.ts'

const engine = onnxEngine({ threads: 1 })
const config = goldenConfig
const { hiddenSize: C, numHiddenLayers: L } = config
const publicModel = goldenPublic()
const ids = Int32Array.from(golden.input_ids)
const T = ids.length

/** An expert with random router rows and bias, whose FFN differs randomly from the public one. */
function expert(seed: number, bias = true): Expert<Param> {
  const random = mulberry32(seed)
  const ffn = new Map<string, { shape: readonly number[]; data: Float32Array }>()
  for (let layer = 0; layer < L; layer++) {
    for (const projection of ['gate_proj', 'up_proj', 'down_proj']) {
      const source = publicModel.get(`model.layers.${layer}.mlp.${projection}.weight`)
      if (source === undefined) throw new Error(`no ${projection}`)
      ffn.set(`${layer}.${projection}`, {
        shape: source.shape,
        data: source.data.map((x) => x + 0.2 * (random() - 0.5)),
      })
    }
  }
  return {
    ffn,
    routerRows: Array.from({ length: L }, () => Float32Array.from({ length: C }, () => random() - 0.5)),
    bias: bias ? Float32Array.from({ length: L }, () => -random()) : undefined,
  }
}

interface Outputs {
  logits: Float32Array
  /** Router probabilities [T, E] of each layer. */
  probabilities: Float32Array[]
}

async function run(
  weights: WeightMap,
  E: number,
  topK: number,
  mask: Float32Array = new Float32Array(E),
): Promise<Outputs> {
  const compiled = await engine.compile(
    (tensors) => {
      const weights = (name: string): Tensor => (tensors[name] ?? tensors[denseName(name)]) as Tensor
      const init = { B: 1, T, E, topK, bias: E > 1, mask: weights('mask') }
      const result = forward(config, weights, weights('ids'), init)
      const out: Record<string, Tensor> = { logits: head(weights, result.hidden) }
      result.routing.forEach(({ probabilities }, layer) => {
        out[`p${layer}`] = probabilities
      })
      return out
    },
    {
      inputs: { ids: { shape: [1, T], dtype: 'int32' }, mask: { shape: [E] } },
      frozen: Object.fromEntries(await loadParams(weights)),
    },
  )
  const out = await compiled.run({ ids, mask })
  await compiled.dispose()
  const take = (name: string): Float32Array => Float32Array.from(out[name] as Float32Array)
  return { logits: take('logits'), probabilities: Array.from({ length: L }, (_, layer) => take(`p${layer}`)) }
}

const merged = (experts: readonly Expert[]): WeightMap =>
  mixtureWeights(config, publicModel, zeroRows(config), experts)
const maxDifference = (a: Float32Array, b: Float32Array): number =>
  a.reduce((max, x, i) => Math.max(max, Math.abs(x - (b[i] as number))), 0)
const dense = async (): Promise<Float32Array> => {
  const router = Array.from(
    { length: L },
    (_, l) => [`model.layers.${l}.mlp.gate.weight`, { shape: [1, C], data: new Float32Array(C) }] as const,
  )
  return (await run(new Map([...publicModel, ...router]), 1, 1)).logits
}
const a = expert(1)
const b = expert(2)
const c = expert(3, false)

describe('the invariants of the method', () => {
  it('1: a mixture of the public expert alone equals the dense public model', async () => {
    const expected = await dense()
    expect(expected.some((x) => Math.abs(x) > 0.01)).toBe(true)
    expect(maxDifference((await run(merged([]), 1, 1)).logits, expected)).toBe(0)
  })

  it('2: the pair model at step 0 equals the public model, for top-2 and for top-1', async () => {
    const start: Expert<Param> = {
      ...a,
      ffn: new Map(
        [...a.ffn].map(([key]) => [
          key,
          publicModel.get(`model.layers.${key.replace('.', '.mlp.')}.weight`) as never,
        ]),
      ),
    }
    const expected = await dense()
    expect(maxDifference((await run(merged([start]), 2, 2)).logits, expected)).toBeLessThan(1e-5)
    expect(maxDifference((await run(merged([start]), 2, 1)).logits, expected)).toBeLessThan(1e-4)
  })

  it('3: training changes FFN 1, its router rows and biases, and nothing else', async () => {
    const before = new Map([...publicModel].map(([name, { data }]) => [name, data.slice()]))
    const trainables = await initialTrainables(config, publicModel, a.routerRows)
    const start = new Map([...trainables].map(([name, data]) => [name, data.slice()]))
    await steps(trainables, 3)
    for (const [name, data] of before) expect([name, publicModel.get(name)?.data]).toEqual([name, data])
    for (const name of trainables.keys())
      expect(name).toMatch(/\.experts\.1\.|mlp\.gate\.weight$|mlp\.expert_bias$/)
    for (const [name, data] of start)
      expect([name, maxDifference(trainables.get(name) as Float32Array, data) > 0]).toEqual([name, true])
  })

  it('4: the order of experts does not matter', async () => {
    const one = (await run(merged([a, b, c]), 4, 4)).logits
    expect(maxDifference((await run(merged([c, a, b]), 4, 4)).logits, one)).toBeLessThan(1e-5)
    const accepted = [a, b, c].map(
      (x, i): AcceptedExpert => ({
        id: digestOf(Uint8Array.of(i)),
        name: `e${i}`,
        institution: `I${i}`,
        peerId: '',
        expert: x,
      }),
    )
    const model = { digest: digestOf(Uint8Array.of(9)), weights: publicModel }
    const forth = compose(config, model, accepted, 4)
    const back = compose(config, model, [...accepted].reverse(), 4)
    expect(back.digest).toBe(forth.digest)
    expect(
      maxDifference((await run(back.weights, 4, 4)).logits, (await run(forth.weights, 4, 4)).logits),
    ).toBe(0)
  })

  it('5: masking an expert equals removing it, masking all equals the public model, and no mask restores all', async () => {
    const accepted = [a, b].map(
      (x, i): AcceptedExpert => ({
        id: digestOf(Uint8Array.of(i)),
        name: `e${i}`,
        institution: `I${i}`,
        peerId: '',
        expert: x,
      }),
    )
    const composition = compose(
      config,
      { digest: digestOf(Uint8Array.of(9)), weights: publicModel },
      accepted,
      3,
    )
    const first = composition.experts[0] as AcceptedExpert
    const all = (await run(composition.weights, 3, 3)).logits
    const without = (
      await run(composition.weights, 3, 3, selectionMask(composition, { include: [first.name] }))
    ).logits
    expect(maxDifference(without, all)).toBeGreaterThan(1e-3)
    expect(maxDifference(without, (await run(merged([first.expert]), 2, 2)).logits)).toBeLessThan(1e-5)
    expect(
      maxDifference(
        (await run(composition.weights, 3, 3, selectionMask(composition, { include: [] }))).logits,
        await dense(),
      ),
    ).toBeLessThan(1e-5)
    expect(
      maxDifference((await run(composition.weights, 3, 3, selectionMask(composition, {}))).logits, all),
    ).toBe(0)
  })

  it('6: a mixture of the public model and one expert equals its pair model', async () => {
    const trainables = await initialTrainables(config, publicModel, a.routerRows)
    await steps(trainables, 2)
    const { ce, before } = await steps(trainables, 1)
    const trained = new Map<string, { shape: readonly number[]; data: Float32Array }>()
    for (const key of a.ffn.keys()) {
      const [layer, projection] = key.split('.')
      const data = before.get(`model.layers.${layer}.mlp.experts.1.${projection}.weight`) as Float32Array
      trained.set(key, { shape: (a.ffn.get(key) as { shape: readonly number[] }).shape, data })
    }
    const rows = Array.from(
      { length: L },
      (_, l) => before.get(`model.layers.${l}.mlp.gate.weight`) as Float32Array,
    )
    const bias = Float32Array.from(
      { length: L },
      (_, l) => before.get(`model.layers.${l}.mlp.expert_bias`)?.[0] as number,
    )
    const { logits } = await run(merged([{ ffn: trained, routerRows: rows, bias }]), 2, 2)
    expect(crossEntropy(logits)).toBeCloseTo(ce, 5)
  })

  it('7: a common factor of all experts changes nothing, so routing weights need no renormalisation', async () => {
    const doubled = new Map(
      [...(await loadParams(merged([a, b])))].map(([name, p]) => [
        name,
        name.endsWith('down_proj.weight') ? { ...p, data: p.data.map((x) => 2 * x) } : p,
      ]),
    )
    expect(
      maxDifference((await run(doubled, 3, 2)).logits, (await run(merged([a, b]), 3, 2)).logits),
    ).toBeLessThan(1e-4)
  })

  it('8: adding experts does not change the ratio of the probabilities of an expert and the public one', async () => {
    const pair = (await run(merged([a]), 2, 2)).probabilities[0] as Float32Array
    const all = (await run(merged([a, b, c]), 4, 4)).probabilities[0] as Float32Array
    for (let t = 0; t < T; t++) {
      const before = (pair[2 * t + 1] as number) / (pair[2 * t] as number)
      const after = (all[4 * t + 1] as number) / (all[4 * t] as number)
      expect(Math.abs(after / before - 1)).toBeLessThan(1e-4)
    }
  })

  it('9: an expert masked with minus infinity gets probability 0, also without a bias', async () => {
    const { probabilities } = await run(merged([c]), 2, 2, Float32Array.of(0, LEFT_OUT))
    for (const layer of probabilities) for (let t = 0; t < T; t++) expect(layer[2 * t + 1]).toBe(0)
  })
})

/** Train on the golden tokens. @returns the trainables before the last step, and the cross-entropy with them. */
async function steps(trainables: Trainables, count: number): Promise<{ ce: number; before: Trainables }> {
  const compiled = await compilePairStep(engine, config, publicModel, zeroRows(config), 1, T - 1)
  const optimizer = new AdamW(ADAMW_DEFAULTS, trainables)
  let ce = Number.NaN
  let before: Trainables = new Map()
  for (let i = 0; i < count; i++) {
    before = new Map([...trainables].map(([name, data]) => [name, data.slice()]))
    const out = await compiled.run({ ...toBatch([ids]), ...Object.fromEntries(trainables) })
    const gradients = new Map([...trainables.keys()].map((name) => [name, out[`d.${name}`] as Float32Array]))
    optimizer.update(trainables, gradients, 1e-2)
    ce = out['ce']?.[0] as number
  }
  await compiled.dispose()
  return { ce, before }
}

/** Mean next-token cross-entropy in nats of logits [T, V] on the golden tokens. */
function crossEntropy(logits: Float32Array): number {
  const V = config.vocabSize
  let total = 0
  for (let t = 0; t + 1 < T; t++) {
    const row = logits.subarray(t * V, (t + 1) * V)
    const max = Math.max(...row)
    const lse = max + Math.log(row.reduce((sum, x) => sum + Math.exp(x - max), 0))
    total += lse - (row[ids[t + 1] as number] as number)
  }
  return total / (T - 1)
}
