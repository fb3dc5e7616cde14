/** The options of a command. Does not know which commands there are. */
import type { CommandForm } from '../commands/command.ts'
import type { Option, ParameterTable } from '../commands/parameters.ts'
import { GLOBAL_PARAMETERS } from './context.ts'

/** The options that a command declares itself, some of which may be options of every command too. */
export function ownOptionsOf({ parameters, clientOptions = [] }: CommandForm): Option[] {
  return [...declaredIn(parameters), ...clientOptions]
}

/** A command's own options, then those of every command that it does not declare itself. */
export function optionsOf(command: CommandForm): Option[] {
  const own = ownOptionsOf(command)
  const names = new Set(own.map(({ name }) => name))
  return [...own, ...declaredIn(GLOBAL_PARAMETERS).filter(({ name }) => !names.has(name))]
}

function declaredIn(parameters: ParameterTable): Option[] {
  return Object.values(parameters).flatMap(({ option }) => option ?? [])
}
