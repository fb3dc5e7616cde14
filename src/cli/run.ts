/**
 * Runs one command: here, in the running node of the home, or in a node that is opened for it. Does not know any
 * command.
 */

import type { NodeCommand } from '../commands/command.ts'
import type { Invocation } from '../commands/parameters.ts'
import { ownCommand } from '../lib/command-line.ts'
import { InputError } from '../lib/errors.ts'
import { pause } from '../lib/pause.ts'
import { callControl, isRunning } from '../serving/control-client.ts'
import { homePaths, loadSettings } from '../store/home.ts'
import { type CommandContext, contextOf, unixNow } from './context.ts'
import type { Output } from './output.ts'
import type { Command } from './table.ts'

/** The command of a process that runs a node. */
const NODE_COMMAND = 'flexmesh start'
/** Time between two looks at whether a node that starts listens, ms. */
const NODE_POLL_MS = 200
/** Time between two results of a command that is watched, ms. */
const WATCH_MS = 2_000
/** Longest time for which a node may start or stop: it reads all weights, and a training writes its checkpoint, ms. */
const NODE_START_MS = 600_000

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
  if (command.isWatchable === true && invocation.values['watch'] === true) {
    await watch(command, context, request)
    return true
  }
  if (!(await isConfirmed(command, context, invocation, request))) return false
  const result = await resultOf(command, context, request)
  output.result(result, command.words(result, output.style), command.isVerbatim)
  for (const line of (await followUp?.use(result)) ?? []) output.say(line)
  return command.isIncomplete?.(result) !== true
}

/**
 * Run the command again and again in the running node, until the user interrupts it.
 * @throws InputError `not-running`, also when the node stops.
 */
async function watch(
  command: NodeCommand,
  context: CommandContext,
  request: Record<string, unknown>,
): Promise<void> {
  const { home, output, signal } = context
  const { control } = homePaths(home)
  try {
    for (;;) {
      if (!(await isRunning(control))) {
        throw new InputError(
          'not-running',
          `--watch: no node runs on ${home}; start it with ${ownCommand('start')}, or leave out --watch to see what the folder holds`,
        )
      }
      const result = await resultOf(command, context, request)
      output.screen(result, command.words(result, output.style))
      await pause(WATCH_MS, signal)
    }
  } catch (error) {
    if (!signal.aborted) throw error
  }
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
  const deadline = performance.now() + NODE_START_MS
  let hasSaid = false
  for (;;) {
    if (await isRunning(control)) {
      refuseOwnEngine(command, context)
      await context.passphrase() // A file that cannot be read is a mistake here, too.
      const onQuiet = (activity: readonly string[]): void => output.progress(quietLine(activity))
      return callControl(control, command.name, request, { signal, onProgress, onQuiet })
    }
    try {
      return await runAlone(command, context, request, onProgress)
    } catch (error) {
      if (!isHeldByNode(error) || performance.now() > deadline) throw error
      if (!hasSaid) {
        output.log(
          `waiting for the node of ${home} (process ${error.fields['pid']}), which is starting or stopping`,
        )
        hasSaid = true
      }
      await pause(NODE_POLL_MS, signal)
    }
  }
}

/** @throws InputError `usage` for options that only matter without a running node. */
function refuseOwnEngine({ parameters }: NodeCommand, { home, engineOptions }: CommandContext): void {
  const first = engineOptions.find((name) => parameters[name] === undefined)
  if (first === undefined) return
  throw new InputError(
    'usage',
    `--${first}: a node runs on ${home} and computes with the engine that it was started with; leave the option out, or stop the node`,
  )
}

function quietLine(activity: readonly string[]): string {
  return activity.length === 0
    ? 'the node is running but busy; waiting for its answer'
    : `waiting for the node, which is ${activity.join(' and ')}`
}

/** Whether the home is locked by a node that does not listen: because it starts or stops. */
function isHeldByNode(error: unknown): error is InputError {
  return (
    error instanceof InputError && error.code === 'home-in-use' && error.fields['command'] === NODE_COMMAND
  )
}

/** Open the node of the home for one command. */
async function runAlone(
  command: NodeCommand,
  { home, engine, weights, memory, output, signal, passphrase }: CommandContext,
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
    ...(memory === undefined ? {} : { memory }),
    command: `flexmesh ${command.name}`,
    homeOptions: output.homeOptions,
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
