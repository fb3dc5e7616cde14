/** Scripts that complete commands and options in a shell, built from the table of commands. */
import { usage } from '../commands/parameters.ts'
import { optionsOf } from './options.ts'
import { COMMANDS } from './table.ts'

const SHELLS = ['bash', 'zsh', 'fish'] as const

interface Completed {
  readonly name: string
  readonly summary: string
  /** With the leading "--". */
  readonly options: readonly { readonly name: string; readonly help: string }[]
}

/** Lines of the script. @throws InputError `usage` for a shell that is not supported. */
export async function completionScript(given: string | undefined): Promise<string[]> {
  const shell = SHELLS.find((one) => one === given)
  if (shell === undefined) throw usage(`completion: expected ${SHELLS.join(', ')}, got "${given ?? ''}"`)
  const commands: Completed[] = []
  for (const { name, summary, load } of COMMANDS) {
    const options = optionsOf(await load()).map((one) => ({ name: `--${one.name}`, help: one.help }))
    commands.push({ name, summary, options })
  }
  return SCRIPTS[shell](commands).split('\n')
}

const SCRIPTS: Readonly<Record<(typeof SHELLS)[number], (commands: readonly Completed[]) => string>> = {
  bash: (commands) => `# source <(flexmesh completion bash)
_flexmesh() {
  local word=\${COMP_WORDS[COMP_CWORD]} command=\${COMP_WORDS[1]}
  if [ "$COMP_CWORD" -eq 1 ]; then
    COMPREPLY=($(compgen -W "${firstWords(commands).join(' ')}" -- "$word"))
    return
  fi
  if [ "$COMP_CWORD" -eq 2 ]; then
    case "$command" in
${groups(commands)
  .map(
    ([first, seconds]) =>
      `    ${quoted(first)}) COMPREPLY=($(compgen -W "${seconds.join(' ')}" -- "$word")) ;;`,
  )
  .join('\n')}
    esac
    if [ \${#COMPREPLY[@]} -gt 0 ]; then return; fi
  fi
  case "$command \${COMP_WORDS[2]}" in
    ${pairs(commands).map(quoted).join('|')}) command="$command \${COMP_WORDS[2]}" ;;
  esac
  case "$command" in
${commands.map(({ name, options }) => `    ${quoted(name)}) COMPREPLY=($(compgen -W "${options.map((one) => one.name).join(' ')}" -- "$word")) ;;`).join('\n')}
  esac
  if [ \${#COMPREPLY[@]} -eq 0 ]; then COMPREPLY=($(compgen -f -- "$word")); fi
}
complete -o filenames -F _flexmesh flexmesh`,
  zsh: (commands) => `#compdef flexmesh
# source <(flexmesh completion zsh)
_flexmesh() {
  if (( CURRENT == 2 )); then
    local -a names=(${commands.map(({ name, summary }) => quoted(`${name.split(' ')[0]}:${summary.replaceAll(':', ' ')}`)).join(' ')})
    _describe command names
    return
  fi
  local command=$words[2]
  if (( CURRENT == 3 )); then
    local -a seconds
    case "$command" in
${groups(commands)
  .map(([first, seconds]) => `    ${quoted(first)}) seconds=(${seconds.map(quoted).join(' ')}) ;;`)
  .join('\n')}
    esac
    _describe command seconds && return
  fi
  case "$command $words[3]" in
    ${pairs(commands).map(quoted).join('|')}) command="$command $words[3]" ;;
  esac
  local -a options
  case "$command" in
${commands.map(({ name, options }) => `    ${quoted(name)}) options=(${options.map((one) => quoted(`${one.name}:${one.help.replaceAll(':', ' ')}`)).join(' ')}) ;;`).join('\n')}
  esac
  _describe option options
  _files
}
compdef _flexmesh flexmesh`,
  fish: (commands) =>
    [
      '# flexmesh completion fish | source',
      ...groups(commands).map(
        ([first, seconds]) =>
          `complete -c flexmesh -n ${quoted(`__fish_seen_subcommand_from ${first}; and not __fish_seen_subcommand_from ${seconds.join(' ')}`)} -a ${quoted(seconds.join(' '))}`,
      ),
      ...commands.flatMap(({ name, summary, options }) => {
        const words = name.split(' ')
        const isGiven = words.map((word) => `__fish_seen_subcommand_from ${word}`).join('; and ')
        return [
          `complete -c flexmesh -n __fish_use_subcommand -a ${quoted(words[0] as string)} -d ${quoted(summary)}`,
          ...options.map(
            (one) =>
              `complete -c flexmesh -n ${quoted(isGiven)} -l ${one.name.slice(2)} -d ${quoted(one.help)}`,
          ),
        ]
      }),
    ].join('\n'),
}

/** Names of two words, as in "key rotate". */
function pairs(commands: readonly Completed[]): string[] {
  return commands.map(({ name }) => name).filter((name) => name.includes(' '))
}

/** The first words of names of two words, each with its second words. */
function groups(commands: readonly Completed[]): [first: string, seconds: string[]][] {
  const seconds = new Map<string, string[]>()
  for (const [first, second] of pairs(commands).map((name) => name.split(' ') as [string, string])) {
    seconds.set(first, [...(seconds.get(first) ?? []), second])
  }
  return [...seconds]
}

function firstWords(commands: readonly Completed[]): string[] {
  return [...new Set(commands.map(({ name }) => name.split(' ')[0] as string))]
}

/** A word in single quotes, as all three shells read it. */
function quoted(text: string): string {
  return `'${text.replaceAll("'", "'\\''")}'`
}
