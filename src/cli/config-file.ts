/**
 * The configuration file: TOML with the options of all commands at its top, and one table for each command that may be
 * configured. Finds the line of every value, for messages. Does not know where the values go.
 */
import { parse, TomlError } from 'smol-toml'
import { fromUtf8 } from '../lib/bytes.ts'
import { FlexMeshError, InputError } from '../lib/errors.ts'
import { readFileBounded } from '../lib/files.ts'

const MAX_FILE_BYTES = 64 * 1024

export interface ConfiguredValue {
  readonly key: string
  /** As TOML has it: text, number, boolean, date, list or table. */
  readonly value: unknown
  /** Where the value is, for messages: `/home/a/flexmesh.toml, line 3`. */
  readonly place: string
}

export interface ConfigFile {
  readonly path: string
  /** Values by table; those before the first table are in the table `''`. */
  readonly tables: ReadonlyMap<string, readonly ConfiguredValue[]>
  /** Where a table begins, for messages. */
  placeOf(table: string): string
}

/** @throws InputError `not-found`, `permissions`, `too-large`; `usage` for a file that is not TOML. */
export async function readConfigFile(path: string): Promise<ConfigFile> {
  const content = textOf(path, await readFileBounded(path, MAX_FILE_BYTES))
  const lines = linesOf(content)
  const place = (table: string, key?: string): string => {
    const line = lines.find((one) => one.table === table && one.key === key)?.line
    return line === undefined ? path : `${path}, line ${line}`
  }
  const entryOf = (table: string, key: string, value: unknown): ConfiguredValue => {
    const own = place(table, key)
    return { key, value, place: own === path ? place(table) : own }
  }
  const tables = new Map<string, ConfiguredValue[]>([['', []]])
  for (const [name, value] of Object.entries(parsed(path, content))) {
    if (isTable(value))
      tables.set(
        name,
        Object.entries(value).map(([key, inner]) => entryOf(name, key, inner)),
      )
    else tables.get('')?.push(entryOf('', name, value))
  }
  return { path, tables, placeOf: (table) => place(table) }
}

function textOf(path: string, bytes: Uint8Array): string {
  try {
    return fromUtf8(bytes)
  } catch (error) {
    if (!(error instanceof FlexMeshError)) throw error
    throw new InputError('usage', `${path}: expected text in UTF-8`, {}, error)
  }
}

function parsed(path: string, content: string): Record<string, unknown> {
  try {
    return parse(content)
  } catch (error) {
    if (!(error instanceof TomlError)) throw error
    // The further lines of the message show the place, which the first names.
    const [reason = ''] = error.message.split('\n')
    throw new InputError(
      'usage',
      `${path}, line ${error.line}: ${reason.replace(/^Invalid TOML document: /, '')}`,
    )
  }
}

function isTable(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value) && !(value instanceof Date)
}

interface Line {
  /** From 1. */
  readonly line: number
  readonly table: string
  /** Undefined for the header of a table. */
  readonly key?: string
}

/** Lines with the header of a table or the beginning of a value. Knows only the forms that people write by hand. */
function linesOf(content: string): Line[] {
  const found: Line[] = []
  let table = ''
  for (const [i, text] of content.split('\n').entries()) {
    const line = i + 1
    const header = /^\s*\[\s*["']?([^\]"']+?)["']?\s*\]/.exec(text)?.[1]
    if (header !== undefined) {
      table = header
      found.push({ line, table })
      continue
    }
    const [, outer, key] = /^\s*(?:([\w-]+)\s*\.\s*)?["']?([\w-]+)["']?\s*=/.exec(text) ?? []
    if (key !== undefined) found.push({ line, table: outer ?? table, key })
  }
  return found
}
