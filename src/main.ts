#!/usr/bin/env node
/** Process entry: arguments, signals, exit codes. 0 success, 1 refusal or failure, 2 wrong usage. */
import './lib/heap-growth.ts'
import './lib/node20.ts'
import { helpText, parseCommandLine } from './cli/arguments.ts'
import { FlexMeshError, InputError } from './lib/errors.ts'

async function main(argv: readonly string[]): Promise<number> {
  const abort = new AbortController()
  for (const name of ['SIGINT', 'SIGTERM'] as const) {
    process.on(name, () => {
      if (abort.signal.aborted) process.exit(130)
      abort.abort()
    })
  }
  try {
    const invocation = parseCommandLine(argv)
    if (invocation.command === 'help' || invocation.values['help'] === true) {
      for (const line of helpText(invocation.command === 'help' ? undefined : invocation.command))
        console.log(line)
      return 0
    }
    // Loaded here, so that help is there at once: commands bring a tensor library and libp2p.
    const [{ runCommand }, { createOutput }] = await Promise.all([
      import('./cli/run.ts'),
      import('./cli/output.ts'),
    ])
    await runCommand(invocation, createOutput(invocation.values['json'] === true), abort.signal)
    return 0
  } catch (error) {
    if (abort.signal.aborted) return 130
    if (!(error instanceof FlexMeshError)) throw error
    console.error(`flexmesh: ${error.message}`)
    return error instanceof InputError && error.code === 'usage' ? 2 : 1
  }
}

main(process.argv.slice(2)).then(
  (code) => {
    process.exitCode = code
    process.exit()
  },
  (error: unknown) => {
    console.error('flexmesh: something unexpected failed; please report it', error)
    process.exit(1)
  },
)
