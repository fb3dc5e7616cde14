/**
 * Downloads packages from the registries of Debian and npm once into a folder, and unpacks them without installing
 * them. Needs apt-get with its package lists, dpkg-deb, npm and tar, but not root. Does not know what packages hold.
 */
import { execFile } from 'node:child_process'
import { createHash } from 'node:crypto'
import { createReadStream } from 'node:fs'
import { mkdir, mkdtemp, readdir, rename, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { pipeline } from 'node:stream/promises'
import { promisify } from 'node:util'
import { hasErrno, InputError } from '../../src/lib/errors.ts'
import type { Package } from './sources.ts'

export interface FetchedPackage extends Package {
  /** Path of the archive, and the version in its name. */
  readonly path: string
  readonly version: string
  readonly sha256: string
}

/**
 * The archive of a package in `dir`; downloads it if it is absent. An interrupted download leaves no file under the
 * archive's name.
 * @throws InputError `not-found` if a program or the package is missing, with what to do next.
 */
export async function fetchPackage(
  wanted: Package,
  dir: string,
  say: (line: string) => void,
): Promise<FetchedPackage> {
  await mkdir(dir, { recursive: true })
  let found = await archiveOf(wanted, dir)
  if (found === undefined) {
    say(`downloading ${wanted.name} from ${wanted.registry}`)
    const partial = await mkdtemp(join(dir, '.partial-'))
    try {
      await (wanted.registry === 'debian' ? downloadDebian(wanted, partial) : downloadNpm(wanted, partial))
      const downloaded = await archiveOf(wanted, partial)
      if (downloaded === undefined) {
        throw new InputError(
          'not-found',
          `${wanted.name}: the download ended without an archive; check the network and run again`,
        )
      }
      await rename(join(partial, downloaded), join(dir, downloaded))
      found = downloaded
    } finally {
      await rm(partial, { recursive: true, force: true })
    }
  }
  const path = join(dir, found)
  const hash = createHash('sha256')
  await pipeline(createReadStream(path), hash)
  return { ...wanted, path, version: versionOf(wanted, found), sha256: hash.digest('hex') }
}

/** Unpacks into `target`, a new folder. Returns the root of the package's files. */
export async function unpackPackage({ registry, path }: FetchedPackage, target: string): Promise<string> {
  await mkdir(target, { recursive: true })
  if (registry === 'debian') {
    await run('dpkg-deb', ['--extract', path, target], 'install the package dpkg')
    return target
  }
  await run('tar', ['-xzf', path, '-C', target, '--strip-components=1'], 'install the package tar')
  return target
}

function downloadDebian({ name }: Package, dir: string): Promise<void> {
  return run(
    'apt-get',
    ['download', '-qq', name],
    `apt-get cannot download ${name}: run "apt-get update" as root, and use a Debian release that has it (12, bookworm)`,
    dir,
  )
}

function downloadNpm({ name, version }: Package, dir: string): Promise<void> {
  return run(
    'npm',
    ['pack', '--silent', '--ignore-scripts', `${name}@${version}`],
    `npm cannot download ${name}@${version}: check the network and "npm config get registry"`,
    dir,
  )
}

/** How an archive's name starts. apt-get writes the epoch's colon as %3a. */
function archivePrefix({ registry, name, version }: Package): string {
  return registry === 'debian' ? `${name}_` : `${name.replace('@', '').replace('/', '-')}-${version}`
}

async function archiveOf(wanted: Package, dir: string): Promise<string | undefined> {
  const ending = wanted.registry === 'debian' ? '.deb' : '.tgz'
  const names = await readdir(dir)
  return names.sort().findLast((name) => name.startsWith(archivePrefix(wanted)) && name.endsWith(ending))
}

function versionOf({ registry, version }: Package, archive: string): string {
  return registry === 'npm' ? version : decodeURIComponent(archive.split('_')[1] ?? '')
}

async function run(command: string, args: readonly string[], advice: string, cwd = '.'): Promise<void> {
  try {
    await promisify(execFile)(command, args, { cwd, maxBuffer: 2 ** 24 })
  } catch (cause) {
    if (hasErrno(cause, 'ENOENT')) {
      throw new InputError(
        'not-found',
        `${command} is not installed; the corpora are built from Debian and npm packages, on a machine with apt-get, dpkg-deb, npm and tar`,
        {},
        cause,
      )
    }
    const said = String((cause as { stderr?: unknown }).stderr ?? '').trim()
    throw new InputError('not-found', `${advice}${said === '' ? '' : ` (${said})`}`, {}, cause)
  }
}
