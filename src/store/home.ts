/** The node's home folder: the paths in it, and its settings. Knows nothing about what is done with them. */
import { join } from 'node:path'
import { fromUtf8 } from '../lib/bytes.ts'
import { InputError } from '../lib/errors.ts'
import { Fields } from '../lib/fields.ts'
import { ensurePrivateDir, pathExists, readFileBounded, writeFileAtomic } from '../lib/files.ts'

export interface HomePaths {
  readonly root: string
  readonly key: string
  readonly settings: string
  readonly publicModel: string
  readonly training: string
  readonly control: string
  readonly apiKey: string
}

export interface Settings {
  /** Name under which this node applies for membership. */
  readonly institution: string
  /** Multiaddrs that the node listens on. */
  readonly listen: readonly string[]
  /** Multiaddrs of members, learned from an invitation or a connection. */
  readonly bootstrap: readonly string[]
  readonly mdns: boolean
}

const MAX_SETTINGS_BYTES = 64 * 1024

export function homePaths(root: string): HomePaths {
  return {
    root,
    key: join(root, 'key.json'),
    settings: join(root, 'settings.json'),
    publicModel: join(root, 'public-model'),
    training: join(root, 'training'),
    control: join(root, 'control.sock'),
    apiKey: join(root, 'api-key'),
  }
}

/** @throws InputError `no-home`. */
export async function loadSettings(paths: HomePaths): Promise<Settings> {
  if (!(await pathExists(paths.settings))) {
    throw new InputError(
      'no-home',
      `${paths.root} holds no node; run "flexmesh init --institution NAME" first`,
    )
  }
  const fields = new Fields(
    JSON.parse(fromUtf8(await readFileBounded(paths.settings, MAX_SETTINGS_BYTES))),
    'settings.json',
  )
  const settings: Settings = {
    institution: fields.text('institution', 100),
    listen: fields.list('listen', 8, (item) => String(item)),
    bootstrap: fields.list('bootstrap', 64, (item) => String(item)),
    mdns: fields.bool('mdns'),
  }
  fields.end()
  return settings
}

export async function saveSettings(paths: HomePaths, settings: Settings): Promise<void> {
  await ensurePrivateDir(paths.root)
  await writeFileAtomic(paths.settings, `${JSON.stringify(settings, null, 2)}\n`)
}
