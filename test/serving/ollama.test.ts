/** What clients of Ollama ask before they use the OpenAI API. */
import '../../src/lib/node20.ts'
import { describe, expect, it } from 'vitest'
import { appOf, backendOf, fixedEngine, post, refusalOf } from '../support/inference-api.ts'

const HOST = '127.0.0.1:8080'
const app = () => appOf(backendOf(fixedEngine({ contextLength: 512 })))
const get = (path: string, headers: Readonly<Record<string, string>> = {}) =>
  app().request(`http://${HOST}${path}`, { headers: { host: HOST, ...headers } }, {})
const KEY = { authorization: `Bearer ${'k'.repeat(32)}` }
const show = (body: object | string, headers = {}) => post(app(), body, { path: '/api/show', headers })

interface Shown {
  readonly model_info: Readonly<Record<string, unknown>>
  readonly capabilities: readonly string[]
}

describe('a client of Ollama', () => {
  it('learns a version of numbers, without a key', async () => {
    const { version } = (await (await get('/api/version')).json()) as { version: string }
    expect(version).toMatch(/^\d+\.\d+\.\d+$/)
  })

  it('finds the models, asks for each, and gets an answer from each', async () => {
    const { models } = (await (await get('/api/tags', KEY)).json()) as {
      models: { name: string; model: string; digest: string; modified_at: string; details: object }[]
    }
    expect(models).toMatchObject([
      { name: 'flexmesh', digest: 'a'.repeat(64), details: { parent_model: '' } },
      { name: 'flexmesh/Alpha/law', digest: 'b'.repeat(64), details: { parent_model: 'flexmesh' } },
    ])
    for (const { name, model, modified_at } of models) {
      expect([model, Number.isNaN(Date.parse(modified_at))]).toEqual([name, false])
      const { model_info: info, capabilities } = (await (await show({ model })).json()) as Shown
      expect(info[`${info['general.architecture'] as string}.context_length`]).toBe(512)
      expect([info['general.basename'], capabilities]).toEqual([name, ['completion', 'tools']])
      const messages = [{ role: 'user', content: 'Hi' }]
      const answer = await post(app(), { model, messages }, { path: '/v1/chat/completions' })
      expect(await answer.json()).toMatchObject({ model, choices: [{ finish_reason: 'stop' }] })
    }
  })

  it('may name the model as older clients do', async () => {
    expect((await show(JSON.stringify({ name: 'flexmesh', verbose: true }))).status).toBe(200)
  })

  it.each<[string, string, number, string]>([
    ['an unknown model', '{"model":"llama3"}', 404, 'model_not_found'],
    ['no model', '{}', 400, 'bad-field'],
    ['a model that is no text', '{"model":7}', 400, 'bad-field'],
    ['a body that is not JSON', '{', 400, 'not-json'],
  ])('is refused with %s', async (_, body, status, code) => {
    expect(await refusalOf(await show(body))).toEqual([status, code])
  })

  it('needs a key for models', async () => {
    expect(await refusalOf(await get('/api/tags'))).toEqual([401, 'invalid_api_key'])
    expect(await refusalOf(await show({}, { authorization: '' }))).toEqual([401, 'invalid_api_key'])
  })

  it('finds no route of Ollama that answers', async () => {
    for (const path of ['/api/chat', '/api/generate'])
      expect(await refusalOf(await post(app(), {}, { path }))).toEqual([404, 'not_found'])
  })
})
