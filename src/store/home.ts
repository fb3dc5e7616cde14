/** The node's home folder: the paths in it, and its settings. Knows nothing about what is done with them. */

import { chmod, readdir, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { fromUtf8 } from '../lib/bytes.ts'
import { ownCommand } from '../lib/command-line.ts'
import { FormatError, InputError } from '../lib/errors.ts'
import { Fields } from '../lib/fields.ts'
import {
  ensurePrivateDir,
  isOpenToOthers,
  mapDiskErrors,
  PRIVATE_DIR_MODE,
  pathExists,
  readFileBounded,
  writeFileAtomic,
} from '../lib/files.ts'
import { readHomeVersion } from './home-version.ts'

export interface HomePaths {
  readonly root: string
  readonly key: string
  /** A node key that the seat has not named yet. */
  readonly newKey: string
  /** Where the institution key lies, if the home does not hold it. */
  readonly institution: string
  readonly settings: string
  /** Version of the layout of the folder. */
  readonly version: string
  /** Options of commands, which the operator writes. */
  readonly configuration: string
  readonly publicModel: string
  readonly training: string
  readonly control: string
  readonly apiKey: string
  /** Digests of the keys that the operator has made. */
  readonly apiKeys: string
  /** What the API has served, by key and day. */
  readonly apiUsage: string
  /** Folder of the egress ledger. */
  readonly egress: string
  /** Digests of the sessions of the dashboard. */
  readonly dashboardSessions: string
  /** Exists while the node waits for a founder's approval. */
  readonly application: string
}

export interface Settings {
  /** Name under which this node applies for membership. */
  readonly institution: string
  /** Multiaddrs that the node listens on. */
  readonly listen: readonly string[]
  /** Multiaddrs of members, learned from an invitation or a connection. */
  readonly bootstrap: readonly string[]
  readonly mdns: boolean
  /** Maximum epsilon of experts of other members, in millionths; absent: no guarantee is asked for. */
  readonly maxEpsilonMicro?: number
}

/** The configuration file in the home folder. */
export const CONFIG_NAME = 'flexmesh.toml'
const MAX_SETTINGS_BYTES = 64 * 1024
const MAX_LISTEN = 8
/** Maximum number of addresses of members in settings.json. */
export const MAX_BOOTSTRAP = 64

/**
 * Maximum bytes of a home folder's path. The path of a socket has at most 103 bytes on macOS and 107 on Linux, and the
 * system cuts a longer one without an error.
 */
const MAX_ROOT_BYTES = 103 - '/control.sock'.length

/** @throws InputError `usage` for a path that is too long for the control socket in the folder. */
export function homePaths(root: string): HomePaths {
  const bytes = Buffer.byteLength(root)
  if (bytes > MAX_ROOT_BYTES) {
    throw new InputError(
      'usage',
      `the path of the home folder has ${bytes} bytes, at most ${MAX_ROOT_BYTES} are possible because a socket lies in it; choose a shorter --home, got ${root}`,
    )
  }
  return {
    root,
    key: join(root, 'key.json'),
    newKey: join(root, 'key.json.new'),
    institution: join(root, 'institution.json'),
    settings: join(root, 'settings.json'),
    version: join(root, 'version'),
    configuration: join(root, CONFIG_NAME),
    publicModel: join(root, 'public-model'),
    training: join(root, 'training'),
    control: join(root, 'control.sock'),
    apiKey: join(root, 'api-key'),
    apiKeys: join(root, 'api-keys.json'),
    apiUsage: join(root, 'api-usage.json'),
    egress: join(root, 'egress'),
    dashboardSessions: join(root, 'dashboard-sessions.json'),
    application: join(root, 'application.json'),
  }
}

/**
 * Create the home folder, or take an existing folder for it. An empty folder that others may enter becomes private.
 * @throws InputError `exists` if the folder holds a node, `permissions` if others may enter it and it is not ours
 * alone to close.
 */
export async function claimHome(paths: HomePaths): Promise<void> {
  const { root } = paths
  await ensurePrivateDir(root)
  if (await pathExists(paths.key)) throw new InputError('exists', `${root} holds a node already`)
  if (!(await isOpenToOthers(root))) return
  const [{ uid }, entries] = await mapDiskErrors(root, () => Promise.all([stat(root), readdir(root)]))
  if (entries.length > 0 || uid !== process.geteuid?.()) throw openToOthers(root)
  await mapDiskErrors(root, () => chmod(root, PRIVATE_DIR_MODE))
}

function openToOthers(root: string): InputError {
  return new InputError(
    'permissions',
    `${root} can be entered by other users of this machine; choose a new folder for --home, or run: chmod 700 ${root}`,
  )
}

/** @throws InputError `no-home`, `newer-home`, `permissions`, `usage` for settings that cannot be read. */
export async function loadSettings(paths: HomePaths): Promise<Settings> {
  if (!(await pathExists(paths.settings))) {
    throw new InputError(
      'no-home',
      `${paths.root} holds no node; run ${ownCommand('init', '--institution', 'NAME')} first`,
    )
  }
  if (await isOpenToOthers(paths.root)) throw openToOthers(paths.root)
  await readHomeVersion(paths)
  const bytes = await readFileBounded(paths.settings, MAX_SETTINGS_BYTES)
  try {
    return decodeSettings(bytes)
  } catch (error) {
    if (!(error instanceof FormatError || error instanceof SyntaxError)) throw error
    throw new InputError('usage', `${paths.settings}: ${error.message}; correct the file`, {}, error)
  }
}

function decodeSettings(bytes: Uint8Array): Settings {
  const fields = new Fields(JSON.parse(fromUtf8(bytes)), 'settings.json')
  const settings: Settings = {
    institution: fields.text('institution', 100),
    listen: fields.list('listen', MAX_LISTEN, textItem),
    bootstrap: fields.list('bootstrap', MAX_BOOTSTRAP, textItem),
    mdns: fields.bool('mdns'),
    ...(fields.has('maxEpsilonMicro')
      ? { maxEpsilonMicro: fields.uint('maxEpsilonMicro', Number.MAX_SAFE_INTEGER, 1) }
      : {}),
  }
  fields.end()
  return settings
}

function textItem(item: unknown, title: string): string {
  if (typeof item === 'string') return item
  throw new FormatError('bad-field', `${title}: expected text, got ${typeof item}`)
}

export async function saveSettings(paths: HomePaths, settings: Settings): Promise<void> {
  await ensurePrivateDir(paths.root)
  await writeFileAtomic(paths.settings, `${JSON.stringify(settings, null, 2)}\n`)
}
