import { afterEach, beforeAll, describe, expect, it } from 'vitest'
import { seal } from '../../src/identity/envelope.ts'
import { MEDIA_TYPES } from '../../src/identity/media-types.ts'
import type { Digest } from '../../src/lib/bytes.ts'
import { limit } from '../../src/lib/limits.ts'
import type { FlexMeshNode } from '../../src/node/node.ts'
import { encodeManifest, openManifest } from '../../src/packaging/manifest.ts'
import { cleanUp } from '../support/folders.ts'
import { inUse, network, publish, run, type TestNetwork, train } from '../support/network.ts'
import { tinyModel } from '../support/tiny-model.ts'

/** More packages than one statement can name. */
const MANY = limit('digestsPerStatement') + 1

const compositions = ({ nodes }: TestNetwork): Set<string> =>
  new Set(nodes.map((node) => node.composer.served.composition.digest))

describe('three members that publish at the same time', () => {
  let net: TestNetwork

  beforeAll(async () => {
    net = await network(['Hospital', 'Archive', 'University'], await tinyModel())
    await Promise.all(
      (['hospital', 'archive', 'university'] as const).map(async (domain, i) => {
        const node = net.nodes[i] as FlexMeshNode
        await train(node, domain, domain)
        await publish(node, domain)
      }),
    )
    await net.accepted(3)
    return async () => {
      await net.close()
      await cleanUp()
    }
  })

  it('compose the same model, whatever the order in which experts arrive', () => {
    expect(compositions(net).size).toBe(1)
  })

  it.each([
    [[], ['Archive', 'Hospital', 'University', 'public model']],
    [['Hospital'], ['Archive', 'University', 'public model']],
  ])('answer without %j, with shares of the others that sum to 1', async (exclude, expected) => {
    const { experts } = await run<{ experts: { institution: string; share: number }[] }>(
      net.nodes[1] as FlexMeshNode,
      'generate',
      { prompt: 'Article', maxTokens: 8, exclude },
    )
    const used = experts.filter(({ share }) => share > 0).map(({ institution }) => institution)
    expect(used.sort()).toEqual(expected)
    expect(experts.reduce((sum, { share }) => sum + share, 0)).toBeCloseTo(1, 5)
  })
})

describe('a member', () => {
  let net: TestNetwork
  let hospital: FlexMeshNode
  let archive: FlexMeshNode

  afterEach(async () => {
    await net.close()
    await cleanUp()
  })

  /** Two connected members; the archive has trained an expert named "law". */
  async function pair(): Promise<void> {
    net = await network(['Hospital', 'Archive'], await tinyModel())
    ;[hospital, archive] = net.nodes as [FlexMeshNode, FlexMeshNode]
    await net.introduced()
    await train(archive, 'law', 'archive')
  }

  it('catches up after having been away', async () => {
    await pair()
    await net.restart(0, async () => {
      await publish(archive, 'law')
    })
    await net.accepted(1)
    expect(compositions(net).size).toBe(1)
  })

  it('that publishes one name many times has one package in use, at every member and after a restart', async () => {
    await pair()
    let last: Digest | undefined
    for (let i = 0; i < MANY; i++) last = await publish(archive, 'law')
    expect(inUse(archive)).toEqual([last])
    await net.watch.until('the last version', () => inUse(hospital).join() === last)
    const again = await net.restart(1)
    expect(inUse(again)).toEqual([last])
    expect(await run(again, 'withdraw', { name: 'law' })).toEqual({ withdrawn: [last] })
  })

  it('can publish, announce and withdraw more packages than one statement can name', async () => {
    await pair()
    const id = await publish(archive, 'law')
    const { manifest } = openManifest((await archive.catalogue.statement(id)) as Uint8Array)
    // An earlier version did not withdraw superseded packages, so a log may hold many of one name and one file.
    for (let i = 1; i < MANY; i++) {
      const tip = await archive.catalogue.tip(archive.identity.peerId)
      const payload = encodeManifest({
        ...manifest,
        seq: (tip?.seq ?? 0) + 1,
        prev: tip?.digest ?? manifest.prev,
        domain: `version ${i}`,
      })
      await archive.ingest(seal(MEDIA_TYPES.manifest, payload, [archive.identity]))
    }
    await archive.announce()
    await net.accepted(MANY)
    // The statements did not come from this node's own commands, so it takes its home for one that was set back.
    const { withdrawn } = await run<{ withdrawn: Digest[] }>(archive, 'withdraw', {
      name: 'law',
      alone: true,
    })
    expect(withdrawn).toHaveLength(MANY)
    await net.accepted(0)
  })
})
