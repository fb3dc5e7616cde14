/** Translates errors of LevelDB into errors for people: the home is in use, the disk is full, access is denied. */
import { InputError } from '../lib/errors.ts'
import type { Holder } from './home-holder.ts'

export function openError(dir: string, error: unknown, holder: Holder | undefined): InputError {
  const text = textOf(error)
  if (text.includes('LEVEL_LOCKED')) {
    const who =
      holder === undefined ? 'another flexmesh process' : `"${holder.command}" (process ${holder.pid})`
    return new InputError(
      'home-in-use',
      `${dir} is in use by ${who}; wait until it ends, or choose another --home`,
      { dir, ...(holder === undefined ? {} : { pid: holder.pid, command: holder.command }) },
      error,
    )
  }
  if (/permission denied|read-only/i.test(text)) {
    return new InputError('permissions', `no permission for ${dir}; check its owner and mode`, { dir }, error)
  }
  return writeError(error)
}

export function writeError(error: unknown): InputError {
  const text = textOf(error)
  if (/no space left|disk quota/i.test(text)) {
    return new InputError(
      'disk-full',
      'no space left to write the catalogue; free some space and try again, nothing was lost',
      {},
      error,
    )
  }
  return new InputError('io', `the catalogue cannot be read or written: ${text.slice(0, 200)}`, {}, error)
}

/** Codes and messages of an error and of its causes. */
function textOf(error: unknown): string {
  if (!(error instanceof Error)) return String(error)
  const code = 'code' in error ? `${String(error.code)} ` : ''
  return `${code}${error.message}${error.cause === undefined ? '' : ` ${textOf(error.cause)}`}`
}
