/** An expert by way of another machine: export a pair, train it, import, publish, export the composition. */

import { mkdir, readdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { answerOf, readFolder } from '../../scripts/parity/our-model.ts'
import { readSafetensors, toFloat32 } from '../../src/checkpoint/safetensors.ts'
import { decodeCompositionFile } from '../../src/composition/composition-file.ts'
import { limit } from '../../src/lib/limits.ts'
import { mixtureName } from '../../src/lib/tensor-names.ts'
import { createConsortium } from '../../src/node/found.ts'
import { FlexMeshNode } from '../../src/node/node.ts'
import { importExpert } from '../../src/owner/import-expert.ts'
import { loadTrained } from '../../src/owner/training-folder.ts'
import { onnxEngine } from '../../src/tensor/onnx-engine.ts'
import {
  copied,
  emptyHome,
  messageOf,
  PUBLISHED,
  publishedModel,
  reconfigured,
  replayFile,
  rewritten,
  type StoredTensor,
  tensorOf,
  tensorsOf,
  widen,
  without,
} from '../support/model-folders.ts'
import { cleanUp, EXAMPLES, folder, LENIENT, now, run } from '../support/network.ts'

const engine = onnxEngine({ threads: 2 })
const L = PUBLISHED.numHiddenLayers
const C = PUBLISHED.hiddenSize
const FFN = 'model.layers.1.mlp.experts.1.up_proj.weight'
const FROZEN = 'model.layers.0.self_attn.k_norm.weight'
const ROUTER = 'model.layers.1.mlp.gate.weight'

/** Half of every value of expert 1, as training elsewhere might leave it; exact in every format. */
function trainElsewhere(tensors: Map<string, StoredTensor>): void {
  for (const { name, bytes, dtype } of tensors.values()) {
    if (!name.includes('.experts.1.')) continue
    if (dtype !== 'BF16') throw new Error('expected BF16')
    const halves = new Uint16Array(bytes.buffer, bytes.byteOffset, bytes.length / 2)
    halves.forEach((half, i) => {
      if ((half & 0x7f80) > 0x0080) halves[i] = half - 0x0080
    })
  }
}

let replay: string
let published: string
beforeAll(async () => {
  replay = await replayFile()
  published = await publishedModel('BF16')
})
afterAll(cleanUp)

describe('an expert trained elsewhere', () => {
  let home: string
  let node: FlexMeshNode
  let pair: string
  let trained: string

  beforeAll(async () => {
    home = await emptyHome()
    await createConsortium({ home, now }, { modelDir: published, name: 'Test', replay })
    // As an export routes.
    node = await FlexMeshNode.open({ home, engine, policy: LENIENT, now, router: 'rows' })
    pair = join(await folder(), 'pair')
    const data = [join(EXAMPLES, 'archive', 'text')]
    await run(node, 'train', { name: 'law', data, exportPair: pair, shardMegabytes: 1 })
    trained = await rewritten(pair, trainElsewhere, 400_000)
  })
  afterAll(() => node.close())

  it('starts from a pair whose frozen tensors are those published, bit for bit', async () => {
    const config = JSON.parse(await readFile(join(pair, 'config.json'), 'utf8')) as Record<string, unknown>
    expect(config).toMatchObject({ model_type: 'flex_olmo', num_experts: 2, num_experts_per_tok: 2 })
    const tensors = await tensorsOf(pair)
    for (const { name, dtype, bytes } of (await tensorsOf(published)).values()) {
      const copies = [mixtureName(name)]
      if (name.includes('.mlp.')) copies.push(mixtureName(name).replace('experts.0', 'experts.1'))
      for (const copy of copies) {
        expect([copy, tensors.get(copy)?.dtype]).toEqual([copy, dtype])
        expect(Buffer.compare(tensorOf(tensors, copy).bytes, bytes)).toBe(0)
      }
    }
    const bias = readSafetensors(await readFile(join(pair, 'router_bias.safetensors'))).tensors
    for (let layer = 0; layer < L; layer++) {
      const rows = toFloat32({
        dtype: 'F32',
        data: tensorOf(tensors, `model.layers.${layer}.mlp.gate.weight`).bytes,
      })
      expect(rows).toHaveLength(2 * C)
      expect(rows.subarray(0, C).every((x) => x === 0)).toBe(true)
      expect(rows.subarray(C).some((x) => x !== 0)).toBe(true)
      const entry = bias.get(`model.layers.${layer}.mlp.expert_bias`)
      expect(entry?.dtype).toBe('F32')
      expect(Array.from(toFloat32(entry as never))).toEqual([0, Math.fround(-0.05)])
    }
  })

  it('is refused a folder that is not empty', async () => {
    const data = [join(EXAMPLES, 'archive', 'text')]
    const again = (): Promise<unknown> => run(node, 'train', { name: 'law', data, exportPair: pair })
    expect(await messageOf(again)).toMatch(/pair is not empty/)
  })

  it('is taken in, published, composed and exported as FlexOlmo; the folder computes what the node does', async () => {
    const progress: number[] = []
    await importExpert(node.paths, trained, 'law', {
      onProgress: (done, total) => progress.push(done / total),
    })
    expect(progress.at(-1)).toBe(1)
    const { expert, result } = await loadTrained(node.publicModel, node.paths.training, 'law')
    expect(result.documents).toBeGreaterThan(0)
    expect(expert.bias).toBeUndefined()
    expect(result.statisticsDocuments).toBeGreaterThanOrEqual(limit('statisticsDocuments'))
    expect(expert.statistics?.tokens).toHaveLength(PUBLISHED.vocabSize)
    await run(node, 'publish', { name: 'law', license: 'CC-BY-4.0', domain: 'law' })
    await node.settled()

    const out = join(await folder(), 'composed')
    const composed = await run<{ composition: string; files: string[] }>(node, 'compose', {
      export: out,
      shardMegabytes: 1,
    })
    expect(composed.composition).toBe(node.composer.served.composition.digest)
    expect((await readdir(out)).sort()).toEqual([...composed.files].sort())
    expect(composed.files).toEqual(expect.arrayContaining(['tokenizer.json', 'generation_config.json']))
    const label = decodeCompositionFile(await readFile(join(out, 'composition.json')))
    expect(label).toMatchObject({ composition: composed.composition, experts: [{ license: 'CC-BY-4.0' }] })
    const readme = await readFile(join(out, 'README.md'), 'utf8')
    for (const part of [
      'Test',
      'law',
      'CC-BY-4.0',
      node.accepted.list()[0]?.id as string,
      node.identity.peerId,
    ])
      expect(readme).toContain(part)

    // Bytes as published: FFN 1 in the package's BF16, everything else in the public model's.
    const tensors = await tensorsOf(out)
    const elsewhere = await tensorsOf(trained)
    for (const { name, bytes } of tensors.values()) {
      if (name.includes('gate.weight')) continue
      expect([name, Buffer.compare(bytes, tensorOf(elsewhere, name).bytes)]).toEqual([name, 0])
    }
    // One set of weights in the node and in the folder, so one forward pass (parity.test.ts) over both.
    const folderModel = await readFolder(out)
    const { params, topK } = node.composer.served.composition
    expect(folderModel.topK).toBe(topK)
    for (const [name, { data }] of folderModel.params)
      expect([name, params.get(name)?.data]).toEqual([name, data])
    const prompt = Int32Array.from([0, 5, 9, 200, 31])
    const { ids } = await answerOf(folderModel, prompt, 12)
    const sampling = { temperature: 0, topP: 1, seed: 1 }
    const served: number[] = []
    const signal = AbortSignal.timeout(60_000)
    const completion = { prompt, maxTokens: 12, sampling, selection: {} }
    for await (const { id } of node.composer.served.complete(completion, signal)) served.push(id)
    expect(served).toEqual(ids)
  })

  it('keeps its bias where nothing here can take it in; the export then asks what to do', async () => {
    await importExpert(node.paths, trained, 'from-afar')
    const { expert } = await loadTrained(node.publicModel, node.paths.training, 'from-afar')
    expect(expert.bias).toEqual(new Float32Array(L).fill(-0.05))
    expect(expert.statistics).toBeUndefined()
    await run(node, 'publish', { name: 'from-afar' })
    await node.settled()
    const out = join(await folder(), 'composed')
    const refusal = await messageOf(() => run(node, 'compose', { export: out }))
    expect(refusal).toMatch(/Test\/from-afar has a router bias.*--drop-bias/)
    await run(node, 'compose', { export: out, dropBias: true, topK: 1 })
    const config = JSON.parse(await readFile(join(out, 'config.json'), 'utf8')) as Record<string, unknown>
    expect(config).toMatchObject({ num_experts: 3, num_experts_per_tok: 1 })
    const bias = readSafetensors(await readFile(join(out, 'router_bias.safetensors'))).tensors
    const [first] = [...bias.values()].map((entry) => Array.from(toFloat32(entry)).sort())
    expect(first).toEqual([0, 0, Math.fround(-0.05)].sort())
    expect(await readFile(join(out, 'README.md'), 'utf8')).toContain('router_bias.safetensors')
    expect(await readdir(out)).not.toContain('composition.json')
    // Without it nothing is asked.
    const plain = join(await folder(), 'composed')
    await run(node, 'compose', { export: plain, exclude: ['from-afar'] })
    expect(await readdir(plain)).not.toContain('router_bias.safetensors')
  })

  it('does not replace one that was trained here, beside the same grouped-query model', async () => {
    const data = [join(EXAMPLES, 'archive', 'text')]
    const result = await run<{ own: { before: number; after: number } }>(node, 'train', {
      name: 'here',
      data,
      steps: 3,
    })
    expect(result.own.after).toBeLessThan(result.own.before)
    // Statistics are of the text, which never left: the same whoever trained.
    const [law, here] = await Promise.all(
      ['law', 'here'].map((name) => loadTrained(node.publicModel, node.paths.training, name)),
    )
    expect(here?.expert.statistics?.tokens.some((share) => share > 0)).toBe(true)
    expect(law?.expert.statistics).toEqual(here?.expert.statistics)
    expect(law?.result.statisticsDocuments).toBe(here?.result.statisticsDocuments)
    const again = (): Promise<unknown> => importExpert(node.paths, trained, 'here')
    expect(await messageOf(again)).toMatch(/here was trained here; choose another --name/)
  })

  it('leaves nothing behind where an export fails', async () => {
    const parent = await folder()
    const target = join(parent, 'file')
    await writeFile(target, 'x')
    expect(await messageOf(() => run(node, 'compose', { export: target }))).toMatch(/is not empty/)
    const inFile = join(target, 'model')
    expect(await messageOf(() => run(node, 'compose', { export: inFile, exclude: ['from-afar'] }))).not.toBe(
      'accepted',
    )
    await mkdir(join(parent, 'empty'))
    await run(node, 'compose', { export: join(parent, 'empty'), exclude: ['from-afar'] })
    expect((await readdir(parent)).sort()).toEqual(['empty', 'file'])
  })

  const taken = async (dir: string): Promise<string> =>
    messageOf(() => importExpert(node.paths, dir, `try-${Math.floor(performance.now())}`))
  const changed = (change: (tensors: Map<string, StoredTensor>) => void) => async (): Promise<string> =>
    rewritten(trained, change)
  it.each<[string, () => Promise<string>, RegExp]>([
    [
      'one bit of a frozen tensor changed',
      changed((all) => {
        const { bytes } = tensorOf(all, FROZEN)
        bytes[6] = (bytes[6] as number) ^ 1
      }),
      /model\.safetensors: tensor model\.layers\.0\.self_attn\.k_norm\.weight differs from the public model/,
    ],
    [
      'the public FFN trained along',
      changed((all) => {
        const { bytes } = tensorOf(all, FFN.replace('experts.1', 'experts.0'))
        bytes[0] = (bytes[0] as number) ^ 1
      }),
      /tensor model\.layers\.1\.mlp\.experts\.0\.up_proj\.weight differs from the public model/,
    ],
    [
      'the public router row trained along',
      changed((all) => tensorOf(all, ROUTER).bytes.set([1], 5)),
      /tensor model\.layers\.1\.mlp\.gate\.weight has a row 0 that is not zero, as the public row is/,
    ],
    [
      'frozen tensors saved in another format',
      changed((all) => {
        widen(tensorOf(all, FROZEN))
      }),
      /k_norm\.weight is F32, but BF16 in the public model/,
    ],
    [
      'NaN in expert 1',
      changed((all) => tensorOf(all, FFN).bytes.set([0xc0, 0x7f], 20)),
      /tensor model\.layers\.1\.mlp\.experts\.1\.up_proj\.weight holds a value that is not finite, at 10/,
    ],
    [
      'infinity in its router row',
      changed((all) => tensorOf(all, ROUTER).bytes.set([0, 0, 0x80, 0x7f], 4 * (C + 3))),
      /gate\.weight holds a value that is not finite, at 35/,
    ],
    [
      'another shape of expert 1',
      changed((all) => {
        tensorOf(all, FFN).shape = [C, 24]
      }),
      /up_proj\.weight has shape \[32,24\]/,
    ],
    [
      'a third expert',
      async () => reconfigured(await copied(trained), { num_experts: 3 }),
      /config\.json: expected model_type flex_olmo with num_experts 2, got "flex_olmo" with 3/,
    ],
    ['a dense model', () => copied(published), /config\.json: expected model_type flex_olmo/],
    [
      'another rotary base',
      async () => reconfigured(await copied(trained), { rope_theta: 10_000 }),
      /config\.json: expected ropeTheta 500000 as in the public model, got 10000/,
    ],
    [
      'another tokenizer',
      async () => {
        const dir = await copied(trained)
        const path = join(dir, 'tokenizer.json')
        await writeFile(path, (await readFile(path, 'utf8')).replace('"Ġthe"', '"Ġxhe"'))
        return dir
      },
      /tokenizer\.json is not the tokenizer of the public model/,
    ],
    ['no tokenizer', async () => without(await copied(trained), 'tokenizer.json'), /no tokenizer\.json/],
    [
      'a missing shard',
      async () => {
        const dir = await copied(trained)
        const shard = (await readdir(dir)).filter((name) => name.startsWith('model-000')).at(-1) as string
        return without(dir, shard)
      },
      /model-\d+-of-\d+\.safetensors is missing/,
    ],
    [
      'a pickle beside',
      async () => {
        const dir = await copied(trained)
        await writeFile(join(dir, 'training_args.bin'), 'x')
        return dir
      },
      /training_args\.bin is a pickle/,
    ],
    [
      'a bias for the public expert',
      async () => {
        const dir = await copied(trained)
        const path = join(dir, 'router_bias.safetensors')
        const bytes = await readFile(path)
        bytes.writeFloatLE(-1, bytes.length - 4 * 2 * L)
        await writeFile(path, bytes)
        return dir
      },
      /router_bias\.safetensors: tensor model\.layers\.0\.mlp\.expert_bias must be finite, and 0 for expert 0/,
    ],
  ])('is refused with %s, naming it', async (_, dir, message) => {
    const before = await node.trainings.finished()
    const text = await taken(await dir())
    expect(text).toMatch(message)
    expect(text).not.toContain('\n')
    expect(await node.trainings.finished()).toEqual(before)
  })

  it('is taken in a format of its own, with progress that ends at the end', async () => {
    const dir = await rewritten(trained, (all) => {
      for (const found of all.values()) {
        if (found.name.includes('.experts.1.')) widen(found)
      }
    })
    const shares: number[] = []
    await importExpert(node.paths, dir, 'wide', { onProgress: (done, total) => shares.push(done / total) })
    expect([Math.max(...shares), shares.at(-1)]).toEqual([1, 1])
    const wide = await loadTrained(node.publicModel, node.paths.training, 'wide')
    const same = await loadTrained(node.publicModel, node.paths.training, 'from-afar')
    expect(wide.expert.ffn.size).toBe(3 * L)
    for (const [key, { data }] of wide.expert.ffn)
      expect([key, data]).toEqual([key, same.expert.ffn.get(key)?.data])
  })

  it('is taken with a tokenizer file that a library spelt anew', async () => {
    const dir = await copied(trained)
    const path = join(dir, 'tokenizer.json')
    const { version, ...rest } = JSON.parse(await readFile(path, 'utf8')) as Record<string, unknown>
    await writeFile(
      path,
      JSON.stringify({ ...rest, padding: { strategy: 'BatchLongest' }, version }, null, 1),
    )
    expect(await taken(dir)).toBe('accepted')
  })
})
