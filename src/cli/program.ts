/**
 * The program without its process: a command line in, text on two streams and an exit code out. Loads the command
 * only after its name is known, so `flexmesh --help` answers at once.
 */
import { completeCommands } from '../lib/command-line.ts'
import { FlexMeshError, InputError } from '../lib/errors.ts'
import { commandHelp, programHelp, topicNamed } from './help.ts'
import { createOutput, type Streams } from './output.ts'

/** The exit code of a command that a signal interrupted, as shells have it after Ctrl-C: 128 + SIGINT. */
export const INTERRUPTED = 130

/**
 * Run one command. A refusal or failure is one sentence on stderr.
 * @returns 0 for success, 1 for a refusal or failure, 2 for wrong usage, 130 if `signal` interrupted the command.
 * @throws any error that is not a FlexMeshError: a bug.
 */
export async function runProgram(
  argv: readonly string[],
  streams: Streams,
  signal: AbortSignal,
): Promise<number> {
  const [first = 'help'] = argv
  let output = createOutput(streams, false)
  try {
    if (['version', '--version', '-V'].includes(first)) {
      const { packageVersion } = await import('./version.ts')
      output.say(`flexmesh ${await packageVersion()}, Node ${process.versions.node}`)
      return 0
    }
    if (first === 'completion') {
      const { completionScript } = await import('./completion.ts')
      for (const line of await completionScript(argv[1])) output.say(line)
      return 0
    }
    const isHelp = ['help', '--help', '-h'].includes(first)
    if (isHelp && argv.length < 2) {
      for (const line of programHelp()) output.say(line)
      return 0
    }
    const topic = isHelp ? topicNamed(argv[1]) : undefined
    if (topic !== undefined) {
      const { topicText } = await import('./topics.ts')
      for (const line of topicText(topic)) output.say(line)
      return 0
    }
    const [{ parseCommandLine }, { optionsOf }] = await Promise.all([
      import('./arguments.ts'),
      import('./options.ts'),
    ])
    const line = isHelp ? [...argv.slice(1), '--help'] : argv.map((word) => (word === '-h' ? '--help' : word))
    const { row, command, invocation } = await parseCommandLine(line)
    if (invocation.values['help'] === true) {
      for (const line of commandHelp(row, command, optionsOf(command))) output.say(line)
      return 0
    }
    output = createOutput(streams, invocation.values['json'] === true)
    const { checkEnvironment } = await import('./environment.ts')
    checkEnvironment(process.env)
    const { withConfiguration } = await import('./configuration.ts')
    const configured = await withConfiguration(command, invocation, process.env)
    const [{ runCommand }, { homeOptionsOf }] = await Promise.all([
      import('./run.ts'),
      import('./home-options.ts'),
    ])
    output = createOutput(streams, output.json, homeOptionsOf(configured))
    return (await runCommand(command, configured, output, signal)) ? 0 : 1
  } catch (error) {
    output.progress('') // Clears the line of progress that is still on the terminal.
    if (signal.aborted) {
      if (error instanceof InputError && error.code === 'interrupted')
        output.log(`flexmesh: ${completeCommands(error.message, output.homeOptions)}`)
      return INTERRUPTED
    }
    if (!(error instanceof FlexMeshError)) throw error
    output.log(`flexmesh: ${completeCommands(error.message, output.homeOptions)}`)
    return error instanceof InputError && error.code === 'usage' ? 2 : 1
  }
}
