/** The models of the API: the composition, and each expert alone. */
import '../../src/lib/node20.ts'
import { describe, expect, it } from 'vitest'
import type { StatedExpert } from '../../src/composition/attribution.ts'
import { type Digest, digestOf, utf8 } from '../../src/lib/bytes.ts'
import { type Api, createApp } from '../../src/serving/app.ts'
import type { InferenceRequest } from '../../src/serving/openai.ts'
import { backendOf, eventsOf, fixedEngine, getModels, post, refusalOf } from '../support/inference-api.ts'

const idOf = (name: string): Digest => digestOf(utf8(name))
/** Two institutions have an expert of the same name, and one is named like an expert of another. */
const PACKAGED = [
  ['Alpha Court', 'law'],
  ['Beta', 'law'],
  ['Beta', 'medicine'],
  ['law', 'physics'],
].map(([institution, expert]) => ({ institution, expert, package: idOf(`${institution} ${expert}`) }))
const STATED = [{ institution: 'public model', expert: 'public' }, ...PACKAGED] as StatedExpert[]

/** An app whose caller may use these experts, and the requests that its engine has answered. */
function serve(experts?: readonly string[]): { app: Api; answered: InferenceRequest[] } {
  const answered: InferenceRequest[] = []
  const { generate } = fixedEngine()
  const engine = fixedEngine({
    experts: STATED,
    stated: STATED,
    generate: (request, ...more) => {
      answered.push(request)
      return generate(request, ...more)
    },
  })
  const caller = { name: 'a', used: () => undefined, ...(experts === undefined ? {} : { experts }) }
  const app = createApp({
    backendFor: () => backendOf(engine),
    callers: { find: async () => caller },
    isOwnHost: () => true,
    now: () => 7,
  })
  return { app, answered }
}

const idsOf = async (response: Response): Promise<string[]> =>
  ((await response.json()) as { data: { id: string }[] }).data.map(({ id }) => id)

describe('the list of models', () => {
  it('has the composition first, then each expert with the composition as its parent', async () => {
    const { app } = serve()
    expect(await (await getModels(app)).json()).toMatchObject({
      object: 'list',
      data: [
        { id: 'flexmesh', parent: null, root: fixedEngine().composition, max_model_len: 32, created: 7 },
        {
          id: 'flexmesh/Alpha Court/law',
          object: 'model',
          owned_by: 'Alpha Court',
          parent: 'flexmesh',
          root: idOf('Alpha Court law'),
          flexmesh: { experts: [{ expert: 'public' }, { institution: 'Alpha Court', expert: 'law' }] },
        },
        { id: 'flexmesh/Beta/law', root: idOf('Beta law') },
        { id: 'flexmesh/Beta/medicine' },
        { id: 'flexmesh/law/physics' },
      ],
    })
  })

  it('gives one model alone, whether its id is escaped or not', async () => {
    const { app } = serve()
    const id = 'flexmesh/Alpha Court/law'
    for (const path of [encodeURIComponent(id), encodeURI(id)])
      expect(await (await getModels(app, path)).json()).toMatchObject({ id, parent: 'flexmesh' })
    for (const name of ['flexmesh/Alpha Court', 'flexmesh/Gamma/law', 'law'])
      expect(await refusalOf(await getModels(app, name))).toEqual([404, 'model_not_found'])
  })

  it('has only the experts that its caller may use', async () => {
    const { app } = serve(['Beta'])
    expect(await idsOf(await getModels(app))).toEqual([
      'flexmesh',
      'flexmesh/Beta/law',
      'flexmesh/Beta/medicine',
    ])
    expect(await refusalOf(await getModels(app, 'flexmesh/law/physics'))).toEqual([404, 'model_not_found'])
  })
})

describe("a request for an expert's model", () => {
  it('selects exactly this expert, and the answer names the model', async () => {
    const { app, answered } = serve()
    const model = 'flexmesh/Beta/law'
    expect(await (await post(app, { model, prompt: 'Hi' })).json()).toMatchObject({ model })
    const messages = [{ role: 'user', content: 'Hi' }]
    const chat = await post(app, { model, messages, stream: true }, { path: '/v1/chat/completions' })
    const events = eventsOf(await chat.text()).slice(0, -1)
    for (const event of events) expect(JSON.parse(event)).toMatchObject({ model })
    expect(answered.map(({ include }) => include)).toEqual([[idOf('Beta law')], [idOf('Beta law')]])
  })

  it.each([
    ['an institution without its expert', 'flexmesh/Beta'],
    ['an expert of another institution', 'flexmesh/Alpha Court/medicine'],
    ['another spelling', 'flexmesh/beta/law'],
    ['the public model', 'flexmesh/public model/public'],
    ['an id without the composition', 'Beta/law'],
  ])('is refused for %s', async (_, model) => {
    const { app, answered } = serve()
    for (const stream of [false, true])
      expect(await refusalOf(await post(app, { model, prompt: 'Hi', stream }))).toEqual([
        404,
        'model_not_found',
      ])
    expect(answered).toEqual([])
  })

  it('is refused if it also selects experts', async () => {
    const { app } = serve()
    for (const experts of [{ include: ['law'] }, { exclude: ['law'] }])
      expect(
        await (await post(app, { model: 'flexmesh/Beta/law', prompt: 'Hi', experts })).json(),
      ).toMatchObject({ error: { code: 'bad-field', param: 'experts' } })
  })

  it('is refused for an expert that its caller may not use', async () => {
    const { app, answered } = serve(['medicine'])
    const refused = await post(app, { model: 'flexmesh/Beta/law', prompt: 'Hi' })
    expect(await refusalOf(refused)).toEqual([403, 'expert_not_allowed'])
    expect((await post(app, { model: 'flexmesh/Beta/medicine', prompt: 'Hi' })).status).toBe(200)
    expect(answered.map(({ include }) => include)).toEqual([[idOf('Beta medicine')]])
  })
})
