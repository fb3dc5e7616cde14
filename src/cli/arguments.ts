/** Parses the command line by the table of commands and their parameters. Does not know what a command does. */
import { parseArgs } from 'node:util'
import type { CommandForm, CommandRow } from '../commands/command.ts'
import type { Invocation } from '../commands/parameters.ts'
import { editDistance } from '../lib/edit-distance.ts'
import { InputError } from '../lib/errors.ts'
import { optionsOf } from './options.ts'
import { COMMANDS, type Command, commandNamed, isGroup } from './table.ts'

/** Maximum number of wrong, missing and extra letters of a misspelled command. */
const MAX_TYPOS = 2

/** A command line whose command and options exist; the values of options are not checked yet. */
export interface ParsedLine {
  readonly row: CommandRow<Command>
  readonly command: Command
  readonly invocation: Invocation
}

/** @throws InputError `usage`. */
export async function parseCommandLine(argv: readonly string[]): Promise<ParsedLine> {
  const [first = '', second = ''] = argv
  if (first === 'consortium' && commandNamed(second)?.isConsortiumCommand) {
    return parseCommandLine(argv.slice(1))
  }
  // "key show" is a command of two words, "key" alone is none; other commands may have both forms.
  const isPair = commandNamed(`${first} ${second}`) !== undefined
  const isUnknownPair = isGroup(first) && commandNamed(first) === undefined && second !== ''
  const words = isPair || isUnknownPair ? 2 : 1
  const name = argv.slice(0, words).join(' ')
  const row = commandNamed(name)
  if (row === undefined) {
    const close = closest(name)
    const hint = close === undefined ? '' : `, did you mean "${close}"?`
    throw new InputError('usage', `unknown command "${name}"${hint}; "flexmesh help" lists the commands`)
  }
  const command = await row.load()
  const options = optionsOf(command).map(({ name, type, multiple = false }) => [name, { type, multiple }])
  try {
    const { values, positionals } = parseArgs({
      args: argv.slice(words),
      options: Object.fromEntries(options),
      allowPositionals: true,
      strict: true,
    })
    checkWords(command, positionals)
    return {
      row,
      command,
      invocation: { command: name, positionals, values: values as Invocation['values'] },
    }
  } catch (error) {
    if (error instanceof InputError) throw error
    throw new InputError(
      'usage',
      `${(error as Error).message.replaceAll(/\s*\n\s*/g, ' ')}; "flexmesh ${name} --help" lists the options`,
      {},
      error,
    )
  }
}

/** The command whose name is most like a misspelled one; undefined if none is. */
function closest(name: string): string | undefined {
  const [best] = COMMANDS.map((row) => ({ name: row.name, distance: editDistance(name, row.name) }))
    .filter(({ distance }) => distance <= MAX_TYPOS)
    .sort((a, b) => a.distance - b.distance)
  return best?.name
}

/** @throws InputError `usage` for words that the command would not read. */
function checkWords({ name, parameters }: CommandForm, words: readonly string[]): void {
  const most = Object.values(parameters).reduce((sum, { positionals = 0 }) => sum + positionals, 0)
  const extra = words[most]
  if (extra === undefined) return
  throw new InputError(
    'usage',
    most === 0
      ? `${name}: unexpected "${extra}"; "flexmesh ${name} --help" lists the options`
      : `${name}: unexpected "${extra}"; put text that has spaces into quotes`,
  )
}
