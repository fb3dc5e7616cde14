/**
 * Runs one command: here, in the running node of the home, or in a node that is opened for it. Does not know any
 * command.
 */
import type { NodeCommand } from '../commands/command.ts'
import type { Invocation } from '../commands/parameters.ts'
import { callControl, isRunning } from '../serving/control.ts'
import { homePaths, loadSettings } from '../store/home.ts'
import { type CommandContext, contextOf, unixNow } from './context.ts'
import type { Output } from './output.ts'
import type { Command } from './table.ts'

/**
 * @returns false if the command did less than it was asked to do, or the user declined it.
 * @throws InputError `usage`, and whatever the command throws.
 */
export async function runCommand(
  command: Command,
  invocation: Invocation,
  output: Output,
  signal: AbortSignal,
): Promise<boolean> {
  const context = await contextOf(invocation, output, signal)
  if (!('execute' in command)) return runInNode(command, context, invocation)
  await command.execute(context, invocation)
  return true
}

async function runInNode(
  command: NodeCommand,
  context: CommandContext,
  invocation: Invocation,
): Promise<boolean> {
  const { output } = context
  const followUp = await command.prepare?.(invocation)
  const request = await command.arguments(invocation)
  if (!(await isConfirmed(command, context, invocation, request))) return false
  const result = await resultOf(command, context, request)
  output.result(result, command.words(result, output.style))
  for (const line of (await followUp?.use(result)) ?? []) output.say(line)
  return command.isIncomplete?.(result) !== true
}

/** Show what the command would do, and ask, if the command wants that and somebody can answer. */
async function isConfirmed(
  { confirmation, ...command }: NodeCommand,
  context: CommandContext,
  invocation: Invocation,
  request: Record<string, unknown>,
): Promise<boolean> {
  const { output, signal } = context
  if (confirmation === undefined || !output.interactive || invocation.values[confirmation.option] === true) {
    return true
  }
  const { preview, question, declined } = confirmation
  const isPreview = Object.entries(preview).every(([key, value]) => request[key] === value)
  if (isPreview) return true
  const result = await resultOf(command, context, { ...request, ...preview })
  const asked = question(result)
  if (asked === undefined) return true
  for (const line of command.words(result, output.style)) output.say(line)
  if (await output.ask(asked, signal)) return true
  output.say(declined)
  return false
}

/** Run the command in the running node of the home, or in a node that is opened for it. */
async function resultOf(
  command: NodeCommand,
  context: CommandContext,
  request: Record<string, unknown>,
): Promise<unknown> {
  const { home, output, signal } = context
  const onProgress = (event: unknown): void => {
    const line = command.progress?.(event)
    if (line === undefined) return
    if (line.stays) output.say(line.text)
    else output.progress(line.text)
  }
  const { control } = homePaths(home)
  return (await isRunning(control))
    ? await callControl(control, command.name, request, { signal, onProgress })
    : await runAlone(command, context, request, onProgress)
}

/** Open the node of the home for one command. */
async function runAlone(
  command: NodeCommand,
  { home, engine, weights, signal, passphrase }: CommandContext,
  request: Record<string, unknown>,
  onProgress: (event: unknown) => void,
): Promise<unknown> {
  await loadSettings(homePaths(home))
  const secret = await passphrase()
  const [{ selectEngine }, { FlexMeshNode }] = await Promise.all([
    import('../tensor/select-engine.ts'),
    import('../node/node.ts'),
  ])
  const node = await FlexMeshNode.open({
    home,
    engine: await selectEngine(engine),
    weights,
    now: unixNow,
    ...(secret === undefined ? {} : { passphrase: secret }),
  })
  try {
    const steps = command.run(node, command.decode(request), signal)
    for (;;) {
      const { done, value } = await steps.next()
      if (done === true) return value
      onProgress(value)
    }
  } finally {
    await node.close()
  }
}
