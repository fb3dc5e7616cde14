/** An expert trained on another machine: export a pair, train it, import, publish and export the composition. */

import { mkdir, readdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { answerOf, readFolder } from '../../scripts/parity/our-model.ts'
import { readSafetensors, toFloat32 } from '../../src/checkpoint/safetensors.ts'
import { decodeCompositionFile } from '../../src/composition/composition-file.ts'
import { limit } from '../../src/lib/limits.ts'
import { mixtureName } from '../../src/lib/tensor-names.ts'
import { loadParams } from '../../src/model/weights.ts'
import { createConsortium } from '../../src/node/found.ts'
import { FlexMeshNode } from '../../src/node/node.ts'
import { importExpert } from '../../src/owner/import-expert.ts'
import { loadTrained, trainingDirs } from '../../src/owner/training-folder.ts'
import { homePaths } from '../../src/store/home.ts'
import { onnxEngine } from '../../src/tensor/onnx-engine.ts'
import { cleanUp, folder } from '../support/folders.ts'
import { newHome } from '../support/homes.ts'
import {
  copied,
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
import { LENIENT, now, run } from '../support/network.ts'
import { shortText } from '../support/texts.ts'

const engine = onnxEngine({ threads: 2 })
const TEXT = await shortText('archive')
const L = PUBLISHED.numHiddenLayers
const C = PUBLISHED.hiddenSize
const FFN = 'model.layers.1.mlp.experts.1.up_proj.weight'
const FROZEN = 'model.layers.0.self_attn.k_norm.weight'
const ROUTER = 'model.layers.1.mlp.gate.weight'

/** Halves every value of expert 1, which is exact in every dtype, in place of training. */
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

/** A closed home that has exported a pair of the training "law", the public model, the pair, and the pair trained. */
let home: string
let published: string
let pair: string
let trained: string
beforeAll(async () => {
  published = await publishedModel('BF16')
  home = await newHome()
  await createConsortium({ home, now }, { modelDir: published, name: 'Test', replay: await replayFile() })
  pair = join(await folder(), 'pair')
  const node = await open(home)
  await run(node, 'train', { name: 'law', data: [TEXT], exportPair: pair, shardMegabytes: 1 })
  await node.close()
  trained = await rewritten(pair, trainElsewhere, 400_000)
})
afterAll(cleanUp)

/** A node that routes as an export does. */
function open(home: string): Promise<FlexMeshNode> {
  return FlexMeshNode.open({ home, engine, policy: LENIENT, now, router: 'rows' })
}

/** Run a test on a node of its own, which has exported the pair. */
async function withNode(test: (node: FlexMeshNode) => Promise<void>): Promise<void> {
  const node = await open(await copied(home))
  try {
    await test(node)
  } finally {
    await node.close()
  }
}

describe('an exported pair', () => {
  it('has the public model as its frozen tensors, bit for bit', async () => {
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

  it('is not written into a folder that is not empty', () =>
    withNode(async (node) => {
      const again = (): Promise<unknown> =>
        run(node, 'train', { name: 'law', data: [TEXT], exportPair: pair })
      expect(await messageOf(again)).toMatch(/pair is not empty/)
    }))
})

describe('an expert trained elsewhere', () => {
  it('is imported, published, composed and exported as a FlexOlmo folder that computes what the node does', () =>
    withNode(async (node) => {
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

      // The bytes are unchanged: FFN 1 in BF16 from the package, everything else from the public model.
      const tensors = await tensorsOf(out)
      const elsewhere = await tensorsOf(trained)
      for (const { name, bytes } of tensors.values()) {
        if (name.includes('gate.weight')) continue
        expect([name, Buffer.compare(bytes, tensorOf(elsewhere, name).bytes)]).toEqual([name, 0])
      }
      // Node and folder have the same weights; that both compute the same from them is tested in parity.test.ts.
      const folderModel = await readFolder(out)
      const { weights, topK } = node.composer.served.composition
      const params = await loadParams(weights)
      expect(folderModel.topK).toBe(topK)
      for (const [name, { data }] of folderModel.params)
        expect([name, params.get(name)?.data]).toEqual([name, data])
      const prompt = Int32Array.from([0, 5, 9, 200, 31])
      const { ids } = await answerOf(folderModel, prompt, 12)
      const sampling = { temperature: 0, topP: 1, seed: 1 }
      const served: number[] = []
      const signal = new AbortController().signal
      const completion = { prompt, maxTokens: 12, sampling, selection: {} }
      for await (const { id } of node.composer.served.complete(completion, signal)) served.push(id)
      expect(served).toEqual(ids)
    }))

  it('keeps its bias under a name that was not exported, and an export of it needs --drop-bias', () =>
    withNode(async (node) => {
      await importExpert(node.paths, trained, 'from-afar')
      const { expert } = await loadTrained(node.publicModel, node.paths.training, 'from-afar')
      expect(expert.bias).toEqual(new Float32Array(L).fill(-0.05))
      expect(expert.statistics).toBeUndefined()
      await importExpert(node.paths, trained, 'law')
      for (const name of ['law', 'from-afar']) await run(node, 'publish', { name })
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
      // Without that expert the option is not needed.
      const plain = join(await folder(), 'composed')
      await run(node, 'compose', { export: plain, exclude: ['from-afar'] })
      expect(await readdir(plain)).not.toContain('router_bias.safetensors')
    }))

  it('does not replace one that was trained here', () =>
    withNode(async (node) => {
      await importExpert(node.paths, trained, 'law')
      const result = await run<{ own: { before: number; after: number } }>(node, 'train', {
        name: 'here',
        data: [TEXT],
        steps: 3,
      })
      expect(result.own.after).toBeLessThan(result.own.before)
      // Statistics depend on the text only, so they are equal wherever the expert was trained.
      const [law, here] = await Promise.all(
        ['law', 'here'].map((name) => loadTrained(node.publicModel, node.paths.training, name)),
      )
      expect(here?.expert.statistics?.tokens.some((share) => share > 0)).toBe(true)
      expect(law?.expert.statistics).toEqual(here?.expert.statistics)
      expect(law?.result.statisticsDocuments).toBe(here?.result.statisticsDocuments)
      const again = (): Promise<unknown> => importExpert(node.paths, trained, 'here')
      expect(await messageOf(again)).toMatch(/here was trained here; choose another --name/)
    }))

  it('leaves nothing behind if an export fails', () =>
    withNode(async (node) => {
      const parent = await folder()
      const target = join(parent, 'file')
      await writeFile(target, 'x')
      expect(await messageOf(() => run(node, 'compose', { export: target }))).toMatch(/is not empty/)
      const inFile = join(target, 'model')
      expect(await messageOf(() => run(node, 'compose', { export: inFile }))).not.toBe('accepted')
      await mkdir(join(parent, 'empty'))
      await run(node, 'compose', { export: join(parent, 'empty') })
      expect((await readdir(parent)).sort()).toEqual(['empty', 'file'])
    }))

  /** The outcome of importing `dir` into a new copy of the home, and the files in the folder of the training. */
  const imported = async (dir: string): Promise<{ outcome: string; files: string[] }> => {
    const paths = homePaths(await copied(home))
    const outcome = await messageOf(() => importExpert(paths, dir, 'law'))
    return { outcome, files: await readdir(trainingDirs(paths.training, 'law').dir) }
  }
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
      'a trained public FFN',
      changed((all) => {
        const { bytes } = tensorOf(all, FFN.replace('experts.1', 'experts.0'))
        bytes[0] = (bytes[0] as number) ^ 1
      }),
      /tensor model\.layers\.1\.mlp\.experts\.0\.up_proj\.weight differs from the public model/,
    ],
    [
      'a trained public router row',
      changed((all) => tensorOf(all, ROUTER).bytes.set([1], 5)),
      /tensor model\.layers\.1\.mlp\.gate\.weight has a row 0 that is not zero, as the public row is/,
    ],
    [
      'frozen tensors in another dtype',
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
      'a config that is null',
      async () => {
        const dir = await copied(trained)
        await writeFile(join(dir, 'config.json'), 'null')
        return dir
      },
      /config\.json: expected model_type flex_olmo/,
    ],
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
      'a pickle among other files',
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
  ])('is refused with %s, and the message names it', async (_, dir, message) => {
    const { outcome, files } = await imported(await dir())
    expect(outcome).toMatch(message)
    expect(outcome).not.toContain('\n')
    expect(files).not.toContain('expert.safetensors')
    expect(files).not.toContain('result.json')
  })

  it('is imported in another dtype than the public model, with progress up to 1', () =>
    withNode(async (node) => {
      const dir = await rewritten(trained, (all) => {
        for (const found of all.values()) {
          if (found.name.includes('.experts.1.')) widen(found)
        }
      })
      const shares: number[] = []
      await importExpert(node.paths, dir, 'wide', { onProgress: (done, total) => shares.push(done / total) })
      expect([Math.max(...shares), shares.at(-1)]).toEqual([1, 1])
      await importExpert(node.paths, trained, 'narrow')
      const wide = await loadTrained(node.publicModel, node.paths.training, 'wide')
      const same = await loadTrained(node.publicModel, node.paths.training, 'narrow')
      expect(wide.expert.ffn.size).toBe(3 * L)
      expect(await loadParams(wide.expert.ffn)).toEqual(await loadParams(same.expert.ffn))
    }))

  it('is imported with a tokenizer file that another library wrote', async () => {
    const dir = await copied(trained)
    const path = join(dir, 'tokenizer.json')
    const { version, ...rest } = JSON.parse(await readFile(path, 'utf8')) as Record<string, unknown>
    await writeFile(
      path,
      JSON.stringify({ ...rest, padding: { strategy: 'BatchLongest' }, version }, null, 1),
    )
    expect(await imported(dir)).toMatchObject({ outcome: 'accepted' })
  })
})
