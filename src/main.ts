#!/usr/bin/env node
/**
 * Process entry: file modes, signals and the exit code. The first signal interrupts the command, the second ends the
 * process.
 */
import './lib/heap-growth.ts'
import './lib/no-telemetry.ts'
import './lib/node20.ts'
import { INTERRUPTED, runProgram } from './cli/program.ts'
import { hasErrno } from './lib/errors.ts'

// LevelDB and other libraries create files without a mode, so the whole process creates them for its owner only.
process.umask(0o077)

const abort = new AbortController()
for (const name of ['SIGINT', 'SIGTERM'] as const) {
  process.on(name, () => {
    if (abort.signal.aborted) process.exit(INTERRUPTED)
    abort.abort()
  })
}

// A reader that has seen enough, such as "head -1", closes the pipe: the command ends as after a signal.
for (const stream of [process.stdout, process.stderr]) {
  stream.on('error', (error) => {
    if (!hasErrno(error, 'EPIPE')) throw error
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
