/**
 * The commands `service print` and `service install`: run the node of this home folder as a service of systemd. They
 * write at most one file and start nothing.
 */

import { chmod, realpath, stat } from 'node:fs/promises'
import { userInfo } from 'node:os'
import { extname, join, resolve } from 'node:path'
import { fileURLToPath } from 'node:url'
import { flag, option, path, text, withDefault } from '../commands/parameters.ts'
import { ownCommand } from '../lib/command-line.ts'
import { InputError } from '../lib/errors.ts'
import { mapDiskErrors, pathExists, readFileBounded, writeFileAtomic } from '../lib/files.ts'
import { homePaths } from '../store/home.ts'
import type { CommandContext } from './context.ts'
import { localCommand } from './local-command.ts'
import { serviceUnit, stateFolder } from './service-unit.ts'

const MAX_NAME = 31
const UNIT_FOLDER = '/etc/systemd/system'
const UNIT_FILE_MODE = 0o644
/** Bytes of an existing unit that are read, to see whether it would change. */
const MAX_UNIT_BYTES = 1 << 16

const NAME = withDefault(option('name', 'name of the service (default flexmesh)', text(MAX_NAME)), 'flexmesh')

export const SERVICE_PRINT = localCommand({
  name: 'service print',
  usage: 'service print [--name NAME] [--passphrase-file FILE]',
  parameters: { name: NAME },
  async work(context, { name }) {
    const unit = await unitOf(context, name)
    context.output.result({ unit }, unit.trimEnd().split('\n'))
  },
})

export const SERVICE_INSTALL = localCommand({
  name: 'service install',
  usage: 'service install [--name NAME] [--passphrase-file FILE] [--folder DIR] [--replace]',
  parameters: {
    name: NAME,
    folder: withDefault(option('folder', `folder of the units (default ${UNIT_FOLDER})`, path), UNIT_FOLDER),
    replace: flag('replace', 'replace a unit of this name that differs'),
  },
  async work(context, { name, folder, replace }) {
    const unit = await unitOf(context, name)
    const file = join(folder, `${name}.service`)
    const isNew = !(await pathExists(file))
    if (!isNew && !replace && (await textOf(file)) !== unit) {
      throw new InputError(
        'exists',
        `${file} exists and differs; look at both (${ownCommand('service', 'print')}), then add --replace or choose another --name`,
      )
    }
    await writeUnit(file, unit)
    context.output.result({ file, isNew }, [
      `wrote ${file}`,
      `next: systemctl daemon-reload && systemctl enable --now ${name}`,
      `then: journalctl -u ${name} -f`,
    ])
  },
})

/** @throws InputError `not-found` if the home folder has no node; `usage`. */
async function unitOf({ home, passphraseFile }: CommandContext, name: string): Promise<string> {
  const here = fileURLToPath(import.meta.url)
  const program = [process.execPath, await realpath(resolve(here, `../../main${extname(here)}`))]
  const passphrase = passphraseFile === undefined ? {} : { passphraseFile: resolve(passphraseFile) }
  // A folder that systemd creates and gives to a user of its own need not exist before.
  if (home === stateFolder(name)) return serviceUnit({ name, program, home, ...passphrase })
  if (!(await pathExists(homePaths(home).key))) {
    throw new InputError(
      'not-found',
      `home: expected a node in ${home}, found no key; create it with ${ownCommand('init', '--institution', 'NAME')}`,
    )
  }
  const { uid } = await mapDiskErrors(home, () => stat(home))
  const own = userInfo()
  return serviceUnit({
    name,
    program,
    home: await realpath(home),
    user: uid === own.uid ? own.username : String(uid),
    ...passphrase,
  })
}

/** @throws InputError `permissions`, `not-found`, `io`. */
async function writeUnit(file: string, unit: string): Promise<void> {
  try {
    await writeFileAtomic(file, unit)
    // The process creates files for its owner only, but units are public.
    await mapDiskErrors(file, () => chmod(file, UNIT_FILE_MODE))
  } catch (error) {
    if (!(error instanceof InputError && error.code === 'permissions')) throw error
    const { message, fields } = error
    throw new InputError(
      'permissions',
      `${message}; run the command as root and name the home folder with --home`,
      fields,
      error,
    )
  }
}

async function textOf(file: string): Promise<string> {
  return Buffer.from(await readFileBounded(file, MAX_UNIT_BYTES)).toString()
}
