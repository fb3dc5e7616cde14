/**
 * Files of a home folder that the node can do without: left over by interrupted work, checkpoints of trainings whose expert
 * is published, and coded weights that do not serve any more. Lists them, and removes them. Never names a file that only
 * this node has and that something still reads.
 */
import { lstat, readdir, rm } from 'node:fs/promises'
import { join, relative } from 'node:path'
import { readLoggedManifest } from '../acceptance/logged-manifest.ts'
import type { Digest } from '../lib/bytes.ts'
import { hasErrno, InputError } from '../lib/errors.ts'
import { mapDiskErrors, pathExists } from '../lib/files.ts'
import { claimTraining } from '../owner/training-claim.ts'
import { finishedTrainings, trainingDirs } from '../owner/training-folder.ts'
import type { Parts } from '../pipeline/parts.ts'
import { codesOwner } from '../store/code-files.ts'
import type { HomePaths } from '../store/home.ts'

export type GarbageKind = 'unfinished' | 'unreferenced' | 'checkpoint' | 'codes'

/** A file that can go. */
export interface Garbage {
  /** Relative to the home folder. */
  readonly path: string
  readonly kind: GarbageKind
  /** The training that a checkpoint belongs to. */
  readonly training?: string
  readonly bytes: number
}

/** Age of a file in `blobs/` before which something may still be writing it, ms. */
const SETTLED_MS = 86_400_000
/** Name of a blob, of a file that is computed from one, or of a download that has not ended. */
const OWNED = /^([a-f0-9]{64})(?:[.-]|$)/

/** @param now Unix seconds */
export async function findGarbage(parts: Parts, paths: HomePaths, now: number): Promise<Garbage[]> {
  return [...(await blobGarbage(parts, paths, now)), ...(await checkpointGarbage(parts, paths))]
}

/** @returns what was removed; a file that is gone or in use now is left out. */
export async function removeGarbage(
  { training: trainings, root }: HomePaths,
  garbage: readonly Garbage[],
): Promise<Garbage[]> {
  const removed: Garbage[] = []
  for (const one of garbage) {
    // A training that goes on now would write its checkpoint again.
    const release =
      one.training === undefined
        ? () => undefined
        : claimTraining(trainingDirs(trainings, one.training), one.training, 'forget')
    try {
      const path = join(root, one.path)
      await mapDiskErrors(path, () => rm(path))
      removed.push(one)
    } catch (error) {
      if (!hasErrno(error, 'ENOENT')) throw error
    } finally {
      release()
    }
  }
  return removed
}

async function blobGarbage(parts: Parts, { root }: HomePaths, now: number): Promise<Garbage[]> {
  const { blobs, membership, composer } = parts
  const { publicModel } = membership.charter
  const { named, awaited } = await packageFiles(parts)
  for (const { sha256 } of publicModel.files) named.add(hexOf(sha256))
  const { composition } = composer.served
  const serving = new Set([
    hexOf(publicModel.digest),
    ...composition.experts.flatMap(({ file }) => (file === undefined ? [] : [hexOf(file)])),
  ])
  const format = formatOf(composer)
  const kindOf = (name: string): GarbageKind | undefined => {
    const coded = codesOwner(name)
    if (coded !== undefined)
      return serving.has(coded) && name.startsWith(`${coded}.${format ?? ''}`) ? undefined : 'codes'
    const owner = OWNED.exec(name)?.[1]
    if (name.endsWith('.part')) return owner !== undefined && awaited.has(owner) ? undefined : 'unfinished'
    if (name.endsWith('.tmp')) return 'unfinished'
    return owner === undefined || named.has(owner) ? undefined : 'unreferenced'
  }
  const found: Garbage[] = []
  for (const name of (await readdir(blobs.dir)).sort()) {
    const kind = kindOf(name)
    const file = kind === undefined ? undefined : await sizeOf(join(blobs.dir, name))
    if (kind === undefined || file === undefined) continue
    // Codes are a cache that its reader keeps open; anything else may be on its way to its place.
    if (kind !== 'codes' && file.changedAtMs > now * 1000 - SETTLED_MS) continue
    found.push({ path: relative(root, join(blobs.dir, name)), kind, bytes: file.bytes })
  }
  return found
}

/** Begins the names of the codes that serve, as in `int8-`; undefined if the model does not fit the memory here. */
function formatOf({ served }: Parts['composer']): string | undefined {
  try {
    return `${served.servingFormat().format}-`
  } catch (error) {
    if (error instanceof InputError && error.code === 'out-of-memory') return undefined
    throw error
  }
}

/** SHA-256 in hexadecimal of the files of all logged packages, and of those that have no verdict yet. */
async function packageFiles(parts: Parts): Promise<{ named: Set<string>; awaited: Set<string> }> {
  const named = new Set<string>()
  const awaited = new Set<string>()
  for await (const { envelope, digest: id } of parts.statements.all()) {
    const manifest = readLoggedManifest(envelope)
    if (manifest === undefined) continue
    const verdict = await parts.verdicts.get(id)
    for (const { sha256 } of manifest.files) {
      named.add(hexOf(sha256))
      if (verdict === undefined) awaited.add(hexOf(sha256))
    }
  }
  return { named, awaited }
}

/** Checkpoints of finished trainings whose expert this node publishes and uses. */
async function checkpointGarbage(
  { accepted, membership }: Parts,
  { root, training }: HomePaths,
): Promise<Garbage[]> {
  const published = new Set(
    accepted
      .manifests()
      .filter(({ manifest }) => manifest.publisher === membership.seat)
      .map(({ manifest }) => manifest.expert.name),
  )
  const found: Garbage[] = []
  for (const name of await finishedTrainings(training)) {
    const { checkpoint } = trainingDirs(training, name)
    if (!published.has(name) || !(await pathExists(checkpoint))) continue
    const file = await sizeOf(checkpoint)
    if (file !== undefined)
      found.push({ path: relative(root, checkpoint), kind: 'checkpoint', training: name, bytes: file.bytes })
  }
  return found
}

/** Undefined for a file that was removed meanwhile. */
async function sizeOf(path: string): Promise<{ bytes: number; changedAtMs: number } | undefined> {
  try {
    const { size, mtimeMs } = await lstat(path)
    return { bytes: size, changedAtMs: mtimeMs }
  } catch (error) {
    if (hasErrno(error, 'ENOENT')) return undefined
    throw error
  }
}

function hexOf(digest: Digest): string {
  return digest.slice('sha256:'.length)
}
