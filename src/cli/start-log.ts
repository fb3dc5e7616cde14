/** The log of `start`: where its lines go, and how the events of the node are told. */

import { completeCommands } from '../lib/command-line.ts'
import type { NodeEvent } from '../node/events.ts'
import { Log } from '../telemetry/log.ts'
import type { LogFormat } from '../telemetry/log-formats.ts'
import { parseLogLevels } from '../telemetry/log-levels.ts'
import { eventLine } from './event-lines.ts'
import type { Output } from './output.ts'

/**
 * A log on standard error.
 * @param levels as the option `--log-level` gives them
 * @throws InputError `usage` for levels that cannot be read.
 */
export async function createLog(output: Output, format: LogFormat, levels: string | undefined): Promise<Log> {
  const fallback = format === 'json' ? 'info' : 'warn'
  const parsed = levels === undefined ? fallback : parseLogLevels(levels, fallback, '--log-level')
  const { logLines } = await import('../telemetry/log-lines.ts')
  const sink = logLines(format, (line) => output.log(line))
  return new Log(
    (entry) => sink({ ...entry, message: completeCommands(entry.message, output.homeOptions) }),
    parsed,
  )
}

/** Events are lines for people on standard output, or lines of a log in JSON. */
export function reportEvents(output: Output, log: Log, format: LogFormat): (event: NodeEvent) => void {
  if (format === 'pretty') return (event) => output.say(eventLine(event))
  const events = log.part('events')
  return (event) => events.info(eventLine(event))
}
