#!/usr/bin/env node
/**
 * Process entry: file modes, signals and the exit code. The first signal interrupts the command, the second ends the
 * process.
 */
import './lib/heap-growth.ts'
import './lib/no-telemetry.ts'
import './lib/node20.ts'
import { INTERRUPTED, runProgram } from './cli/program.ts'

// LevelDB and other libraries create files without a mode, so the whole process creates them for its owner only.
process.umask(0o077)

const abort = new AbortController()
for (const name of ['SIGINT', 'SIGTERM'] as const) {
  process.on(name, () => {
    if (abort.signal.aborted) process.exit(INTERRUPTED)
    abort.abort()
  })
}

runProgram(process.argv.slice(2), process, abort.signal).then(
  (code) => process.exit(code),
  (error: unknown) => {
    console.error('flexmesh: unexpected error; please report it', error)
    process.exit(1)
  },
)
