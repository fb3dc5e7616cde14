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

/** @throws InputError `usage`, and whatever the command throws. */
export async function runCommand(
  command: Command,
  invocation: Invocation,
  output: Output,
  signal: AbortSignal,
): Promise<void> {
  const context = await contextOf(invocation, output, signal)
  if ('execute' in command) await command.execute(context, invocation)
  else await runInNode(command, context, invocation)
}

async function runInNode(
  command: NodeCommand,
  context: CommandContext,
  invocation: Invocation,
): Promise<void> {
  const { home, output, signal } = context
  const followUp = await command.prepare?.(invocation)
  const request = await command.arguments(invocation)
  const onProgress = (event: unknown): void => {
    const line = command.progress?.(event)
    if (line === undefined) return
    if (line.stays) output.say(line.text)
    else output.progress(line.text)
  }
  const { control } = homePaths(home)
  const result = (await isRunning(control))
    ? await callControl(control, command.name, request, { signal, onProgress })
    : await runAlone(command, context, request, onProgress)
  output.result(result, command.words(result, output.style))
  for (const line of (await followUp?.use(result)) ?? []) output.say(line)
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
