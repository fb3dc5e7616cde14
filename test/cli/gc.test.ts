import { readdir, stat, utimes, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, describe, expect, it } from 'vitest'
import { pathExists } from '../../src/lib/files.ts'
import type { FlexMeshNode } from '../../src/node/node.ts'
import { trainingDirs } from '../../src/owner/training-folder.ts'
import { folderBytes } from '../../src/store/disk-quota.ts'
import { founded } from '../support/command-homes.ts'
import { flexmesh, start } from '../support/command-line.ts'
import { cleanUp } from '../support/folders.ts'
import { LENIENT, network, publish, run, train } from '../support/network.ts'
import { shortText } from '../support/texts.ts'
import { tinyModel } from '../support/tiny-model.ts'

afterAll(cleanUp)

interface Removed {
  readonly isRemoved: boolean
  readonly files: readonly { readonly path: string; readonly kind: string; readonly bytes: number }[]
}

/** A node with a published training `law`, and a finished one, `diary`, that is not published. */
async function publisher() {
  const net = await network(['Archive'], await tinyModel(), { policy: LENIENT })
  const [node] = net.nodes as [FlexMeshNode]
  await train(node, 'law', 'archive')
  await publish(node, 'law')
  await train(node, 'diary', 'hospital')
  return { net, node, collect: (dryRun: boolean) => run(node, 'gc', { dryRun }) as Promise<Removed> }
}

/** A file as an interrupted process has left it days ago. */
async function leave(path: string): Promise<void> {
  await writeFile(path, 'left')
  const longAgo = new Date(Date.now() - 3 * 86_400_000)
  await utimes(path, longAgo, longAgo)
}

describe('flexmesh gc', () => {
  it('removes checkpoints of published trainings, left-over files and stale codes, and nothing else', async () => {
    const { net, node, collect } = await publisher()
    const { blobs } = node.parts
    const other = 'a'.repeat(64)
    const left = [`.${'0'.repeat(16)}.tmp`, `${other}-${'1'.repeat(16)}.part`, other, `${other}.chunks`]
    for (const name of left) await leave(join(blobs.dir, name))
    const [ownFile = ''] = node.accepted.manifests().map(({ manifest }) => manifest.files[0]?.sha256.slice(7))
    const stale = `${ownFile}.other-1.codes`
    await writeFile(join(blobs.dir, stale), 'codes')
    const recent = `${'b'.repeat(64)}-${'1'.repeat(16)}.part`
    await writeFile(join(blobs.dir, recent), 'being received')
    const before = await readdir(blobs.dir)

    const shown = await collect(true)
    expect(shown.isRemoved).toBe(false)
    expect(await readdir(blobs.dir)).toEqual(before)
    const removed = await collect(false)
    expect(removed.files).toEqual(shown.files)
    expect(removed.files.map(({ path, kind }) => [path, kind]).sort()).toEqual(
      [
        ...left.map((name, i) => [`blobs/${name}`, i < 2 ? 'unfinished' : 'unreferenced']),
        [`blobs/${stale}`, 'codes'],
        ['training/law/checkpoint.safetensors', 'checkpoint'],
      ].sort(),
    )
    const gone = [...left, stale]
    expect(await readdir(blobs.dir)).toEqual(before.filter((name) => !gone.includes(name)))
    expect(await pathExists(trainingDirs(node.paths.training, 'law').expert)).toBe(true)
    expect(await pathExists(trainingDirs(node.paths.training, 'diary').checkpoint)).toBe(true)
    expect((await collect(false)).files).toEqual([])
    expect(node.accepted.manifests()).toHaveLength(1)
    await net.close()
  })
})

describe('start --max-disk', () => {
  it('refuses a training in a full home folder, and status says so', async () => {
    const home = await founded()
    const node = start('start', '--home', home, '--port', '0', '--max-disk', '1MB')
    await node.line('is up as')
    const text = await shortText('archive')
    const refused = await flexmesh('train', '--home', home, '--name', 'law', '--data', text, '--steps', '1')
    expect(refused.code).toBe(1)
    expect(refused.stderr).toMatch(
      /^flexmesh: the home folder takes \d+ MB of the 1 MB that --max-disk allows; run "flexmesh gc --home [^"]+"/,
    )
    const status = (await flexmesh('status', '--home', home)).stdout
    expect(status).toMatch(
      /PROBLEM: the home folder takes \d+ MB of the 1 MB that --max-disk allows; run: flexmesh gc --home \S+\n/,
    )
    expect(status).toMatch(/disk +.* free; the home folder takes \d+ MB of 1 MB\n/)
    expect((await node.interrupt()).code).toBe(0)
  })

  it('counts what files take on the disk', async () => {
    const home = await founded()
    const { blocks } = await stat(join(home, 'public-model', 'model.safetensors'))
    const bytes = await folderBytes(home)
    expect(bytes).toBeGreaterThanOrEqual(2 * 512 * blocks)
    await writeFile(join(home, 'more'), new Uint8Array(1_000_000))
    expect(await folderBytes(home)).toBeGreaterThanOrEqual(bytes + 1_000_000)
  })
})
