/** The texts of --help. Does not load the commands, so the list of commands is printed at once. */
import type { CommandForm, CommandRow } from '../commands/command.ts'
import type { Option } from '../commands/parameters.ts'
import { COMMANDS } from './table.ts'

/** What `flexmesh help` explains besides commands. */
const TOPICS = {
  steps: 'the order of the commands, from nothing to an answer',
  configuration: 'options in a file and in the environment',
  logs: 'levels, parts and formats of the log',
  files: 'what is in the home folder',
  'exit-codes': 'how commands end',
} as const
export type Topic = keyof typeof TOPICS

/** Undefined for a word that is no topic. */
export function topicNamed(word: string | undefined): Topic | undefined {
  return word !== undefined && Object.hasOwn(TOPICS, word) ? (word as Topic) : undefined
}

/** What the program tells about itself. */
const PROGRAM: readonly (readonly [string, string])[] = [
  ['help COMMAND', 'show the options of a command'],
  ['help TOPIC', 'explain one of the topics below'],
  ['completion SHELL', 'print a script that completes commands in bash, zsh or fish'],
  ['version', 'print the version'],
]

/** The list of all commands. */
export function programHelp(): string[] {
  return [
    'flexmesh: institutions build a mixture-of-experts language model together; their text stays with them',
    '',
    ...columns([...COMMANDS.map(({ name, summary }): [string, string] => [name, summary]), ...PROGRAM]),
    '',
    '"flexmesh COMMAND --help" shows the options of a command.',
    '',
    'Topics of "flexmesh help TOPIC":',
    ...columns(Object.entries(TOPICS)),
  ]
}

/** One command with its options. */
export function commandHelp(
  { summary }: CommandRow,
  { usage }: CommandForm,
  options: readonly Option[],
): string[] {
  return [
    `flexmesh ${usage}`,
    '',
    summary,
    '',
    ...columns(options.map(({ name, help }) => [`--${name}`, help])),
  ]
}

function columns(rows: readonly (readonly [string, string])[]): string[] {
  const width = Math.max(...rows.map(([left]) => left.length))
  return rows.map(([left, right]) => `  ${left.padEnd(width)}  ${right}`)
}
