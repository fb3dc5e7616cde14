/** Commands that the command line carries out itself, without an open node. */
import type { CommandForm } from '../commands/command.ts'
import {
  decodeRequest,
  type Invocation,
  type ParameterTable,
  type RequestOf,
  readRequest,
} from '../commands/parameters.ts'
import type { CommandContext } from './context.ts'

/** Tables hold commands without the type of their request. */
export interface LocalCommand extends CommandForm {
  /** Read the parameters and carry out the command. @throws InputError `usage`, and whatever the command throws. */
  execute(context: CommandContext, invocation: Invocation): Promise<void>
}

export function localCommand<T extends ParameterTable>(
  definition: CommandForm & {
    readonly parameters: T
    work(context: CommandContext, request: RequestOf<T>): Promise<void>
  },
): LocalCommand {
  const { work, ...row } = definition
  const { name, parameters } = definition
  return {
    ...row,
    execute: async (context, invocation) =>
      work(context, decodeRequest(parameters, await readRequest(parameters, invocation), name)),
  }
}
