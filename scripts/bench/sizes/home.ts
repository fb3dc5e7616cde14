/**
 * Prepares the home folders of the benchmark of sizes: finished trainings with random experts, and copies of the public
 * model that share their bytes on disk. Measures nothing.
 */
import { link, mkdir, readdir, rename, rm, stat, statfs } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { InputError } from '../../../src/lib/errors.ts'
import type { ModelConfig } from '../../../src/model/config.ts'
import { saveResult, trainingDirs } from '../../../src/owner/training-folder.ts'
import { homePaths } from '../../../src/store/home.ts'
import { writeExpertFile } from './random-model.ts'

/** Bits per byte that the training claims; as large as those of a random model. */
const CLAIMED = { before: 5, after: 5 }

/**
 * Puts expert number `index` into a home as a training that `train` has finished and scored, so that `publish` packs,
 * hashes and signs it without scoring it again.
 */
export async function installTraining(
  home: string,
  name: string,
  config: ModelConfig,
  index: number,
  rank?: number,
): Promise<void> {
  const dirs = trainingDirs(homePaths(home).training, name)
  await mkdir(dirs.dir, { recursive: true })
  await writeExpertFile(dirs.expert, config, index, rank)
  await saveResult(dirs, {
    name,
    steps: 200,
    tokens: 100_000,
    documents: 100,
    replayShareMilli: 250,
    statisticsDocuments: 0,
    own: CLAIMED,
    public: CLAIMED,
  })
}

/**
 * Replaces the files of a home's public model by links to equal blobs of it, since a home keeps both. Nothing writes to
 * either, and a model of 7B then fits on a disk of 60 GB together with its experts.
 */
export async function linkPublicModel(home: string): Promise<void> {
  const { publicModel } = homePaths(home)
  const blobs = await filesBelow(join(home, 'blobs'))
  const sizes = await Promise.all(blobs.map(async (path) => (await stat(path)).size))
  for (const name of await readdir(publicModel)) {
    const path = join(publicModel, name)
    const { size } = await stat(path)
    const candidates = blobs.filter((_, i) => sizes[i] === size)
    // Shards of equal size cannot be told apart by their size; they keep their copies.
    if (candidates.length !== 1) continue
    await link(candidates[0] as string, `${path}.link`)
    await rename(`${path}.link`, path)
  }
}

/** Links the blobs of one home into another one that has none. */
export async function linkBlobs(from: string, to: string): Promise<void> {
  const source = join(from, 'blobs')
  // A home that others may enter is refused.
  await mkdir(to, { mode: 0o700 })
  for (const path of await filesBelow(source)) {
    const target = join(to, 'blobs', path.slice(source.length))
    await mkdir(dirname(target), { recursive: true })
    await link(path, target)
  }
}

/** @throws InputError `disk-full` if the disk of `dir` has less free. */
export async function requireDisk(dir: string, bytes: number): Promise<void> {
  const { bavail, bsize } = await statfs(dir)
  const gigabytes = (n: number): string => (n / 1e9).toFixed(1)
  if (bavail * bsize >= bytes) return
  throw new InputError(
    'disk-full',
    `needs ${gigabytes(bytes)} GB of disk in ${dir}, ${gigabytes(bavail * bsize)} GB are free`,
  )
}

export async function remove(path: string): Promise<void> {
  await rm(path, { recursive: true, force: true })
}

async function filesBelow(dir: string): Promise<string[]> {
  const entries = await readdir(dir, { recursive: true, withFileTypes: true })
  return entries.filter((entry) => entry.isFile()).map((entry) => join(entry.parentPath, entry.name))
}
