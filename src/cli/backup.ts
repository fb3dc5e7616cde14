/**
 * The commands `backup` and `restore`. A running node writes the backup itself, because it alone may read its catalogue; the
 * home of a stopped one is read here, without its key and without an engine.
 */

import { flag, option, path, positional, requiredOption } from '../commands/parameters.ts'
import { bar, day, megabytes, timeOfDay } from '../commands/terminal.ts'
import { ownCommand } from '../lib/command-line.ts'
import { Fields } from '../lib/fields.ts'
import type { BackupReport } from '../node/backup.ts'
import type { FlexMeshNode } from '../node/node.ts'
import type { ControlHandler } from '../serving/control.ts'
import { callControl, isRunning } from '../serving/control-client.ts'
import { homePaths, loadSettings } from '../store/home.ts'
import { unixNow } from './context.ts'
import { localCommand } from './local-command.ts'
import { readPassphrase } from './passphrase.ts'

/** Name of the request at the control socket of the node. */
export const WRITE_BACKUP = 'write-backup'
const MAX_PATH = 4096
const MAX_PASSPHRASE = 4096

const PASSPHRASE_FILE = requiredOption(
  'backup-passphrase-file',
  'file with the passphrase of the backup, at least 12 characters; without it nobody can read the backup',
  path,
)

export const BACKUP = localCommand({
  name: 'backup',
  usage: 'backup FILE --backup-passphrase-file FILE [--trainings]',
  parameters: {
    file: positional(path, `name the file to write, as in ${ownCommand('backup', 'flexmesh.backup')}`),
    passphraseFile: PASSPHRASE_FILE,
    trainings: flag('trainings', 'include trainings, with the private text that they prepared'),
  },
  async work({ home, output, signal }, { file, passphraseFile, trainings }) {
    const passphrase = await readPassphrase(passphraseFile, signal)
    const paths = homePaths(home)
    await loadSettings(paths)
    const request = { file, passphrase, trainings }
    const report = (await isRunning(paths.control))
      ? ((await callControl(paths.control, WRITE_BACKUP, request, { signal })) as BackupReport)
      : await backupStopped()
    output.result(report, [
      `written and read back: ${report.file}, ${(report.bytes / 1e6).toFixed(2)} MB, encrypted`,
      `${report.entries} entries of the catalogue, ${report.files} files${trainings ? '' : '; without trainings'}`,
      'it holds the keys of this home: keep it and its passphrase in two places',
    ])

    async function backupStopped(): Promise<BackupReport> {
      const [{ writeBackup }, { Catalogue }] = await Promise.all([
        import('../node/backup.ts'),
        import('../store/catalogue.ts'),
      ])
      const catalogue = await Catalogue.open(paths.root, 'flexmesh backup')
      try {
        return await writeBackup({ paths, catalogue, now: unixNow }, request, signal)
      } finally {
        await catalogue.close()
      }
    }
  },
})

/** Writes backups of a running node for the command `backup`. */
export function backupHandler({ paths, catalogue, egress, now }: FlexMeshNode): ControlHandler {
  return async function* (request, signal) {
    const fields = new Fields(request, 'backup')
    const given = {
      file: fields.text('file', MAX_PATH),
      passphrase: fields.text('passphrase', MAX_PASSPHRASE),
      trainings: fields.bool('trainings'),
    }
    fields.end()
    const { writeBackup } = await import('../node/backup.ts')
    return writeBackup({ paths, catalogue, holdEgress: () => egress.hold(), now }, given, signal)
  }
}

export const RESTORE = localCommand({
  name: 'restore',
  usage: 'restore FILE --home NEW --backup-passphrase-file FILE [--public-model DIR] [--replay FILE]',
  parameters: {
    file: positional(path, 'name a file that "flexmesh backup" has written'),
    passphraseFile: PASSPHRASE_FILE,
    publicModel: option(
      'public-model',
      'folder with the public model of the consortium, which the backup does not hold; every file is compared with the charter',
      path,
    ),
    replay: option('replay', 'public text of the consortium (default: replay.jsonl in the folder)', path),
  },
  async work({ home, output, signal }, { passphraseFile, ...request }) {
    const { restoreBackup } = await import('../node/restore-backup.ts')
    const passphrase = await readPassphrase(passphraseFile, signal)
    const onCopied = (done: number, total: number): void =>
      output.progress(`copying the public model ${bar(done, total)} ${megabytes(done, total)}`)
    const report = await restoreBackup({ ...request, home, passphrase, onCopied }, signal)
    const { peerId, at, consortium } = report
    output.result(report, [
      `restored ${peerId} of ${day(at)}, ${timeOfDay(at)}, in ${home}`,
      consortium === null
        ? `next: ${ownCommand('join', 'INVITE')} or ${ownCommand('consortium', 'create')}`
        : `it signs nothing until a member of "${consortium}" has told what it holds, and fetches the packages again`,
      'the old home must never run again: two nodes with one key contradict each other',
      ...(consortium === null ? [] : [`next: ${ownCommand('start')}`]),
    ])
  },
})
