/** The command `config`: shows the value of every option that can be configured, and where it comes from. */
import type { CommandForm } from '../commands/command.ts'
import type { Invocation } from '../commands/parameters.ts'
import { CONFIG_NAME } from '../store/home.ts'
import {
  CONFIGURABLE,
  type Configuration,
  configurationOf,
  type Setting,
  variableOf,
} from './configuration.ts'
import { localCommand } from './local-command.ts'
import { optionsOf } from './options.ts'

/** An option as the command shows it. */
interface ShownSetting extends Setting {
  /** Table of the file; `''` for the options of all commands. */
  readonly table: string
  /** Variable that can give the option. */
  readonly variable: string
  /** The default as the help of the option states it; absent if there is a value or no default. */
  readonly default?: string
}

const COMMANDS: Readonly<Record<(typeof CONFIGURABLE)[number], () => Promise<CommandForm>>> = {
  start: async () => (await import('./start.ts')).START,
  train: async () => (await import('../commands/train.ts')).TRAIN,
}

export const CONFIG = localCommand({
  name: 'config',
  usage: 'config',
  parameters: {},
  async work({ home, config, output }) {
    const values = { home, ...(config === undefined ? {} : { config }) }
    const shown: ShownSetting[] = []
    let file: string | undefined
    for (const [name, load] of Object.entries(COMMANDS)) {
      const command = await load()
      const invocation: Invocation = { command: name, positionals: [], values }
      const configuration = await configurationOf(command, invocation, process.env)
      file = configuration.file
      if (shown.length === 0) shown.push(...commonOf(configuration))
      shown.push(...configuration.own.map((setting) => shownOf(command, name, setting)))
    }
    output.result({ file: file ?? null, settings: shown }, [
      file === undefined ? `no configuration file; it would be ${home}/${CONFIG_NAME}` : `file: ${file}`,
      ...['', ...CONFIGURABLE].flatMap((section) => [
        '',
        section === '' ? 'all commands' : `[${section}]`,
        ...columns(shown.filter((one) => one.table === section).map(rowOf)),
      ]),
    ])
  },
})

/** The options of all commands, without those that only make sense on a command line. */
function commonOf({ common }: Configuration): ShownSetting[] {
  const form: CommandForm = { name: '', usage: '', parameters: {} }
  return common
    .filter(({ name }) => !['config', 'help', 'home', 'json'].includes(name))
    .map((setting) => shownOf(form, '', setting))
}

function shownOf(command: CommandForm, section: string, setting: Setting): ShownSetting {
  const help = optionsOf(command).find(({ name }) => name === setting.name)?.help ?? ''
  const stated = setting.value === undefined ? statedDefault(help) : undefined
  return {
    table: section,
    variable: variableOf(section, setting.name),
    ...setting,
    ...(stated === undefined ? {} : { default: stated }),
  }
}

/** From "port of the API (default 8080; 0: any free port)" or from "pretty (default) for people". */
function statedDefault(help: string): string | undefined {
  const [, stated] = /\(default:? ((?:[^;()]|\([^()]*\))+)/.exec(help) ?? []
  return stated ?? /([\w-]+) \(default\)/.exec(help)?.[1]
}

/** Two columns and a last one, all aligned to the left. */
function columns(rows: readonly (readonly [string, string, string])[]): string[] {
  const widths = [0, 1].map((i) => Math.max(...rows.map((row) => row[i]?.length ?? 0)))
  return rows.map(([name, value, source]) =>
    ['', name.padEnd(widths[0] ?? 0), value.padEnd(widths[1] ?? 0), source].join('  '),
  )
}

function rowOf({ name, value, source, default: stated }: ShownSetting): readonly [string, string, string] {
  const shown = Array.isArray(value) ? value.join(', ') : value
  return [name, String(shown ?? stated ?? 'not set'), source]
}
