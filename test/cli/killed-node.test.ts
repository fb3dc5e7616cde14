/**
 * A running node that is killed while it codes weights, judges a package or exports a composition: what it held before
 * is still there, the work can be done again, and no file of the killed process is left. FLEXMESH_KILLS is the number of
 * kills of each kind (default 1), each at another moment of the work.
 */
import type { ChildProcess } from 'node:child_process'
import { copyFile, open, readdir, rm, stat, watch, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, describe, expect, it } from 'vitest'
import { writeSafetensorsHeader } from '../../src/checkpoint/safetensors.ts'
import { hasErrno } from '../../src/lib/errors.ts'
import { mulberry32 } from '../../src/lib/random.ts'
import { configToHuggingFace } from '../../src/model/config.ts'
import { publicShapes } from '../../src/model/params.ts'
import { founded, trained } from '../support/command-homes.ts'
import { flexmesh, kill, line, spawned } from '../support/command-line.ts'
import { cleanUp, folder, SMALL_MODEL } from '../support/folders.ts'
import { TINY } from '../support/tiny-model.ts'

afterAll(cleanUp)

const KILLS = Number(process.env['FLEXMESH_KILLS'] ?? 1)
const TIMEOUT_MS = 120_000 * KILLS
/** The first kill comes at once, the others after some of this number of changes in the folder. */
const CHANGES = 12
/** A name that exists only while a file or folder is written. */
const TEMPORARY = /^\..+\.tmp$/

/** Number of changes to wait for before each kill. */
function moments(): number[] {
  const random = mulberry32(7)
  return Array.from({ length: KILLS }, (_, i) => (i === 0 ? 0 : Math.floor(random() * CHANGES)))
}

/**
 * Kills a process when a name in `dir` meets a condition and that folder, or the folder of this name, has then changed
 * `changes` times more, or when the work has ended.
 */
async function killDuring(
  node: ChildProcess,
  work: () => Promise<unknown>,
  dir: string,
  isBegun: (name: string) => boolean,
  changes: number,
): Promise<void> {
  const watching = new AbortController()
  const { signal } = watching
  const working = work().finally(() => watching.abort())
  try {
    const name = await appearance(dir, isBegun, signal)
    if (changes > 0) await manyChanges(await folderOf(dir, name), changes, signal)
  } catch (error) {
    // The work has ended, or has just removed or renamed its folder.
    if (!signal.aborted && !hasErrno(error, 'ENOENT')) throw error
  }
  await kill(node)
  await working
}

/** The first name in a folder that meets a condition. */
async function appearance(
  dir: string,
  isBegun: (name: string) => boolean,
  signal: AbortSignal,
): Promise<string> {
  for await (const _ of watch(dir, { signal })) {
    const found = (await readdir(dir)).find(isBegun)
    if (found !== undefined) return found
  }
  throw new Error(`the watch of ${dir} has ended`)
}

async function folderOf(dir: string, name: string): Promise<string> {
  const path = join(dir, name)
  return (await stat(path)).isDirectory() ? path : dir
}

async function manyChanges(dir: string, changes: number, signal: AbortSignal): Promise<void> {
  let left = changes
  for await (const _ of watch(dir, { signal })) if (--left === 0) return
}

async function runningNode(home: string, ...options: string[]): Promise<ChildProcess> {
  const node = spawned('start', '--home', home, '--port', '0', ...options)
  await line(node, 'is up as')
  return node
}

/**
 * A model just large enough that serving keeps its codes. All weights are zero: the file is sparse, and one token costs
 * little.
 */
async function largeModel(): Promise<string> {
  const config = {
    ...TINY,
    vocabSize: 65_536,
    hiddenSize: 1024,
    intermediateSize: 17_408,
    numHiddenLayers: 1,
  }
  const dir = await folder()
  const shapes = [...publicShapes(config)].map(([name, shape]) => ({
    name,
    dtype: 'BF16' as const,
    shape: [...shape],
  }))
  const header = writeSafetensorsHeader(shapes)
  const file = await open(join(dir, 'model.safetensors'), 'w')
  await file.write(header)
  const numbers = shapes.reduce((sum, { shape }) => sum + shape.reduce((product, n) => product * n, 1), 0)
  await file.truncate(header.length + 2 * numbers)
  await file.close()
  await writeFile(join(dir, 'config.json'), JSON.stringify(configToHuggingFace(config)))
  for (const name of ['tokenizer.json', 'replay.jsonl'])
    await copyFile(join(SMALL_MODEL, name), join(dir, name))
  return dir
}

describe('a running node that is killed', () => {
  it('while it codes weights codes them again', { timeout: TIMEOUT_MS }, async () => {
    const home = await founded(await largeModel())
    const blobs = join(home, 'blobs')
    const before = (await readdir(blobs)).sort()
    const generate = (): Promise<{ code: number }> =>
      flexmesh('generate', 'a', '--max-tokens', '1', '--home', home)
    for (const changes of moments()) {
      const node = await runningNode(home, '--weights', 'int8')
      await killDuring(node, generate, blobs, (name) => TEMPORARY.test(name), changes)
      expect((await readdir(blobs)).some((name) => name.endsWith('.codes'))).toBe(false)
    }
    const node = await runningNode(home, '--weights', 'int8')
    expect((await readdir(blobs)).sort()).toEqual(before)
    expect(await generate()).toMatchObject({ code: 0 })
    await kill(node)
    const after = (await readdir(blobs)).filter((name) => !before.includes(name))
    expect(after).toEqual([expect.stringMatching(/^[0-9a-f]{64}\.int8-\d+\.codes$/)])
  })

  it('while it judges a package judges it again', { timeout: TIMEOUT_MS }, async () => {
    for (const changes of moments()) {
      // A home for each kill, since a node refuses weights that were withdrawn.
      const home = await trained()
      const blobs = join(home, 'blobs')
      const before = (await readdir(blobs)).sort()
      const publish = (): Promise<{ code: number }> =>
        flexmesh('publish', 'law', '--no-audit', '--yes', '--home', home)
      const inUse = async (): Promise<string[]> => {
        const { stdout } = await flexmesh('experts', '--home', home, '--json')
        return (JSON.parse(stdout) as { composed: { name: string }[] }).composed.map(({ name }) => name)
      }
      const node = await runningNode(home)
      await killDuring(
        node,
        publish,
        blobs,
        (name) => !before.includes(name) && !TEMPORARY.test(name),
        changes,
      )
      const names = await inUse()
      expect((await readdir(blobs)).filter((name) => TEMPORARY.test(name))).toEqual([])
      if (names.length === 0) expect(await publish()).toMatchObject({ code: 0 })
      expect(await inUse()).toEqual(['law'])
      expect(await flexmesh('withdraw', 'law', '--home', home)).toMatchObject({ code: 0 })
      expect((await readdir(blobs)).sort()).toEqual(before)
    }
  })

  it('while it exports exports again', { timeout: TIMEOUT_MS }, async () => {
    const home = await founded()
    const parent = await folder()
    const compose = (): Promise<{ code: number }> =>
      flexmesh('compose', '--export', join(parent, 'model'), '--home', home)
    for (const changes of moments()) {
      const node = await runningNode(home)
      await killDuring(node, compose, parent, (name) => TEMPORARY.test(name), changes)
      // Complete if the export was faster than the kill.
      await rm(join(parent, 'model'), { recursive: true, force: true })
    }
    expect(await compose()).toMatchObject({ code: 0 })
    expect(await readdir(parent)).toEqual(['model'])
  })
})
