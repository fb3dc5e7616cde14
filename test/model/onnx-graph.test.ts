import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import * as ort from 'onnxruntime-node'
import { afterAll, describe, expect, it } from 'vitest'
import { createGenerator } from '../../src/inference/generate.ts'
import { headSize, type ModelConfig } from '../../src/model/config.ts'
import { mixtureGraph } from '../../src/model/onnx-graph.ts'
import { LEFT_OUT } from '../../src/model/routing-plan.ts'
import type { Param } from '../../src/model/weights.ts'
import { encodeModelWithData } from '../../src/tensor/onnx-encode.ts'
import { onnxEngine } from '../../src/tensor/onnx-engine.ts'
import { goldenConfig } from '../support/golden.ts'
import { E, params } from '../support/golden-generator.ts'

const { vocabSize: V, numHiddenLayers: L } = goldenConfig
const NEW = 24
interface Model {
  readonly config: ModelConfig
  readonly params: ReadonlyMap<string, Param>
}
const GOLDEN: Model = { config: goldenConfig, params }
/** The golden mixture with one head of keys and values, shared by both query heads. */
const GROUPED: Model = {
  config: { ...goldenConfig, numKeyValueHeads: 1 },
  params: new Map(
    [...params].map(([name, { shape, data }]) => {
      if (!/\.(k_proj|v_proj|k_norm)\./.test(name)) return [name, { shape, data }]
      const half = {
        shape: [(shape[0] as number) / 2, ...shape.slice(1)],
        data: data.slice(0, data.length / 2),
      }
      return [name, half]
    }),
  ),
}
const PROMPTS = [0, 5, 11, 17].map((seed) => Array.from({ length: 10 }, (_, i) => (7 * i * i + seed) % V))
const [PROMPT = []] = PROMPTS

const dir = await mkdtemp(join(tmpdir(), 'flexmesh-test-'))
afterAll(() => rm(dir, { recursive: true, force: true }))

async function session(topK: number, { config, params }: Model = GOLDEN): Promise<ort.InferenceSession> {
  const graph = await mixtureGraph(config, params, { E, topK })
  const { model, data } = encodeModelWithData(graph, `${topK}.data`)
  const pieces: Uint8Array[] = []
  for (const part of data) {
    if (part instanceof Uint8Array) pieces.push(part)
    else for await (const piece of part.pieces()) pieces.push(piece)
  }
  await writeFile(join(dir, `${topK}.data`), Buffer.concat(pieces))
  const path = join(dir, `${topK}.onnx`)
  await writeFile(path, model)
  return ort.InferenceSession.create(path, { intraOpNumThreads: 1 })
}

type Past = Record<string, ort.Tensor>
const empty = (B: number, { config }: Model = GOLDEN): Past =>
  Object.fromEntries(
    Array.from({ length: L }, (_, layer) => ['key', 'value'].map((part) => `${layer}.${part}`))
      .flat()
      .map((name) => [
        name,
        new ort.Tensor('float32', new Float32Array(0), [B, config.numKeyValueHeads, 0, headSize(config)]),
      ]),
  )

/** Runs the graph once: appends `ids` to each row. @param more overrides further inputs */
async function step(
  model: ort.InferenceSession,
  ids: readonly (readonly number[])[],
  past: Past,
  more: Past = {},
): Promise<{ logits: ort.Tensor; shares: ort.Tensor; past: Past }> {
  const feeds: Past = {
    expert_mask: new ort.Tensor('float32', new Float32Array(E), [E]),
    num_logits_to_keep: new ort.Tensor('int64', [1n], []),
    ...more,
  }
  for (const [name, value] of Object.entries(past)) feeds[`past_key_values.${name}`] = value
  const flat = BigInt64Array.from(ids.flat(), BigInt)
  feeds['input_ids'] = new ort.Tensor('int64', flat, [ids.length, ids[0]?.length ?? 0])
  const out = await model.run(feeds)
  const present = Object.keys(past).map((name) => [name, out[`present.${name}`] as ort.Tensor] as const)
  const [logits, shares] = [out['logits'], out['expert_shares']] as [ort.Tensor, ort.Tensor]
  return { logits, shares, past: Object.fromEntries(present) }
}

const rows = (tensor: ort.Tensor): number[][] => {
  const width = tensor.dims.at(-1) as number
  const data = Array.from(tensor.data as Float32Array)
  return Array.from({ length: data.length / width }, (_, i) => data.slice(i * width, (i + 1) * width))
}
const likeliest = (logits: readonly number[]): number => logits.indexOf(Math.max(...logits))

/** Greedy tokens by the graph, which reads the prompt in two pieces. */
async function greedy(
  prompt: number[],
  topK: number,
  mask?: Float32Array,
  of = GOLDEN,
): Promise<{ ids: number[]; shares: number[][] }> {
  const model = await session(topK, of)
  const more: Past = mask === undefined ? {} : { expert_mask: new ort.Tensor('float32', mask, [E]) }
  const found: { ids: number[]; shares: number[][] } = { ids: [], shares: [] }
  let out = await step(model, [prompt.slice(0, 4)], empty(1, of), more)
  out = await step(model, [prompt.slice(4)], out.past, more)
  for (;;) {
    const id = likeliest(rows(out.logits)[0] as number[])
    found.ids.push(id)
    found.shares.push(rows(out.shares)[0] as number[])
    if (found.ids.length === NEW) return found
    out = await step(model, [[id]], out.past, more)
  }
}

/** Greedy tokens by serving. */
async function served(
  prompt: number[],
  topK: number,
  mask = new Float32Array(E),
  of = GOLDEN,
): Promise<{ ids: number[]; shares: number[][] }> {
  const generator = await createGenerator(onnxEngine({ threads: 1 }), of.config, of.params, {
    E,
    topK,
    contextLength: 60,
  })
  const found: { ids: number[]; shares: number[][] } = { ids: [], shares: [] }
  const request = { prompt: Int32Array.from(prompt), maxTokens: NEW, endsOfText: [], mask }
  for await (const { id, shares } of generator.generate({
    ...request,
    sampling: { temperature: 0, topP: 1, seed: 1 },
  })) {
    found.ids.push(id)
    found.shares.push([...shares])
  }
  await generator.dispose()
  return found
}

const near = (actual: readonly number[], expected: readonly number[]): void => {
  expect(actual.length).toBe(expected.length)
  for (const [i, value] of actual.entries()) expect(value).toBeCloseTo(expected[i] as number, 4)
}

describe('the exported ONNX graph', () => {
  it.each([1, 2, 3])('chooses the same tokens as serving, with the same shares (top-%i)', async (topK) => {
    const chosen = new Set<number>()
    for (const prompt of PROMPTS) {
      const [graph, node] = [await greedy(prompt, topK), await served(prompt, topK)]
      expect(graph.ids).toEqual(node.ids)
      for (const [i, shares] of graph.shares.entries()) near(shares, node.shares[i] as number[])
      for (const id of graph.ids) chosen.add(id)
    }
    expect(chosen.size).toBeGreaterThan(5)
  })

  it('chooses the same tokens as serving with grouped-query attention', async () => {
    const chosen = new Set<number>()
    for (const prompt of PROMPTS) {
      const graph = await greedy(prompt, 2, undefined, GROUPED)
      expect(graph.ids).toEqual((await served(prompt, 2, undefined, GROUPED)).ids)
      for (const id of graph.ids) chosen.add(id)
    }
    expect(chosen.size).toBeGreaterThan(5)
  })

  it('leaves out an expert that is masked', async () => {
    const mask = Float32Array.of(0, LEFT_OUT, 0)
    const changed: boolean[] = []
    for (const prompt of PROMPTS) {
      const graph = await greedy(prompt, 2, mask)
      expect(graph.ids).toEqual((await served(prompt, 2, mask)).ids)
      for (const shares of graph.shares) expect(shares[1]).toBe(0)
      changed.push(graph.ids.join() !== (await greedy(prompt, 2)).ids.join())
    }
    expect(changed).toContain(true)
  })

  it('gives the same logits for several rows together as for each alone', async () => {
    const model = await session(2)
    const other = PROMPT.map((id) => (id + 7) % V)
    const both = rows((await step(model, [PROMPT, other], empty(2))).logits)
    const first = rows((await step(model, [PROMPT], empty(1))).logits)
    const second = rows((await step(model, [other], empty(1))).logits)
    near(both[0] as number[], first[0] as number[])
    near(both[1] as number[], second[0] as number[])
  })

  it('gives the logits of the requested number of last tokens', async () => {
    const model = await session(2)
    const keep = (n: number): Past => ({ num_logits_to_keep: new ort.Tensor('int64', [BigInt(n)], []) })
    const all = await step(model, [PROMPT], empty(1), keep(PROMPT.length))
    expect(all.logits.dims).toEqual([1, PROMPT.length, V])
    const last = await step(model, [PROMPT], empty(1))
    expect(last.logits.dims).toEqual([1, 1, V])
    near(rows(all.logits).at(-1) as number[], rows(last.logits)[0] as number[])
    const shorter = await step(model, [PROMPT.slice(0, 4)], empty(1))
    near(rows(all.logits)[3] as number[], rows(shorter.logits)[0] as number[])
  })

  it('fails for a text that is longer than the context', async () => {
    const model = await session(2)
    const long = Array.from({ length: goldenConfig.maxPositionEmbeddings + 1 }, () => 1)
    await expect(step(model, [long], empty(1))).rejects.toThrow(/idx=64|bounds/)
  })
})
