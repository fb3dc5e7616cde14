/**
 * Makes a home folder from a backup and a copy of the public model. The home then counts as a copy, so its node signs
 * nothing until a member has told what it holds. Packages are fetched again when the node runs.
 */
import { rename } from 'node:fs/promises'
import { basename, dirname, join, relative, resolve, sep } from 'node:path'
import { replayName } from '../checkpoint/model-directory.ts'
import { installPublicModel, modelFiles, openPublicModel, replayOf } from '../checkpoint/public-model.ts'
import { type Charter, openCharter } from '../consortium/charter.ts'
import { readKeyId } from '../identity/key-file.ts'
import { concatBytes } from '../lib/bytes.ts'
import { FormatError, InputError } from '../lib/errors.ts'
import { ensurePrivateDir, mapDiskErrors, pathExists, syncDir } from '../lib/files.ts'
import { withTemporary } from '../lib/temporary.ts'
import { readRecords } from '../store/backup-file.ts'
import { BlobStore } from '../store/blob-store.ts'
import { Catalogue } from '../store/catalogue.ts'
import { rosterKey } from '../store/catalogue-keys.ts'
import { type HomePaths, homePaths } from '../store/home.ts'
import { HomeMark } from '../store/home-mark.ts'
import { readHomeVersion } from '../store/home-version.ts'
import { opened } from '../store/sealed-file.ts'
import { writeHashedFile } from '../store/write-hashed.ts'
import { institutionFileOf, saveInstitutionFile } from './node-key.ts'

export interface RestoreRequest {
  readonly file: string
  readonly passphrase: string
  /** Path of the new home folder. */
  readonly home: string
  /** A folder with the public model of the charter; needed if the home belongs to a consortium. */
  readonly publicModel?: string | undefined
  /** Path of the public text that owners train beside; default: as in `createConsortium`. */
  readonly replay?: string | undefined
  readonly onCopied?: ((bytes: number, total: number) => void) | undefined
}

export interface RestoreReport {
  readonly home: string
  readonly peerId: string
  /** When the backup was made, Unix seconds. */
  readonly at: number
  /** Name of the consortium; null for a home that belongs to none. */
  readonly consortium: string | null
}

/** Bytes of catalogue entries that are written at once. */
const BATCH_BYTES = 4 * 2 ** 20

/**
 * Restore into a folder that does not exist. Nothing stays of an attempt that fails.
 * @throws InputError `exists`, `usage` without a public model, `mismatch` for a public model that is not the one of the
 * charter; as `opened` of sealed-file.ts.
 */
export async function restoreBackup(request: RestoreRequest, signal: AbortSignal): Promise<RestoreReport> {
  const { home } = request
  const target = homePaths(home)
  if (await pathExists(home)) {
    throw new InputError(
      'exists',
      `${home} exists already; a backup is restored into a new folder, so choose another --home`,
    )
  }
  const parent = dirname(home)
  await ensurePrivateDir(parent)
  return withTemporary(home, async (building) => {
    await ensurePrivateDir(building)
    const report = await build(request, target, building, signal)
    await mapDiskErrors(home, async () => {
      await rename(building, home)
      await syncDir(parent)
    })
    return report
  })
}

async function build(
  { file, passphrase, home, publicModel, replay, onCopied }: RestoreRequest,
  target: HomePaths,
  root: string,
  signal: AbortSignal,
): Promise<RestoreReport> {
  const inBuilding = (path: string): string => join(root, relative(home, path))
  const catalogue = await Catalogue.open(root, 'flexmesh restore')
  try {
    const { root: before, at } = await writeContent(file, passphrase, root, catalogue, signal)
    await readHomeVersion({ ...target, version: inBuilding(target.version) })
    await HomeMark.declareCopied(catalogue)
    const paths = { ...target, institution: inBuilding(target.institution) }
    const institutionKey = await institutionFileOf(paths)
    if (institutionKey?.startsWith(before + sep) === true)
      await saveInstitutionFile(paths, join(home, relative(before, institutionKey)))
    const envelope = await catalogue.get('rosters', rosterKey(0))
    const charter = envelope === undefined ? undefined : openCharter(envelope).charter
    if (charter !== undefined) {
      const into = { root, publicModel: inBuilding(target.publicModel) }
      await copyPublicModel(charter, into, { publicModel, replay, onCopied, signal })
    }
    const peerId = await readKeyId(inBuilding(target.key))
    return { home, peerId, at, consortium: charter?.name ?? null }
  } finally {
    await catalogue.close()
  }
}

/** Write the records of a backup into a folder. @returns where the home was, and when. */
async function writeContent(
  file: string,
  passphrase: string,
  root: string,
  catalogue: Catalogue,
  signal: AbortSignal,
): Promise<{ root: string; at: number }> {
  let home: { root: string; at: number } | undefined
  let batch: [string, Uint8Array][] = []
  let batched = 0
  const flush = async (): Promise<void> => {
    await catalogue.writeSnapshot(batch)
    batch = []
    batched = 0
  }
  for await (const { head, body } of readRecords(opened(file, passphrase, signal))) {
    if (head.type === 'home') home = head
    else if (head.type === 'file') {
      const path = resolve(root, head.path)
      await ensurePrivateDir(dirname(path))
      await writeHashedFile(path, body, signal)
    } else if (head.type === 'entry') {
      const parts: Uint8Array[] = []
      for await (const part of body) parts.push(part)
      batch.push([head.key, concatBytes(...parts)])
      batched += head.size
      if (batched >= BATCH_BYTES) await flush()
    }
  }
  await flush()
  if (home === undefined) throw new FormatError('truncated', 'backup: it does not name its home')
  return home
}

/** Copy the files that the charter names into the blobs of the home, and compare each with its digest. */
async function copyPublicModel(
  { publicModel: chartered, name: consortium }: Charter,
  into: { readonly root: string; readonly publicModel: string },
  options: Pick<RestoreRequest, 'publicModel' | 'replay' | 'onCopied'> & { readonly signal: AbortSignal },
): Promise<void> {
  const { publicModel: dir, replay: given, onCopied, signal } = options
  if (dir === undefined) {
    throw new InputError(
      'usage',
      `give --public-model DIR with the public model of "${consortium}", which a backup does not hold; the folder public-model in the home of any member will do`,
    )
  }
  const replay = given ?? (await replayOf(dir))
  const sources = [
    ...modelFiles(await openPublicModel(dir)),
    { role: 'replay' as const, name: replayName(replay), path: replay },
  ]
  const blobs = await BlobStore.open(into.root)
  const total = chartered.files.reduce((sum, { size }) => sum + size, 0)
  let done = 0
  for (const { role, name, sha256, size } of chartered.files) {
    const source = sources.find((one) => one.role === role && one.name === name)
    if (source === undefined) {
      throw new InputError('mismatch', `${dir} has no ${name}, which the charter of "${consortium}" names`)
    }
    const copied = await blobs.putFile(source.path, signal, (bytes) => onCopied?.(done + bytes, total))
    if (copied.sha256 !== sha256) {
      throw new InputError(
        'mismatch',
        `${source.path} is not the ${basename(name)} of the charter of "${consortium}": its digest differs; give the folder public-model of another member`,
      )
    }
    done += size
  }
  await installPublicModel(chartered.files, into.publicModel, ({ sha256 }) => blobs.path(sha256), signal)
}
