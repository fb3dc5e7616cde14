/** Names the domains of `evaluate`: one for each path, all different. Does not read text. */
import { stat } from 'node:fs/promises'
import { basename, dirname, resolve } from 'node:path'
import { textKind } from '../data/file-kinds.ts'
import { InputError } from '../lib/errors.ts'
import { mapDiskErrors, pathExists } from '../lib/files.ts'
import { MACRO, PUBLIC_TEXT } from './evaluation-report.ts'

export interface DomainPath {
  readonly name: string
  readonly path: string
}

/** Characters of a name: it heads a column of a table. */
const MAX_NAME = 40

/**
 * Each argument is PATH or NAME=PATH. A domain without a name gets that of its file or folder, together with the
 * parent folder if that name is taken.
 * @param training name of a training that is scored too, which no domain may have
 * @throws InputError `not-found`; `usage` for a name that is taken or cannot be printed.
 */
export async function domainsOf(
  given: readonly string[],
  training: string | undefined,
): Promise<DomainPath[]> {
  const domains = await Promise.all(given.map(domainOf))
  const short = domains.map(({ path, name }) => name ?? printable(path, basename(path)))
  const reserved = [PUBLIC_TEXT, MACRO, ...(training === undefined ? [] : [training])]
  const names = domains.map(({ path, name }, i) => {
    const wanted = short[i] as string
    const clashes = reserved.includes(wanted) || short.indexOf(wanted) !== short.lastIndexOf(wanted)
    return name === undefined && clashes
      ? printable(path, `${basename(dirname(path))}/${basename(path)}`)
      : wanted
  })
  return domains.map(({ path }, i) => {
    const name = names[i] as string
    const first = names.indexOf(name)
    if (reserved.includes(name) || first < i) {
      const other = first < i ? `${domains[first]?.path} as well as ${path}` : 'another column'
      throw new InputError(
        'usage',
        `--data: "${name}" would be the name of ${other}; give them different names, as in --data NAME=PATH`,
      )
    }
    return { name, path }
  })
}

async function domainOf(argument: string): Promise<{ path: string; name?: string }> {
  const at = argument.indexOf('=')
  const isNamed = at > 0 && !(await pathExists(argument))
  const path = resolve(isNamed ? argument.slice(at + 1) : argument)
  await mapDiskErrors(path, () => stat(path))
  if (!isNamed) return { path }
  const name = argument.slice(0, at).trim()
  if (name === '' || [...name].length > MAX_NAME || /\p{C}/u.test(name)) {
    throw new InputError(
      'usage',
      `--data ${JSON.stringify(argument)}: expected a name of 1 to ${MAX_NAME} printable characters before "="`,
    )
  }
  return { path, name }
}

/** The name of a path without its extension, in printable characters, shortened to fit a column. */
function printable(path: string, name: string): string {
  const { extension } = textKind(path) ?? { extension: '' }
  const shown = name.slice(0, name.length - extension.length).replaceAll(/\p{C}/gu, '?')
  const characters = [...shown]
  return characters.length <= MAX_NAME ? shown : `${characters.slice(0, MAX_NAME - 1).join('')}…`
}
