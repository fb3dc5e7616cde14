/** Founding a consortium with a public model from a Hugging Face folder. */
import { copyFile, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { openPublicModel } from '../../src/checkpoint/public-model.ts'
import { loadParams, type WeightMap } from '../../src/model/weights.ts'
import { createConsortium } from '../../src/node/found.ts'
import { cleanUp, folder, SMALL_MODEL } from '../support/folders.ts'
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
  without,
} from '../support/model-folders.ts'
import { network, now } from '../support/network.ts'

const C = PUBLISHED.hiddenSize
const FROZEN = 'model.layers.0.self_attn.k_norm.weight'

let replay: string
let published: string
beforeAll(async () => {
  replay = await replayFile()
  published = await publishedModel('BF16')
})
afterAll(cleanUp)

describe('a public model folder', () => {
  const outcomeOf = async (modelDir: string, text: { replay?: string } = { replay }): Promise<string> => {
    const founding = { modelDir, name: 'Test', ...text }
    return messageOf(async () => createConsortium({ home: await newHome(), now }, founding))
  }

  it.each(['F32', 'BF16', 'F16'] as const)('is accepted in %s, in shards and in one file', async (dtype) => {
    for (const shardBytes of [undefined, 5e9]) {
      const home = await newHome()
      const modelDir = await publishedModel(dtype, shardBytes)
      const last = { checking: [0, 1], copying: [0, 1] }
      const { charter } = await createConsortium(
        { home, now },
        { modelDir, name: 'Test', replay, onProgress: (stage, ...counts) => (last[stage] = counts) },
      )
      const { files, config } = charter.publicModel
      const weights = files.filter(({ role }) => role === 'weights')
      expect(weights.length > 1).toBe(shardBytes === undefined)
      expect(files.some(({ role }) => role === 'index')).toBe(shardBytes === undefined)
      expect(config).toMatchObject({ num_key_value_heads: 2, vocab_size: 4160 })
      for (const [done, total] of Object.values(last)) expect(done).toBe(total)
      // The node keeps exactly the published tensors.
      const { tensors } = await openPublicModel(join(home, 'public-model'))
      expect([...tensors.keys()].sort()).toEqual([...(await tensorsOf(modelDir)).keys()].sort())
    }
  })

  it('is accepted with a single shard and its index', async () => {
    const dir = await publishedModel('BF16', 5e9)
    const name = 'model-00001-of-00001.safetensors'
    const weightMap = Object.fromEntries([...(await tensorsOf(dir)).keys()].map((key) => [key, name]))
    await copyFile(join(dir, 'model.safetensors'), join(dir, name))
    await without(dir, 'model.safetensors')
    await writeFile(join(dir, 'model.safetensors.index.json'), JSON.stringify({ weight_map: weightMap }))
    expect(await outcomeOf(dir)).toBe('accepted')
  })

  it('is refused without replay text, with the option that supplies it', async () => {
    expect(await outcomeOf(published, {})).toMatch(/no replay\.jsonl.*--replay FILE/)
    expect(await outcomeOf(published, { replay: '/nowhere/replay.jsonl' })).toMatch(
      /\/nowhere\/replay\.jsonl does not exist/,
    )
    expect(await outcomeOf(published, { replay: published })).toMatch(/--replay: expected a \.jsonl/)
  })

  const changed = (change: (tensors: Map<string, StoredTensor>) => void) => async (): Promise<string> =>
    rewritten(published, change, 200_000)
  it.each<[string, () => Promise<string>, RegExp]>([
    [
      'a missing shard',
      async () => without(await copied(published), 'model-00002-of-00003.safetensors'),
      /model-00002-of-00003\.safetensors is missing/,
    ],
    [
      'a truncated shard',
      async () => {
        const dir = await copied(published)
        const path = join(dir, 'model-00002-of-00003.safetensors')
        await writeFile(path, (await readFile(path)).subarray(0, -1))
        return dir
      },
      /model-00002-of-00003\.safetensors: safetensors: expected \d+ bytes of data/,
    ],
    [
      'only a pickle',
      async () => {
        const dir = await folder()
        await writeFile(join(dir, 'pytorch_model.bin'), 'x')
        return dir
      },
      /pytorch_model\.bin is a pickle/,
    ],
    [
      'a pickle among other files',
      async () => {
        const dir = await copied(published)
        await writeFile(join(dir, 'optimizer.pt'), 'x')
        return dir
      },
      /optimizer\.pt is a pickle/,
    ],
    [
      'a missing tensor',
      changed((all) => all.delete(FROZEN)),
      /index\.json: tensor .*k_norm\.weight is missing/,
    ],
    [
      'a superfluous tensor',
      changed((all) => all.set('extra', { ...tensorOf(all, FROZEN), name: 'extra' })),
      /safetensors: tensor extra is not part/,
    ],
    [
      'another shape',
      changed((all) => {
        tensorOf(all, 'model.layers.1.mlp.up_proj.weight').shape = [C, 24]
      }),
      /safetensors: tensor model\.layers\.1\.mlp\.up_proj\.weight has shape \[32,24\], but the config demands \[24,32\]/,
    ],
    [
      'integers',
      changed((all) => {
        Object.assign(tensorOf(all, FROZEN), { dtype: 'I16' })
      }),
      /k_norm\.weight is I16/,
    ],
    [
      'NaN',
      changed((all) => tensorOf(all, 'lm_head.weight').bytes.set([0xc0, 0x7f], 2 * 77)),
      /safetensors: tensor lm_head\.weight holds a value that is not finite, at 77/,
    ],
    [
      'infinity',
      changed((all) => tensorOf(all, 'model.norm.weight').bytes.set([0x80, 0xff], 2)),
      /safetensors: tensor model\.norm\.weight holds a value that is not finite, at 1/,
    ],
    [
      'a tokenizer with more ids than embeddings',
      async () => reconfigured(await copied(published), { vocab_size: 4000 }),
      /tokenizer\.json has ids up to 4095, but the model has 4000 embeddings/,
    ],
    [
      'a token at the end of a text that the tokenizer does not have',
      async () => reconfigured(await copied(published), { eos_token_id: 4100 }),
      /id 4100, which the model names/,
    ],
    [
      'scaled rotary embeddings',
      async () => reconfigured(await copied(published), { rope_scaling: { type: 'linear', factor: 2 } }),
      /"linear" are not supported/,
    ],
    ['no config', async () => without(await copied(published), 'config.json'), /no config\.json/],
    [
      'no weights',
      async () => without(await copied(SMALL_MODEL), 'model.safetensors'),
      /no model\.safetensors/,
    ],
  ])('is refused with %s, and the message names it', async (_, dir, message) => {
    const text = await outcomeOf(await dir())
    expect(text).toMatch(message)
    expect(text).not.toContain('\n')
  })
})

describe('a public model in several files', () => {
  it('reaches a member that joins, unchanged', async () => {
    const dir = await copied(published)
    await copyFile(replay, join(dir, 'replay.jsonl'))
    const template = '{{ bos_token }}{{ messages[0].content }}'
    await writeFile(join(dir, 'chat_template.jinja'), template)
    await writeFile(join(dir, 'tokenizer_config.json'), JSON.stringify({ bos_token: '<|endoftext|>' }))
    await writeFile(join(dir, 'generation_config.json'), JSON.stringify({ eos_token_id: [9, 0] }))
    const { nodes, homes, close } = await network(['Founder', 'Guest'], dir)
    try {
      const [founder, guest] = nodes.map(({ publicModel }) => publicModel)
      expect(guest?.config).toEqual(PUBLISHED)
      expect(await loadParams(guest?.weights as WeightMap)).toEqual(
        await loadParams(founder?.weights as WeightMap),
      )
      expect(guest?.endsOfText).toEqual([0, 9])
      expect(guest?.chatTemplate).toEqual({ source: template, variables: { bos_token: '<|endoftext|>' } })
      const message = { role: 'user', content: 'Hi' } as const
      const ids = await nodes[1]?.prompts.encode([message], new AbortController().signal)
      expect(Array.from(ids ?? [])).toEqual([0, ...(guest?.tokenizer.encode('Hi') ?? [])])
      expect([...(await tensorsOf(join(homes[1] as string, 'public-model'))).values()]).toEqual([
        ...(await tensorsOf(published)).values(),
      ])
    } finally {
      await close()
    }
  })
})
