/** A home that was restored from a backup of its running node, while the consortium went on. */
import { readdir, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { writeBackup } from '../../src/node/backup.ts'
import { FlexMeshNode } from '../../src/node/node.ts'
import { restoreBackup } from '../../src/node/restore-backup.ts'
import { onnxEngine } from '../../src/tensor/onnx-engine.ts'
import { cleanUp, folder } from '../support/folders.ts'
import { inUse, LENIENT, network, now, publish, run, type TestNetwork, train } from '../support/network.ts'
import { tinyModel } from '../support/tiny-model.ts'

const passphrase = 'correct horse battery'
const { signal } = new AbortController()
let net: TestNetwork

beforeEach(async () => {
  net = await network(['Hospital', 'Archive'], await tinyModel())
  await net.connected()
})
afterEach(async () => {
  await net.close()
  await cleanUp()
})

/** Back up the archive's running node. @returns the path of the file. */
async function backup(trainings = false): Promise<string> {
  const { paths, catalogue, egress } = net.nodes[1] as FlexMeshNode
  const file = join(await folder(), 'archive.backup')
  const init = { paths, catalogue, holdEgress: () => egress.hold(), now }
  await writeBackup(init, { file, passphrase, trainings }, signal)
  return file
}

async function restored(file: string): Promise<string> {
  const home = join(await folder(), 'home')
  await restoreBackup({ file, passphrase, home, publicModel: await tinyModel() }, signal)
  return home
}

async function publishLaw(): Promise<void> {
  await train(net.nodes[1] as FlexMeshNode, 'law', 'archive')
  await publish(net.nodes[1] as FlexMeshNode, 'law')
  await net.accepted(1)
}

const BEHIND = { code: 'behind' }

describe('a restored backup', () => {
  it('that is older signs nothing until a member has told what it holds, and then goes on after it', async () => {
    const [hospital, archive] = net.nodes as [FlexMeshNode, FlexMeshNode]
    await publishLaw()
    const file = await backup(true)
    await run(archive, 'withdraw', { name: 'law' })
    await net.watch.until('the withdrawal', () => inUse(hospital).length === 0)
    const again = await net.restart(1, async () => {
      const home = await restored(file)
      await rm(net.homes[1] as string, { recursive: true })
      net.homes[1] = home
      const alone = await FlexMeshNode.open({
        engine: onnxEngine({ threads: 1 }),
        policy: LENIENT,
        now,
        home,
      })
      expect(alone.isCopied).toBe(true)
      await expect(publish(alone, 'law')).rejects.toMatchObject(BEHIND)
      await expect(run(alone, 'withdraw', { name: 'law' })).rejects.toMatchObject(BEHIND)
      await expect(run(alone, 'renew')).rejects.toMatchObject(BEHIND)
      await alone.close()
    })
    expect(again.identity.peerId).toBe(archive.identity.peerId)
    await net.watch.until('the later history', () => !again.isCopied && inUse(again).length === 0)
    await train(again, 'other', 'university')
    const id = await publish(again, 'other')
    await net.accepted(1)
    expect(inUse(hospital)).toEqual([id])
    expect(await hospital.catalogue.get('forks', again.identity.peerId)).toBeUndefined()
  })

  it('fetches packages again, its own too, and composes what it composed before', async () => {
    await publishLaw()
    const { digest } = (net.nodes[1] as FlexMeshNode).composer.served.composition
    const file = await backup()
    const again = await net.restart(1, async () => {
      net.homes[1] = await restored(file)
      expect(await readdir(join(net.homes[1], 'blobs'))).not.toEqual([])
    })
    await net.watch.until('the composition', () => again.composer.served.composition.digest === digest)
    expect(again.composer.served.composition.experts).toHaveLength(1)
  })

  it('holds trainings only if they were asked for, and the account of privacy in any case', async () => {
    const archive = net.nodes[1] as FlexMeshNode
    await train(archive, 'law', 'archive')
    await run(archive, 'privacy', { action: 'limit', epsilon: '8' })
    const namesOf = async (trainings: boolean): Promise<string[]> =>
      (await readdir(join(await restored(await backup(trainings)), 'training'))).sort()
    expect(await namesOf(false)).toEqual(['.account'])
    expect(await namesOf(true)).toEqual(['.account', 'law'])
  })
})
