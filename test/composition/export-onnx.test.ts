import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import * as ort from 'onnxruntime-node'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import type { AcceptedExpert } from '../../src/acceptance/accepted-experts.ts'
import { COMPOSE, type ComposeResult } from '../../src/commands/compose.ts'
import { decodeCompositionFile } from '../../src/composition/composition-file.ts'
import { cleanUp, folder } from '../support/folders.ts'
import { network, run, type TestNetwork } from '../support/network.ts'
import { madeUpStatistics } from '../support/router-statistics.ts'
import { shortText } from '../support/texts.ts'
import { TINY, tinyModel } from '../support/tiny-model.ts'

const TEXT = 'Article L. 1'
const NEW = 12
let net: TestNetwork

beforeAll(async () => {
  net = await network(['Archives'], await tinyModel(), { router: 'rows' })
  const [node] = net.nodes as [TestNetwork['nodes'][number]]
  await run(node, 'train', { name: 'law', data: [await shortText('archive')], steps: 3 })
  await run(node, 'publish', { name: 'law', license: 'CC-BY-4.0' })
}, 120_000)
afterAll(async () => {
  await net.close()
  await cleanUp()
})

/** Greedy token ids of the exported graph, computed as the README of the export shows. */
async function greedy(dir: string, first: number[], E: number): Promise<number[]> {
  const session = await ort.InferenceSession.create(join(dir, 'model.onnx'), { intraOpNumThreads: 1 })
  const feeds: Record<string, ort.Tensor> = {
    expert_mask: new ort.Tensor('float32', new Float32Array(E), [E]),
    num_logits_to_keep: new ort.Tensor('int64', [1n], []),
  }
  for (const name of session.inputNames.filter((name) => name.startsWith('past')))
    feeds[name] = new ort.Tensor('float32', [], [1, 2, 0, 8])
  const generated: number[] = []
  for (let ids = first; generated.length < NEW; ids = generated.slice(-1)) {
    feeds['input_ids'] = new ort.Tensor('int64', BigInt64Array.from(ids, BigInt), [1, ids.length])
    const out = await session.run(feeds)
    for (const name of session.outputNames.filter((name) => name.startsWith('present')))
      feeds[name.replace('present', 'past_key_values')] = out[name] as ort.Tensor
    const logits = out['logits']?.data as Float32Array
    generated.push(logits.indexOf(logits.reduce((a, b) => Math.max(a, b))))
  }
  await session.release()
  return generated
}

describe('a composition exported for ONNX Runtime', () => {
  it('generates the tokens that the node generates, and names the experts', async () => {
    const [node] = net.nodes as [TestNetwork['nodes'][number]]
    const dir = join(await folder(), 'out')
    const result = await run<{ composition: string; files: string[] }>(node, 'compose', { exportOnnx: dir })
    const inference = node.composer.served
    const { tokenizer } = node.publicModel
    const prompt = Int32Array.from([tokenizer.endOfText, ...tokenizer.encode(TEXT)])
    const sampling = { temperature: 0, topP: 1, seed: 1 }
    const completion = { prompt, maxTokens: NEW, sampling, selection: {} }
    const served: number[] = []
    for await (const { id } of inference.complete(completion, new AbortController().signal)) served.push(id)
    expect(await greedy(dir, [...prompt], 2)).toEqual(served)

    const file = decodeCompositionFile(await readFile(join(dir, 'composition.json')))
    expect(file).toMatchObject({ composition: inference.composition.digest, consortium: node.consortium })
    expect(result.composition).toBe(file.composition)
    expect(file.experts).toMatchObject([{ name: 'law', institution: 'Archives', license: 'CC-BY-4.0' }])
    expect((await readFile(join(dir, 'model.onnx'))).length).toBeLessThan(200_000)
    expect(await readFile(join(dir, 'tokenizer.json'))).toEqual(
      await readFile(join(node.publicModel.dir, 'tokenizer.json')),
    )
  })

  it('contains only the experts of the selection', async () => {
    const [node] = net.nodes as [TestNetwork['nodes'][number]]
    const dir = join(await folder(), 'out')
    await run(node, 'compose', { exclude: ['law'], exportOnnx: dir })
    const file = decodeCompositionFile(await readFile(join(dir, 'composition.json')))
    expect(file).toMatchObject({ topK: 1, experts: [] })
    expect(await greedy(dir, [0], 1)).toHaveLength(NEW)
  })

  it('routes by rows, and the result and README say that it has no gate', async () => {
    const [node] = net.nodes as [TestNetwork['nodes'][number]]
    const [law] = node.accepted.list() as [AcceptedExpert]
    Object.assign(law.expert, { statistics: madeUpStatistics(TINY.vocabSize, 2) })
    const rows = await run<Record<string, unknown>>(node, 'evaluate', { router: 'rows' })
    const auto = await run<Record<string, unknown>>(node, 'evaluate', { router: 'auto' })
    expect([rows['router'], auto['router']]).toEqual(['rows', 'solved'])
    expect(auto['public']).toBeCloseTo(rows['public'] as number, 5)
    expect(auto['composed']).not.toBe(rows['composed'])

    const dir = join(await folder(), 'out')
    const result = await run<ComposeResult>(node, 'compose', { router: 'auto', exportOnnx: dir })
    const { composition } = decodeCompositionFile(await readFile(join(dir, 'composition.json')))
    expect(composition).toBe(node.composer.served.composition.digest)
    expect(result).toMatchObject({ router: 'solved', exported: { router: 'rows', composition } })
    expect(result.composition).not.toBe(composition)
    expect(COMPOSE.words(result, { color: false }).join('\n')).toContain(
      `cannot hold a gate and route by router rows: composition ${composition}`,
    )
    expect(await readFile(join(dir, 'README.md'), 'utf8')).toContain('without a gate')
  })

  it('is not written to a folder that is not empty', async () => {
    const [node] = net.nodes as [TestNetwork['nodes'][number]]
    const dir = join(await folder(), 'out')
    await run(node, 'compose', { exportOnnx: dir })
    await expect(run(node, 'compose', { exportOnnx: dir })).rejects.toMatchObject({ code: 'exists' })
  })
})
