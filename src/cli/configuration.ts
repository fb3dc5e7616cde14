/**
 * Options of a command from four places. The command line comes first, then environment variables, then the
 * configuration file, then the defaults of the command. Does not know what the options mean.
 */
import { dirname, resolve } from 'node:path'
import type { CommandForm } from '../commands/command.ts'
import { type Invocation, type Option, type ParameterTable, usage } from '../commands/parameters.ts'
import { editDistance } from '../lib/edit-distance.ts'
import { InputError } from '../lib/errors.ts'
import { pathExists } from '../lib/files.ts'
import { homePaths } from '../store/home.ts'
import type { ConfigFile, ConfiguredValue } from './config-file.ts'
import { DEFAULT_HOME, GLOBAL_PARAMETERS } from './context.ts'
import { optionsOf, ownOptionsOf } from './options.ts'

/** Commands that have a table in the file and variables of their own. Other commands read only the common options. */
export const CONFIGURABLE = ['start', 'train'] as const

/** Common options that have no place in a file. */
const NOT_IN_FILES = ['config', 'help', 'json']
/** Common options that have no variable. */
const NOT_IN_ENVIRONMENT = ['help', 'json']

export type Environment = Readonly<Record<string, string | undefined>>
type Value = string | boolean | string[]

/** An option with the value that takes effect. */
export interface Setting {
  /** Without the leading "--". */
  readonly name: string
  /** Undefined for a default. */
  readonly value?: Value
  /** The command line, a variable, or a file with its line; `default` if nothing gives the option. */
  readonly source: string
}

export interface Configuration {
  /** The file that was read; undefined if there is none. */
  readonly file: string | undefined
  /** The options of all commands. */
  readonly common: readonly Setting[]
  /** The command's own options, without the common ones. Empty for commands that are not configurable. */
  readonly own: readonly Setting[]
}

/** The source of options of the command line. */
const COMMAND_LINE = 'command line'
const DEFAULT = 'default'

/**
 * The invocation with the options that the environment and the file give and the command line does not.
 * @throws InputError `usage` for an unknown option or a value that the option cannot have, with variable or file and
 * line; `not-found` for a file that was named and does not exist.
 */
export async function withConfiguration(
  command: CommandForm,
  invocation: Invocation,
  environment: Environment,
): Promise<Invocation> {
  const { common, own } = await configurationOf(command, invocation, environment)
  const given = [...common, ...own].filter(
    ({ source, name }) => source !== COMMAND_LINE && source !== DEFAULT && name !== 'config',
  )
  if (given.length === 0) return invocation
  return {
    ...invocation,
    values: { ...invocation.values, ...Object.fromEntries(given.map(({ name, value }) => [name, value])) },
    configured: new Set(given.map(({ name }) => name)),
  }
}

/** @throws as `withConfiguration`. */
export async function configurationOf(
  command: CommandForm,
  invocation: Invocation,
  environment: Environment,
): Promise<Configuration> {
  const { file, isNamed } = await fileOf(invocation, environment)
  const folder = dirname(file?.path ?? '')
  const commonOptions = optionsOf({ name: '', usage: '', parameters: {} })
  const ownOptions = ownOptionsOf(command)
  const isConfigurable = CONFIGURABLE.some((name) => name === command.name)
  const common: Setting[] = []
  for (const option of commonOptions) {
    // The command's own option of this name hides the common one.
    if (ownOptions.some(({ name }) => name === option.name)) continue
    common.push(
      await settingOf(option, {
        parameters: GLOBAL_PARAMETERS,
        invocation,
        variable: NOT_IN_ENVIRONMENT.includes(option.name) ? undefined : variableOf('', option.name),
        environment,
        file: file?.tables.get(''),
        folder,
      }),
    )
  }
  const own: Setting[] = []
  for (const option of ownOptions) {
    const isGivenByWords = invocation.positionals.length > 0 && takesWords(command, option.name)
    own.push(
      await settingOf(option, {
        parameters: command.parameters,
        invocation,
        variable: isConfigurable && !isGivenByWords ? variableOf(command.name, option.name) : undefined,
        environment,
        file: isConfigurable && !isGivenByWords ? file?.tables.get(command.name) : undefined,
        folder,
      }),
    )
  }
  if (file !== undefined) checkNames(file, isNamed, command, ownOptions, commonOptions)
  return { file: file?.path, common, own: isConfigurable ? own : [] }
}

/** The name of the variable of an option: `FLEXMESH_START_PORT`, or `FLEXMESH_ENGINE` for one of all commands. */
export function variableOf(command: string, option: string): string {
  const words = command === '' ? ['flexmesh', option] : ['flexmesh', command, option]
  return words.join('_').replaceAll('-', '_').toUpperCase()
}

/** @throws InputError `usage`, `not-found`. */
async function fileOf(
  { values }: Invocation,
  environment: Environment,
): Promise<{ readonly file: ConfigFile | undefined; readonly isNamed: boolean }> {
  const named = textOrUndefined(values['config']) ?? nonEmpty(environment[variableOf('', 'config')])
  const home =
    textOrUndefined(values['home']) ?? nonEmpty(environment[variableOf('', 'home')]) ?? DEFAULT_HOME
  const path = named ?? homePaths(home).configuration
  const isNamed = named !== undefined
  const exists = await pathExists(path)
  if (!exists && isNamed)
    throw new InputError('not-found', `--config: expected a file, ${path} does not exist`)
  if (!exists) return { file: undefined, isNamed }
  const { readConfigFile } = await import('./config-file.ts')
  return { file: await readConfigFile(resolve(path)), isNamed }
}

interface Places {
  readonly parameters: ParameterTable
  readonly invocation: Invocation
  /** Undefined if no variable gives the option. */
  readonly variable: string | undefined
  readonly environment: Environment
  readonly file: readonly ConfiguredValue[] | undefined
  /** Folder to which paths in the file are relative. */
  readonly folder: string
}

async function settingOf(option: Option, places: Places): Promise<Setting> {
  const { name } = option
  const { invocation, variable, environment, file, folder } = places
  const given = invocation.values[name]
  if (given !== undefined) return { name, value: given, source: COMMAND_LINE }
  const text = variable === undefined ? undefined : nonEmpty(environment[variable])
  if (variable !== undefined && text !== undefined) {
    const value = fromVariable(option, text, variable)
    await check(option, value, variable, places)
    return { name, value, source: variable }
  }
  const configured = NOT_IN_FILES.includes(name) ? undefined : file?.find(({ key }) => key === name)
  if (configured === undefined) return { name, source: DEFAULT }
  const value = fromFile(option, configured, folder)
  await check(option, value, configured.place, places)
  return { name, value, source: configured.place }
}

function fromVariable({ type, multiple }: Option, text: string, variable: string): Value {
  if (type === 'string') return multiple === true ? text.split(',').map((one) => one.trim()) : text
  if (['true', '1', 'yes'].includes(text.toLowerCase())) return true
  if (['false', '0', 'no'].includes(text.toLowerCase())) return false
  throw usage(`${variable}: expected true or false, got "${text}"`)
}

function fromFile(
  { name, type, multiple, isPath }: Option,
  { value, place }: ConfiguredValue,
  folder: string,
): Value {
  if (type === 'boolean') {
    if (typeof value === 'boolean') return value
    throw usage(`${place}: ${name}: expected true or false, got ${kindOf(value)}`)
  }
  const list = Array.isArray(value) && multiple === true ? value : [value]
  const texts = list.map((one: unknown) => {
    if (typeof one === 'string' && isPath === true) return resolve(folder, one)
    if (typeof one === 'string' || typeof one === 'number') return String(one)
    const kinds = multiple === true ? 'text or a list of texts' : 'text or a number'
    throw usage(`${place}: ${name}: expected ${kinds}, got ${kindOf(one)}`)
  })
  return multiple === true ? texts : (texts[0] as string)
}

/** @throws InputError `usage` that names the source instead of the option. */
async function check(
  { name }: Option,
  value: Value,
  source: string,
  { parameters, invocation }: Places,
): Promise<void> {
  const parameter = Object.values(parameters).find(({ option }) => option?.name === name)
  try {
    await parameter?.read({ command: invocation.command, positionals: [], values: { [name]: value } })
  } catch (error) {
    if (!(error instanceof InputError)) throw error
    throw new InputError(error.code, `${source}: ${error.message.replace(/^--/, '')}`, error.fields, error)
  }
}

/** @throws InputError `usage` for a table or an option that does not exist, with the nearest that does. */
function checkNames(
  file: ConfigFile,
  isNamed: boolean,
  command: CommandForm,
  ownOptions: readonly Option[],
  commonOptions: readonly Option[],
): void {
  const commonNames = commonOptions.map(({ name }) => name).filter((name) => !NOT_IN_FILES.includes(name))
  for (const [table, entries] of file.tables) {
    if (table !== '' && !CONFIGURABLE.some((name) => name === table)) {
      throw usage(
        `${file.placeOf(table)}: unknown table [${table}], nearest is [${nearest(table, CONFIGURABLE)}]; the tables are [${CONFIGURABLE.join('] and [')}]`,
      )
    }
    // The options of other commands are checked when they run.
    if (table !== '' && table !== command.name) continue
    const names = table === '' ? commonNames : ownOptions.map(({ name }) => name)
    for (const { key, place } of entries) {
      if (!names.includes(key)) {
        const where = table === '' ? 'option of all commands' : `option of ${table}`
        throw usage(`${place}: unknown ${where} "${key}", nearest is "${nearest(key, names)}"`)
      }
      if (key === 'home' && table === '' && !isNamed)
        throw usage(`${place}: home: only a file that --config names can choose the home folder`)
    }
  }
}

function takesWords({ parameters }: CommandForm, name: string): boolean {
  return Object.values(parameters).some(
    ({ option, positionals = 0 }) => option?.name === name && positionals > 0,
  )
}

function nearest(word: string, words: readonly string[]): string {
  return [...words].sort((a, b) => editDistance(word, a) - editDistance(word, b))[0] ?? ''
}

function kindOf(value: unknown): string {
  if (Array.isArray(value)) return 'a list'
  if (value instanceof Date) return 'a date'
  return typeof value === 'object' ? 'a table' : `a ${typeof value}`
}

function textOrUndefined(value: Value | undefined): string | undefined {
  return typeof value === 'string' ? value : undefined
}

/** A variable that is set to nothing counts as not set. */
function nonEmpty(text: string | undefined): string | undefined {
  return text === '' ? undefined : text
}
