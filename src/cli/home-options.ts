/**
 * The options that lead another command to the home folder of this one, and to the passphrase of its key, for commands
 * that the program prints. Does not know these commands.
 */
import { resolve } from 'node:path'
import type { Invocation } from '../commands/parameters.ts'
import { DEFAULT_HOME } from './context.ts'

/** Files that only this process has open, such as a pipe of the shell. */
const OPEN_FILE = /^\/(?:dev|proc)\//

/**
 * Paths are absolute, because the next command may be run in another folder. The home is left out if it is the default.
 * A configuration file and a passphrase file are left out if the command line does not name them: the next command finds
 * them where this one did.
 * @returns words of a command line
 */
export function homeOptionsOf({ values, configured }: Invocation): string[] {
  const named = (name: string): string | undefined => {
    const value = values[name]
    return typeof value === 'string' && configured?.has(name) !== true ? resolve(value) : undefined
  }
  const home = typeof values['home'] === 'string' ? resolve(values['home']) : DEFAULT_HOME
  const config = named('config')
  const passphraseFile = named('passphrase-file')
  return [
    ...(home === DEFAULT_HOME ? [] : ['--home', home]),
    ...(config === undefined ? [] : ['--config', config]),
    ...(passphraseFile === undefined || OPEN_FILE.test(passphraseFile)
      ? []
      : ['--passphrase-file', passphraseFile]),
  ]
}
