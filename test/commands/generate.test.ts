import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { GENERATE, type GenerateResult } from '../../src/commands/generate.ts'
import type { FlexMeshNode } from '../../src/node/node.ts'
import { flexmesh } from '../support/command-line.ts'
import { cleanUp, folder } from '../support/folders.ts'
import { network, run, type TestNetwork } from '../support/network.ts'
import { TINY, tinyModel } from '../support/tiny-model.ts'

let net: TestNetwork
let node: FlexMeshNode

beforeAll(async () => {
  net = await network(['Archive'], await tinyModel())
  node = net.nodes[0] as FlexMeshNode
})
afterAll(async () => {
  await net.close()
  await cleanUp()
})

const generate = (request: object): Promise<GenerateResult> => run(node, 'generate', request)

/** Text of this many tokens. */
function textOf(tokens: number): string {
  const text = ' the'.repeat(tokens)
  expect(node.publicModel.tokenizer.encode(text)).toHaveLength(tokens)
  return text
}

describe('the command generate', () => {
  it('answers the longest prompt that leaves room for a token', async () => {
    const prompt = textOf(TINY.maxPositionEmbeddings - 2)
    expect(await generate({ prompt, maxTokens: 1 })).toMatchObject({ tokens: 1 })
  })

  it('refuses a longer prompt, and says how long it is and how much the model reads', async () => {
    const refusal = generate({ prompt: textOf(TINY.maxPositionEmbeddings - 1), maxTokens: 1 })
    await expect(refusal).rejects.toMatchObject({ family: 'input', code: 'usage' })
    await expect(refusal).rejects.toThrow('the prompt has 256 tokens, but the model reads at most 255')
  })

  it('says that an answer is cut because the context is full', async () => {
    const result = await generate({ prompt: textOf(TINY.maxPositionEmbeddings - 3), maxTokens: 50 })
    expect(result).toMatchObject({ tokens: 3, finish: 'context' })
    expect(GENERATE.words(result, { color: false })).toContain(
      'the answer is cut here, because the context is full',
    )
    expect(await generate({ prompt: 'Article', maxTokens: 2 })).toMatchObject({ finish: 'max-tokens' })
  })

  it('reads the names of special tokens as text', async () => {
    const { tokenizer } = node.publicModel
    const prompt = '<|endoftext|>'.repeat(20)
    expect(tokenizer.encode(prompt).length).toBeGreaterThan(100)
    expect(await generate({ prompt, maxTokens: 1 })).toMatchObject({ tokens: 1 })
  })

  it('chooses the likeliest tokens unless told otherwise, whatever the seed', async () => {
    const [one, other] = [
      await generate({ prompt: 'Article' }),
      await generate({ prompt: 'Article', seed: 9 }),
    ]
    expect(other).toEqual(one)
  })

  it('gives the same answer for one seed and another one for another seed', async () => {
    const request = { prompt: 'Article', temperatureMilli: 2000, maxTokens: 16 }
    const [one, same, other] = [
      await generate({ ...request, seed: 1 }),
      await generate({ ...request, seed: 1 }),
      await generate({ ...request, seed: 2 }),
    ]
    expect(same).toEqual(one)
    expect(other.text).not.toBe(one.text)
  })

  it('draws a seed if none is given, and prints it, so that the answer can be repeated', async () => {
    const request = { prompt: 'Article', temperatureMilli: 2000, maxTokens: 16 }
    const [one, other] = [await generate(request), await generate(request)]
    expect(other.text).not.toBe(one.text)
    expect(GENERATE.words(one, { color: false }).at(-1)).toBe(`seed: ${one.seed}`)
    expect(await generate({ ...request, ...(one.seed === undefined ? {} : { seed: one.seed }) })).toEqual(one)
  })

  it('takes seed and temperature from the command line', async () => {
    const parsed = ['--seed', '7', '--temperature', '0.5']
    const values = { seed: parsed[1] as string, temperature: parsed[3] as string }
    const request = await GENERATE.arguments({ command: 'generate', positionals: ['Article'], values })
    expect(request).toEqual({ prompt: 'Article', seed: 7, temperatureMilli: 500 })
    const { code, stderr } = await flexmesh('generate', 'Article', '--seed', '-1')
    expect(code).toBe(2)
    expect(stderr).toContain('--seed')
  })

  it('answers with a value that a JSON schema allows', async () => {
    const file = join(await folder(), 'schema.json')
    await writeFile(
      file,
      JSON.stringify({ type: 'array', items: { enum: ['law', 'code'] }, minItems: 2, maxItems: 2 }),
    )
    const { text, finish } = await generate({ prompt: 'Article', jsonSchema: file })
    expect(finish).toBe('stop')
    expect(JSON.parse(text)).toHaveLength(2)
    await writeFile(file, JSON.stringify({ type: 'string', pattern: 'a' }))
    await expect(generate({ prompt: 'Article', jsonSchema: file })).rejects.toThrow(
      /keyword "pattern" is not supported/,
    )
    await writeFile(file, '{')
    await expect(generate({ prompt: 'Article', jsonSchema: file })).rejects.toThrow(/is no JSON/)
  })

  it('prints the text and the share of everyone who carried it', async () => {
    const result = await generate({ prompt: 'Article', maxTokens: 4 })
    expect(GENERATE.words(result, { color: false })).toEqual([
      result.text,
      '',
      'carried by: public model 100 %',
    ])
  })
})
