/** Files of instruct models beside the weights: several ends of text, and chat templates. */
import { readFile, symlink, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { modelFilesOf } from '../../src/checkpoint/flex-olmo.ts'
import { checkPublicModel, modelFiles, openPublicModel } from '../../src/checkpoint/public-model.ts'
import { fromUtf8 } from '../../src/lib/bytes.ts'
import { cleanUp } from '../support/folders.ts'
import { copied, publishedModel } from '../support/model-folders.ts'

const TEMPLATE = '{{ bos_token }}{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}assistant:'

let published: string
beforeAll(async () => {
  published = await publishedModel('F32')
})
afterAll(cleanUp)

/** A copy of the published model with more files; an object is written as JSON. */
async function withFiles(files: Readonly<Record<string, unknown>>): Promise<string> {
  const dir = await copied(published)
  for (const [name, content] of Object.entries(files))
    await writeFile(join(dir, name), typeof content === 'string' ? content : JSON.stringify(content))
  return dir
}

/** A copy whose config.json names these ends of text. */
async function withEnds(eos: unknown, generation?: unknown): Promise<string> {
  const config = JSON.parse(await readFile(join(published, 'config.json'), 'utf8')) as object
  return withFiles({
    'config.json': { ...config, eos_token_id: eos },
    ...(generation === undefined ? {} : { 'generation_config.json': { eos_token_id: generation } }),
  })
}

async function exported(dir: string): Promise<Record<string, unknown>> {
  const files = await modelFilesOf(await openPublicModel(dir), { experts: 2, topK: 1 })
  return Object.fromEntries(
    [...files].map(([name, content]) => [name, typeof content === 'string' ? content : fromUtf8(content)]),
  )
}

describe('the ends of text of a public model', () => {
  it.each([
    ['one in config.json', 5, undefined, [5]],
    ['a list in config.json', [5, 9], undefined, [5, 9]],
    ['a list with <|endoftext|>, which separates documents', [5, 0], undefined, [0, 5]],
    ['more in generation_config.json', 0, [9, 0, 7], [0, 9, 7]],
    ['only in generation_config.json', null, 9, [9]],
    ['none', null, null, [0]],
    ['an empty list', [], undefined, [0]],
    ['an embedding beyond the tokenizer', 0, 4159, [0, 4159]],
  ])('are read, and exports name them all: %s', async (_, eos, generation, expected) => {
    const dir = await withEnds(eos, generation)
    const { endsOfText, tokenizer } = await openPublicModel(dir)
    expect(endsOfText).toEqual(expected)
    expect(tokenizer.endOfText).toBe(expected[0])
    const files = await exported(dir)
    const named = expected.length === 1 ? expected[0] : expected
    for (const name of ['config.json', 'generation_config.json']) {
      expect(JSON.parse(String(files[name]))).toMatchObject({ eos_token_id: named })
    }
  })

  it.each([
    ['a text', '0'],
    ['a fraction', 1.5],
    ['a negative number', -1],
    ['an id without an embedding', 4160],
    ['a list with a text', [0, 'x']],
    ['an object', { id: 0 }],
  ])('are refused in a sentence: %s', async (_, eos) => {
    for (const dir of [await withEnds(eos), await withEnds(0, eos)]) {
      await expect(openPublicModel(dir)).rejects.toMatchObject({
        code: 'not-a-model',
        message: expect.stringContaining('expected eos_token_id to be an id from 0 to 4159'),
      })
    }
  })
})

describe('the chat template of a public model', () => {
  const tokens = { bos_token: '<|endoftext|>', eos_token: { content: '<|endoftext|>' } }

  it.each([
    ['chat_template.jinja', { 'chat_template.jinja': TEMPLATE, 'tokenizer_config.json': tokens }],
    ['tokenizer_config.json', { 'tokenizer_config.json': { ...tokens, chat_template: TEMPLATE } }],
    [
      'a list with one named default',
      {
        'tokenizer_config.json': {
          ...tokens,
          chat_template: [
            { name: 'tool_use', template: 'x' },
            { name: 'default', template: TEMPLATE },
          ],
        },
      },
    ],
    [
      'the file before the member',
      {
        'chat_template.jinja': TEMPLATE,
        'tokenizer_config.json': { ...tokens, chat_template: 'other' },
      },
    ],
  ])('is read from %s, travels and is kept by exports', async (_, files) => {
    const dir = await withFiles(files)
    const model = await checkPublicModel(dir)
    expect(model.instruct.chatTemplate).toEqual({
      source: TEMPLATE,
      variables: { bos_token: '<|endoftext|>', eos_token: '<|endoftext|>' },
    })
    expect(modelFiles(model).map(({ name }) => name)).toEqual(expect.arrayContaining(Object.keys(files)))
    const out = await exported(dir)
    for (const [name, content] of Object.entries(files)) {
      if (typeof content === 'string') expect(out[name]).toBe(content)
      else expect(JSON.parse(String(out[name]))).toEqual(content)
    }
  })

  it('is optional', async () => {
    const model = await checkPublicModel(published)
    expect(model.instruct.chatTemplate).toBeUndefined()
    expect(Object.keys(await exported(published))).not.toContain('chat_template.jinja')
  })

  it.each([
    [
      'a template that is no Jinja',
      { 'chat_template.jinja': '{% for %}' },
      'the chat template cannot render',
    ],
    ['an empty template', { 'chat_template.jinja': '' }, 'writes nothing'],
    [
      'a template that refuses a user',
      { 'chat_template.jinja': "{{ raise_exception('only tools') }}" },
      'only tools',
    ],
    [
      'a template that never ends',
      {
        'chat_template.jinja':
          '{% for a in range(9999) %}{% for b in range(9999) %}{% for c in range(9999) %}{% endfor %}{% endfor %}{% endfor %}',
      },
      'takes longer',
    ],
    [
      'a template that is no text',
      { 'tokenizer_config.json': { chat_template: 7 } },
      'expected chat_template',
    ],
    [
      'a list without a default',
      { 'tokenizer_config.json': { chat_template: [{ name: 'rag', template: 'x' }] } },
      'one named default',
    ],
    ['a tokenizer_config.json that is no JSON', { 'tokenizer_config.json': '{' }, 'expected JSON'],
    ['a generation_config.json that is a list', { 'generation_config.json': [] }, 'expected a JSON object'],
    [
      'a very large template',
      { 'chat_template.jinja': 'x'.repeat(4 * 2 ** 20 + 1) },
      'at most 4194304 bytes',
    ],
  ])('is refused in a sentence: %s', async (_, files, words) => {
    await expect(checkPublicModel(await withFiles(files))).rejects.toMatchObject({
      code: 'not-a-model',
      message: expect.stringContaining(words),
    })
  })

  it('may not be a link to a file outside of the folder', async () => {
    const dir = await copied(published)
    await symlink('/etc/hostname', join(dir, 'chat_template.jinja'))
    await expect(openPublicModel(dir)).rejects.toMatchObject({ code: 'not-a-model' })
  })

  it('is exported without members that make loaders run code', async () => {
    const tokenizer = { ...tokens, auto_map: { AutoTokenizer: ['code.py', null] } }
    const out = await exported(await withFiles({ 'tokenizer_config.json': tokenizer }))
    expect(JSON.parse(String(out['tokenizer_config.json']))).toEqual(tokens)
  })
})
