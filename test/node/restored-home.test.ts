/** A home folder that was restored from a backup, which is behind what other members hold of it. */
import { cp, readFile, rm, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { utf8 } from '../../src/lib/bytes.ts'
import type { NodeEvent } from '../../src/node/events.ts'
import { FlexMeshNode } from '../../src/node/node.ts'
import { Catalogue } from '../../src/store/catalogue.ts'
import { onnxEngine } from '../../src/tensor/onnx-engine.ts'
import { cleanUp, folder } from '../support/folders.ts'
import { inUse, LENIENT, network, now, publish, run, type TestNetwork, train } from '../support/network.ts'
import { tinyModel } from '../support/tiny-model.ts'

let net: TestNetwork
/** Events of all nodes. */
let events: NodeEvent[]

beforeEach(async () => {
  events = []
  const onEvent = (event: NodeEvent): void => {
    events.push(event)
    net?.watch.onEvent()
  }
  net = await network(['Hospital', 'Archive'], await tinyModel(), { onEvent })
  await net.connected()
})
afterEach(async () => {
  await net.close()
  await cleanUp()
})

/** Let a node do something, then stop it and put the folder back that it had before. */
async function restored(
  index: number,
  after: (node: FlexMeshNode) => Promise<unknown>,
  offline: (node: FlexMeshNode) => Promise<void>,
): Promise<FlexMeshNode> {
  const home = net.homes[index] as string
  const backup = await folder()
  const options = { recursive: true, preserveTimestamps: true }
  await after(await net.restart(index, () => cp(home, backup, options)))
  return net.restart(index, async () => {
    await rm(home, { recursive: true })
    await cp(backup, home, options)
    const alone = await FlexMeshNode.open({ engine: onnxEngine({ threads: 1 }), policy: LENIENT, now, home })
    await offline(alone)
    await alone.close()
  })
}

/** The archive publishes an expert that everybody accepts. */
async function publishLaw(): Promise<void> {
  await train(net.nodes[1] as FlexMeshNode, 'law', 'archive')
  await publish(net.nodes[1] as FlexMeshNode, 'law')
  await net.accepted(1)
}

const BEHIND = { code: 'behind' }

describe('a restored home', () => {
  it('signs nothing until it has caught up; then it publishes after its later history', async () => {
    const hospital = net.nodes[0] as FlexMeshNode
    await publishLaw()
    const again = await restored(
      1,
      async (node) => {
        await run(node, 'withdraw', { name: 'law' })
        await net.watch.until('the withdrawal', () => inUse(hospital).length === 0)
      },
      async (node) => {
        expect(node.composer.served.composition.experts).toHaveLength(1) // Its own.
        await expect(publish(node, 'law')).rejects.toMatchObject(BEHIND)
        await expect(run(node, 'withdraw', { name: 'law' })).rejects.toMatchObject(BEHIND)
      },
    )
    await net.watch.until('the later history', () => !again.isCopied && inUse(again).length === 0)
    await train(again, 'other', 'university') // What was withdrawn cannot be published again.
    const id = await publish(again, 'other')
    await net.accepted(1)
    expect(inUse(hospital)).toEqual([id])
    expect(await hospital.catalogue.get('forks', again.identity.peerId)).toBeUndefined()
  })

  it('uses no expert of others until it has caught up, because it may not know of a withdrawal', async () => {
    const hospital = net.nodes[0] as FlexMeshNode
    await publishLaw()
    const again = await restored(
      0,
      () => run(net.nodes[1] as FlexMeshNode, 'withdraw', { name: 'law' }),
      async (node) => {
        expect(inUse(node)).toHaveLength(1)
        expect(node.composer.served.composition.experts).toEqual([])
      },
    )
    expect(again).not.toBe(hospital)
    await net.watch.until('the withdrawal', () => !again.isCopied && inUse(again).length === 0)
    await train(net.nodes[1] as FlexMeshNode, 'other', 'university')
    await publish(net.nodes[1] as FlexMeshNode, 'other')
    await net.watch.until('the new expert', () => again.composer.served.composition.experts.length === 1)
  })

  it('of a founder changes no roster until it has caught up', async () => {
    // Both have learned where the other one is.
    await publishLaw()
    const again = await restored(
      0,
      () => net.quorum.renew(),
      async (node) => {
        for (const [command, args] of [
          ['renew', {}],
          ['revoke', { who: 'Archive' }],
        ] as const) {
          await expect(run(node, command, args)).rejects.toMatchObject(BEHIND)
        }
      },
    )
    const { version } = (net.nodes[1] as FlexMeshNode).membership.roster()
    await net.watch.until('the later roster', () => again.membership.roster().version === version)
    await net.watch.until('the confirmation', () => !again.isCopied)
    await net.quorum.renew()
    await net.watch.until('the renewed roster', () => {
      return net.nodes.every((node) => node.membership.roster().version === version + 1)
    })
  })

  it('signs with --alone, for an owner who knows that nothing was signed since', async () => {
    await train(net.nodes[1] as FlexMeshNode, 'law', 'archive')
    const again = await restored(
      1,
      async () => undefined,
      async (node) => {
        await expect(publish(node, 'law')).rejects.toMatchObject(BEHIND)
        await publish(node, 'law', { alone: true })
      },
    )
    await net.accepted(1)
    expect(inUse(again)).toHaveLength(1)
  })
})

describe('a home whose whole disk was set back', () => {
  /** Make the mark of a home fit its catalogue, as a snapshot of the disk does. */
  async function hideCopy(home: string): Promise<void> {
    const path = join(home, 'mark')
    const { ino, ctimeMs } = await stat(path)
    const catalogue = await Catalogue.open(home)
    const mark = `${await readFile(path, 'utf8')} ${ino} ${ctimeMs}`
    await catalogue.put('settings', 'home-mark', utf8(mark))
    await catalogue.close()
  }

  it('learns it from a member that holds its later statements, and goes on after them', async () => {
    const hospital = net.nodes[0] as FlexMeshNode
    const home = net.homes[1] as string
    await publishLaw()
    const backup = await folder()
    const options = { recursive: true, preserveTimestamps: true }
    const later = await net.restart(1, () => cp(home, backup, options))
    await run(later, 'withdraw', { name: 'law' })
    await net.watch.until('the withdrawal', () => inUse(hospital).length === 0)
    const again = await net.restart(1, async () => {
      await rm(home, { recursive: true })
      await cp(backup, home, options)
      await hideCopy(home)
    })
    await net.watch.until('the discovery', () => events.some(({ event }) => event === 'set-back'))
    await net.watch.until('the later history', () => !again.isCopied && inUse(again).length === 0)
    await train(again, 'other', 'university')
    await publish(again, 'other')
    await net.accepted(1)
    expect(await hospital.catalogue.get('forks', again.identity.peerId)).toBeUndefined()
  })
})
