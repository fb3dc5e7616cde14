/** Router statistics on their way from an owner to another member. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import type { Digest } from '../../src/lib/bytes.ts'
import { limit } from '../../src/lib/limits.ts'
import type { RouterStatistics } from '../../src/model/solved-router.ts'
import type { FlexMeshNode } from '../../src/node/node.ts'
import { loadTrained } from '../../src/owner/training-folder.ts'
import { type Manifest, openManifest } from '../../src/packaging/manifest.ts'
import { cleanUp } from '../support/folders.ts'
import { network, publish, run, type TestNetwork, train } from '../support/network.ts'
import { TINY, tinyModel } from '../support/tiny-model.ts'

let net: TestNetwork
let hospital: FlexMeshNode
let university: FlexMeshNode
/** What the university's training measured. */
let own: { readonly statistics: RouterStatistics; readonly documents: number }

beforeAll(async () => {
  net = await network(['Hospital', 'University'], await tinyModel())
  ;[hospital, university] = net.nodes as [FlexMeshNode, FlexMeshNode]
  await net.connected()
  await train(university, 'theorems', 'university')
  const { publicModel, paths } = university
  const { expert, result } = await loadTrained(publicModel, paths.training, 'theorems')
  own = { statistics: expert.statistics as RouterStatistics, documents: result.statisticsDocuments }
})
afterAll(async () => {
  await net?.close()
  await cleanUp()
})

/** Publish, and wait until the other member uses the package. */
async function arrived(options: object): Promise<{
  readonly expert: Manifest['expert']
  readonly statistics: RouterStatistics | undefined
}> {
  const id: Digest = await publish(university, 'theorems', options)
  await net.watch.until('the package', () => hospital.accepted.has(id))
  const envelope = (await hospital.catalogue.statement(id)) as Uint8Array
  const received = hospital.accepted.list().find((accepted) => accepted.id === id)
  return { expert: openManifest(envelope).manifest.expert, statistics: received?.expert.statistics }
}

describe('router statistics', () => {
  it('are exact by default', async () => {
    const { expert, statistics } = await arrived({})
    expect(own.documents).toBeGreaterThanOrEqual(limit('statisticsDocuments'))
    expect(expert).toMatchObject({
      statisticsTokens: TINY.vocabSize,
      statisticsDocuments: own.documents,
      statisticsEpsilonMilli: 0,
    })
    expect(statistics).toEqual(own.statistics)
  })

  it('have noise if the owner says so, and the manifest says how much', async () => {
    const { expert, statistics } = await arrived({ statistics: 'noised', epsilonMilli: 64_000 })
    expect(expert).toMatchObject({
      statisticsTokens: TINY.vocabSize,
      statisticsDocuments: own.documents,
      statisticsEpsilonMilli: 64_000,
    })
    const noise = [...(statistics?.tokens ?? [])].map((x, i) => x - (own.statistics.tokens[i] as number))
    expect(Math.hypot(...noise)).toBeGreaterThan(0)
    expect(Math.hypot(...noise)).toBeLessThan(0.05)
  })

  it('stay with their owner if the owner says so', async () => {
    const { expert, statistics } = await arrived({ statistics: 'none' })
    expect(expert).toMatchObject({ statisticsTokens: 0, statisticsDocuments: 0, statisticsEpsilonMilli: 0 })
    expect(statistics).toBeUndefined()
  })

  it.each([
    [{ statistics: 'noised' }, 'usage'],
    [{ epsilonMilli: 8000 }, 'usage'],
    [{ statistics: 'noised', epsilonMilli: 0 }, 'bad-field'],
    [{ statistics: 'some' }, 'bad-field'],
  ] as const)('are not published with the options %j: %s', async (options, code) => {
    const publishing = run(university, 'publish', { name: 'theorems', ...options })
    await expect(publishing).rejects.toMatchObject({ code })
  })
})
