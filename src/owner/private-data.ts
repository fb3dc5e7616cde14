/**
 * The private copies in a home folder: what each file of a training holds, and how a training is forgotten. Files that
 * this list does not know are listed too. Does not know what was published.
 */

import { randomBytes } from 'node:crypto'
import type { Dirent } from 'node:fs'
import { lstat, readdir, rename, rm } from 'node:fs/promises'
import { join, relative } from 'node:path'
import { toHex } from '../lib/bytes.ts'
import { ownCommand } from '../lib/command-line.ts'
import { hasErrno, InputError } from '../lib/errors.ts'
import { mapDiskErrors, pathExists, syncDir } from '../lib/files.ts'
import { ACCOUNT_DIR } from './budget.ts'
import { settleTraining } from './spend-training.ts'
import { claimTraining } from './training-claim.ts'
import { trainingDirs } from './training-folder.ts'

export interface PrivateFile {
  /** Relative to the home folder. */
  readonly path: string
  /** The training that it belongs to; absent for a file of the node itself. */
  readonly training?: string
  /** What it holds, for people. */
  readonly holds: string
  readonly bytes: number
  /** Unix seconds of the last change. */
  readonly changedAt: number
  /** Permission bits. */
  readonly mode: number
}

/** Files of a training by the end of their names, the first that fits. */
const TRAINING_FILES: readonly (readonly [name: RegExp, holds: string])[] = [
  [/\.tmp$/, 'left by a process that was killed'],
  [/corpus\/held-out\.tokens$/, 'tokens of the held-out text'],
  [/corpus\/.*\.tokens$/, 'tokens of the text'],
  [/corpus\/corpus\.json$/, 'names of the files that were read'],
  [/corpus\//, 'index of the text'],
  [/canar[^/]*$/, 'canaries'],
  [/audit[^/]*$/, 'report of the audit'],
  [/checkpoint[^/]*\.safetensors$/, 'checkpoint: weights and optimizer'],
  [/expert\.safetensors$/, 'the trained expert'],
  [/router-statistics\.safetensors$/, 'router statistics of the text'],
  [/units\.safetensors$/, 'constant rows, from public text'],
  [/privacy\.json$/, 'parameters of the differential privacy'],
  [/run$/, 'number of the run in the account of privacy'],
  [/result\.json$/, 'scores and facts of the run'],
]

/** Files and folders of the node itself that nobody else should read, by their names in the home folder. */
const NODE_FILES: Readonly<Record<string, string>> = {
  'key.json': 'the secret key of the node',
  'api-key': 'the key of the API',
  catalogue: 'database: statements, verdicts, addresses',
  egress: 'the egress ledger: who got what',
  'dashboard-sessions.json': 'sessions of the dashboard',
  'settings.json': 'settings',
  'flexmesh.toml': 'options of commands',
}
/** What is public to all members, or holds nothing. */
const NOT_PRIVATE = [
  'blobs',
  'public-model',
  'training',
  'control.sock',
  'in-use.json',
  'mark',
  'version',
  'application.json',
]

/** Public text, prepared for all trainings. */
const REPLAY = '.replay'
/** What the account of privacy holds (budget.ts), which stays when a training is forgotten. */
const ACCOUNT_HOLDS = 'what each text has spent of its privacy, by salted hashes of its documents'
/** Folders of trainings whose deletion has begun. */
const FORGOTTEN = /^\.forgotten-/

/** Every private file of a home folder; those of the trainings first. @throws InputError `permissions`. */
export async function privateFiles(root: string, trainingRoot: string): Promise<PrivateFile[]> {
  const files: PrivateFile[] = []
  const ofNode: PrivateFile[] = []
  for (const name of (await namesIn(trainingRoot)).sort()) {
    if (name === REPLAY) continue
    const isForgotten = FORGOTTEN.test(name)
    if (name.startsWith('.') && !isForgotten) {
      const total = await totalOf(
        root,
        join(trainingRoot, name),
        name === ACCOUNT_DIR ? ACCOUNT_HOLDS : 'other',
      )
      if (total !== undefined) ofNode.push(total)
      continue
    }
    for (const path of await filesIn(join(trainingRoot, name))) {
      const inTraining = relative(trainingRoot, path).replaceAll('\\', '/')
      const holds = TRAINING_FILES.find(([pattern]) => pattern.test(inTraining))?.[1] ?? 'other'
      const file = await describe(root, path, isForgotten ? 'deletion has begun' : holds)
      if (file !== undefined) files.push(isForgotten ? file : { ...file, training: name })
    }
  }
  for (const name of (await namesIn(root)).sort()) {
    if (NOT_PRIVATE.includes(name)) continue
    const total = await totalOf(root, join(root, name), NODE_FILES[name] ?? 'other')
    if (total !== undefined) ofNode.push(total)
  }
  return [...files, ...ofNode]
}

/** The private files of one training. @throws InputError `not-found`, `usage`. */
export async function filesOfTraining(
  root: string,
  trainingRoot: string,
  name: string,
): Promise<PrivateFile[]> {
  await existingDir(trainingRoot, name)
  return (await privateFiles(root, trainingRoot)).filter(({ training }) => training === name)
}

/**
 * Delete everything of a training, but not what its text has spent. A kill in between is finished by `finishForgetting`.
 * @throws InputError `not-found`; `exists` while something uses the folder of the training.
 */
export async function forgetTraining(trainingRoot: string, name: string): Promise<void> {
  const dir = await existingDir(trainingRoot, name)
  const release = claimTraining(trainingDirs(trainingRoot, name), name, 'forget')
  try {
    const doomed = join(trainingRoot, `.forgotten-${toHex(randomBytes(8))}`)
    await mapDiskErrors(dir, async () => {
      if (!(await pathExists(trainingDirs(trainingRoot, name).result)))
        await settleTraining(trainingRoot, name)
      // From here on nothing finds the training, whatever happens to this process.
      await rename(dir, doomed)
      await syncDir(trainingRoot)
      await rm(doomed, { recursive: true, force: true })
      await syncDir(trainingRoot)
    })
  } finally {
    release()
  }
}

/** Delete what a killed process has left of trainings that were forgotten. Only for the holder of the home's lock. */
export async function finishForgetting(trainingRoot: string): Promise<void> {
  for (const name of await namesIn(trainingRoot)) {
    if (!FORGOTTEN.test(name)) continue
    const path = join(trainingRoot, name)
    await mapDiskErrors(path, () => rm(path, { recursive: true, force: true }))
  }
}

async function existingDir(trainingRoot: string, name: string): Promise<string> {
  const { dir } = trainingDirs(trainingRoot, name)
  if (await pathExists(dir)) return dir
  throw new InputError('not-found', `no training named ${name}; ${ownCommand('data')} lists the trainings`)
}

async function namesIn(dir: string): Promise<string[]> {
  return (await pathExists(dir)) ? mapDiskErrors(dir, () => readdir(dir)) : []
}

/** Files below a path, or the path itself if it is a file. */
async function filesIn(path: string): Promise<string[]> {
  let entries: Dirent[]
  try {
    entries = await readdir(path, { recursive: true, withFileTypes: true })
  } catch (error) {
    if (hasErrno(error, 'ENOTDIR')) return [path]
    if (hasErrno(error, 'ENOENT')) return [] // Removed meanwhile.
    return mapDiskErrors(path, () => Promise.reject(error))
  }
  return entries
    .filter((entry) => !entry.isDirectory())
    .map((entry) => join(entry.parentPath, entry.name))
    .sort()
}

/** Undefined for a file that was removed meanwhile. */
async function describe(root: string, path: string, holds: string): Promise<PrivateFile | undefined> {
  try {
    const { size, mtimeMs, mode } = await lstat(path)
    return {
      path: relative(root, path).replaceAll('\\', '/'),
      holds,
      bytes: size,
      changedAt: Math.floor(mtimeMs / 1000),
      mode: mode & 0o777,
    }
  } catch (error) {
    if (hasErrno(error, 'ENOENT')) return undefined
    return mapDiskErrors(path, () => Promise.reject(error))
  }
}

/** A file, or a folder as one line: the sum of its sizes, the last change, and every permission that one of its files has. */
async function totalOf(root: string, path: string, holds: string): Promise<PrivateFile | undefined> {
  const own = await describe(root, path, holds)
  if (own === undefined || (await isFile(path))) return own
  let [bytes, changedAt, mode] = [0, own.changedAt, own.mode & 0o077]
  for (const file of await filesIn(path)) {
    const found = await describe(root, file, holds)
    bytes += found?.bytes ?? 0
    changedAt = Math.max(changedAt, found?.changedAt ?? 0)
    mode |= found?.mode ?? 0
  }
  return { ...own, path: `${own.path}/`, bytes, changedAt, mode }
}

async function isFile(path: string): Promise<boolean> {
  return !(await mapDiskErrors(path, () => lstat(path))).isDirectory()
}
