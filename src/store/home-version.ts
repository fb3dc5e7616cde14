/**
 * The version of the layout of a home folder, in the file `version`. A folder of an earlier version is upgraded by the
 * process that holds its lock; a folder of a later version is refused, because this program could destroy what it does
 * not know. Does not know what the files mean.
 */
import { chmod, readdir } from 'node:fs/promises'
import { join } from 'node:path'
import { fromUtf8 } from '../lib/bytes.ts'
import { hasErrno, InputError } from '../lib/errors.ts'
import { mapDiskErrors, PRIVATE_FILE_MODE, readFileBounded, writeFileAtomic } from '../lib/files.ts'

/** Version of the folders that this program creates. */
export const HOME_VERSION = 2
/** Folders of the time before there was a file `version`. */
const FIRST_VERSION = 1
const MAX_BYTES = 64

/** The paths of a home folder that this file uses. */
interface VersionedHome {
  readonly root: string
  /** The file with the version. */
  readonly version: string
}

/** What brings a folder from one version to the next. Each can be repeated after it was interrupted. */
const STEPS: Readonly<Record<number, (paths: VersionedHome) => Promise<void>>> = {
  // Programs of version 1 let LevelDB create files that others could read, if they could enter the folder.
  1: closeCatalogueFiles,
}

/**
 * @throws InputError `newer-home` for a folder of a later version than this program's, `usage` for a file that does not
 * hold a version.
 */
export async function readHomeVersion({ root, version: path }: VersionedHome): Promise<number> {
  let content: string
  try {
    content = fromUtf8(await readFileBounded(path, MAX_BYTES))
  } catch (error) {
    if (error instanceof InputError && error.code === 'not-found') return FIRST_VERSION
    throw error
  }
  const version = /^[1-9]\d{0,5}\n?$/.test(content) ? Number(content) : undefined
  if (version === undefined) {
    throw new InputError(
      'usage',
      `${path}: expected the version of the home folder, a whole number; restore the file from a backup, or write ${HOME_VERSION} into it`,
    )
  }
  if (version > HOME_VERSION) {
    throw new InputError(
      'newer-home',
      `${root} was written by a newer flexmesh: it has version ${version}, and this program knows versions up to ${HOME_VERSION}; install a newer flexmesh`,
      { version, known: HOME_VERSION },
    )
  }
  return version
}

export async function writeHomeVersion({ version }: VersionedHome): Promise<void> {
  await writeFileAtomic(version, `${HOME_VERSION}\n`)
}

/**
 * Bring the folder to the version of this program. To be called by the process that holds the lock of the folder.
 * @returns the version that it had.
 * @throws as `readHomeVersion`; InputError `disk-full`, `permissions`, `io`.
 */
export async function upgradeHome(paths: VersionedHome): Promise<number> {
  const before = await readHomeVersion(paths)
  if (before === HOME_VERSION) return before
  for (let version = before; version < HOME_VERSION; version++) await STEPS[version]?.(paths)
  await writeHomeVersion(paths)
  return before
}

async function closeCatalogueFiles({ root }: VersionedHome): Promise<void> {
  const dir = join(root, 'catalogue')
  await mapDiskErrors(dir, async () => {
    for (const name of await readdir(dir)) {
      await chmod(join(dir, name), PRIVATE_FILE_MODE).catch((error: unknown) => {
        // LevelDB removes files while it runs.
        if (!hasErrno(error, 'ENOENT')) throw error
      })
    }
  })
}
