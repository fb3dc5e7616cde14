/**
 * Writes a backup of a home folder: its catalogue, keys, settings, API keys, the egress ledger, the account of privacy and,
 * on request, trainings. Leaves out what members or other files can replace: packages, the public model, caches. The
 * form of the file is in store/backup-file.ts and store/sealed-file.ts.
 */
import { createHash } from 'node:crypto'
import type { Dirent } from 'node:fs'
import { readdir, rename } from 'node:fs/promises'
import { dirname, join, relative, sep } from 'node:path'
import { FormatError, InputError } from '../lib/errors.ts'
import { mapDiskErrors, pathExists, syncDir } from '../lib/files.ts'
import { withTemporary } from '../lib/temporary.ts'
import { ACCOUNT_DIR } from '../owner/budget.ts'
import { encodeHead, openFileRecord, readRecords } from '../store/backup-file.ts'
import type { Catalogue } from '../store/catalogue.ts'
import type { HomePaths } from '../store/home.ts'
import { opened, sealed } from '../store/sealed-file.ts'
import { writeHashedFile } from '../store/write-hashed.ts'
import { institutionFileOf } from './node-key.ts'

export interface BackupInit {
  readonly paths: HomePaths
  /** The catalogue of the home, which this process has open. */
  readonly catalogue: Catalogue
  /**
   * Lets the files of the egress ledger rest until the returned function is called; default: nothing writes them. See
   * `NodeEgress.hold`.
   */
  readonly holdEgress?: () => Promise<() => void>
  /** Unix seconds. */
  readonly now: () => number
}

export interface BackupRequest {
  /** Path of the new file. */
  readonly file: string
  readonly passphrase: string
  /** Whether trainings are included, with the text that they prepared. */
  readonly trainings: boolean
}

/** What a backup holds. */
export interface BackupReport {
  readonly file: string
  readonly bytes: number
  /** Number of keys of the catalogue. */
  readonly entries: number
  /** Number of files. */
  readonly files: number
}

/**
 * Write the file, read it back, and only then give it its name.
 * @throws InputError `exists` if there is such a file, `usage` for a short passphrase, `not-found`, `disk-full`,
 * `permissions`; `io` if the disk returns other bytes than were written; the signal's reason.
 */
export async function writeBackup(
  init: BackupInit,
  { file, passphrase, trainings }: BackupRequest,
  signal: AbortSignal,
): Promise<BackupReport> {
  if (await pathExists(file)) {
    throw new InputError(
      'exists',
      `${file} exists already; a backup replaces no file, so choose another name`,
    )
  }
  const folder = dirname(file)
  if (!(await pathExists(folder))) {
    throw new InputError('not-found', `the folder ${folder} does not exist; create it first`)
  }
  const counts = { entries: 0, files: 0 }
  const bytes = await withTemporary(file, async (temporary) => {
    const hash = createHash('sha256')
    const content = hashed(records(init, trainings, counts), hash)
    const { ref } = await writeHashedFile(temporary, sealed(content, passphrase), signal)
    const found = await hashOf(opened(temporary, passphrase, signal)).catch((error: unknown) => {
      if (isDamage(error)) throw damagedDisk(file, error)
      throw error
    })
    if (found !== hash.digest('hex')) throw damagedDisk(file)
    await mapDiskErrors(file, async () => {
      await rename(temporary, file)
      await syncDir(folder)
    })
    return ref.size
  })
  return { file, bytes, ...counts }
}

/** Hash of the records of a backup, all of which are read. @throws as `readRecords`. */
async function hashOf(content: AsyncIterable<Uint8Array>): Promise<string> {
  const hash = createHash('sha256')
  for await (const { body } of readRecords(hashed(content, hash))) for await (const _ of body);
  return hash.digest('hex')
}

/** Whether this error of a file that was just written shows that it was not stored as it was written. */
function isDamage(error: unknown): boolean {
  return error instanceof FormatError || (error instanceof InputError && error.code === 'wrong-passphrase')
}

function damagedDisk(file: string, cause?: unknown): InputError {
  return new InputError(
    'io',
    `the disk returned other bytes of ${file} than were written, so nothing was kept; check the disk, or write the backup to another one`,
    { file },
    cause,
  )
}

/** The bytes of a stream, which a hash takes as they pass. */
async function* hashed(
  content: AsyncIterable<Uint8Array>,
  hash: ReturnType<typeof createHash>,
): AsyncGenerator<Uint8Array, void, void> {
  for await (const piece of content) {
    hash.update(piece)
    yield piece
  }
}

async function* records(
  { paths, catalogue, holdEgress = async () => () => undefined, now }: BackupInit,
  trainings: boolean,
  counts: { entries: number; files: number },
): AsyncGenerator<Uint8Array, void, void> {
  const { root } = paths
  yield encodeHead({ type: 'home', root, at: now() })
  for await (const [key, value] of catalogue.snapshot()) {
    yield encodeHead({ type: 'entry', key, size: value.length })
    yield value
    counts.entries++
  }
  const files = async function* (list: readonly string[]) {
    for (const path of list) {
      const record = await openFileRecord(root, path)
      if (record === undefined) continue // The home has no such file, or it was removed meanwhile.
      yield* record
      counts.files++
    }
  }
  // After the catalogue, whose anchor then names a row that the copied ledger has.
  const release = await holdEgress()
  try {
    yield* files(await filesIn(root, paths.egress))
  } finally {
    release()
  }
  yield* files(await nodeFiles(paths))
  yield* files(await accountFiles(paths))
  if (trainings) yield* files(await trainingFiles(paths))
  yield encodeHead({ type: 'end', records: 1 + counts.entries + counts.files })
}

/** Keys, settings and API keys, as paths in the home. */
async function nodeFiles(paths: HomePaths): Promise<string[]> {
  const { root, key, newKey, institution, settings, version, configuration } = paths
  const { apiKey, apiKeys, apiUsage, application } = paths
  const own = [key, newKey, institution, settings, version, configuration]
  const names = [...own, apiKey, apiKeys, apiUsage, application]
  const institutionKey = await institutionFileOf(paths)
  const isInside = institutionKey?.startsWith(root + sep) === true
  const keys = isInside ? [institutionKey, `${institutionKey}.next`] : []
  return [...new Set([...names, ...keys])].map((path) => inHome(root, path))
}

/** The account of privacy. An entry and the texts that it names are listed together. */
async function accountFiles({ root, training }: HomePaths): Promise<string[]> {
  for (;;) {
    const [first, second] = [
      await filesIn(root, join(training, ACCOUNT_DIR)),
      await filesIn(root, join(training, ACCOUNT_DIR)),
    ]
    if (first.join('\n') === second.join('\n')) return first
  }
}

/** Everything of trainings that cannot be computed again from public text. */
async function trainingFiles({ root, training }: HomePaths): Promise<string[]> {
  const found: string[] = []
  for (const { name } of await entriesOf(training)) {
    // Such folders are the account, prepared public text, and trainings whose deletion has begun.
    if (!name.startsWith('.')) found.push(...(await filesIn(root, join(training, name))))
  }
  return found
}

/** Regular files of a folder that need not exist, as sorted paths in the home; without those that are being written. */
async function filesIn(root: string, dir: string): Promise<string[]> {
  const found: string[] = []
  for (const entry of await entriesOf(dir)) {
    const path = join(dir, entry.name)
    if (entry.isDirectory()) found.push(...(await filesIn(root, path)))
    else if (entry.isFile() && !entry.name.endsWith('.tmp')) found.push(inHome(root, path))
  }
  return found.sort()
}

async function entriesOf(dir: string): Promise<Dirent[]> {
  if (!(await pathExists(dir))) return []
  return mapDiskErrors(dir, () => readdir(dir, { withFileTypes: true }))
}

function inHome(root: string, path: string): string {
  return relative(root, path).replaceAll(sep, '/')
}
