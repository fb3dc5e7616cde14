/** Paths given to `evaluate`, each one domain with a name of its own. Knows no text. */
import { stat } from 'node:fs/promises'
import { basename, dirname, resolve } from 'node:path'
import { PUBLIC_TEXT } from '../commands/evaluate.ts'
import { InputError } from '../lib/errors.ts'
import { mapDiskErrors, pathExists } from '../lib/files.ts'

export interface DomainPath {
  readonly name: string
  readonly path: string
}

/** Column that is no domain. */
export const MACRO = 'macro'
/** Longest name: what a column of a table bears. */
const MAX_NAME = 40
const ENDINGS = /\.(txt|md|jsonl|jsonl\.gz|csv|parquet)$/i

/**
 * Each argument is PATH or NAME=PATH. A domain without a name is called as its file or folder, and with
 * the folder above where several are called so.
 * @throws InputError `not-found`; `usage` for a name that is taken or cannot be printed.
 */
export async function domainsOf(
  given: readonly string[],
  training: string | undefined,
): Promise<DomainPath[]> {
  const domains = await Promise.all(given.map(domainOf))
  const short = domains.map(({ path, name }) => name ?? called(path, basename(path)))
  const reserved = [PUBLIC_TEXT, MACRO, ...(training === undefined ? [] : [training])]
  const names = domains.map(({ path, name }, i) => {
    const wanted = short[i] as string
    const clashes = reserved.includes(wanted) || short.indexOf(wanted) !== short.lastIndexOf(wanted)
    return name === undefined && clashes
      ? called(path, `${basename(dirname(path))}/${basename(path)}`)
      : wanted
  })
  return domains.map(({ path }, i) => {
    const name = names[i] as string
    const first = names.indexOf(name)
    if (reserved.includes(name) || first < i) {
      const other = first < i ? `${domains[first]?.path} as well as ${path}` : 'another column'
      throw new InputError(
        'usage',
        `--data: "${name}" would be the name of ${other}; name them apart, as in --data NAME=PATH`,
      )
    }
    return { name, path }
  })
}

async function domainOf(argument: string): Promise<{ path: string; name?: string; folder: boolean }> {
  const at = argument.indexOf('=')
  const named = at > 0 && !(await pathExists(argument))
  const path = resolve(named ? argument.slice(at + 1) : argument)
  const folder = (await mapDiskErrors(path, () => stat(path))).isDirectory()
  if (!named) return { path, folder }
  const name = argument.slice(0, at).trim()
  if (name === '' || [...name].length > MAX_NAME || /\p{C}/u.test(name)) {
    throw new InputError(
      'usage',
      `--data ${JSON.stringify(argument)}: expected a name of 1 to ${MAX_NAME} printable characters before "="`,
    )
  }
  return { path, folder, name }
}

/** A name made of a path: no ending, nothing unprintable, not too long. */
function called(path: string, name: string): string {
  const printable = (ENDINGS.test(path) ? name.replace(ENDINGS, '') : name).replaceAll(/\p{C}/gu, '?')
  const characters = [...printable]
  return characters.length <= MAX_NAME ? printable : `${characters.slice(0, MAX_NAME - 1).join('')}…`
}
