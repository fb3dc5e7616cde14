/**
 * Log entries as lines: JSON for programs, written by pino, or words for people. Every line has the time, the level and
 * the part of the node, and the id of the request if there is one. Does not know where the lines go.
 */
import { pino } from 'pino'
import { escapeUnprintable } from '../lib/printable.ts'
import type { LogEntry, LogSink } from './log.ts'
import type { LogFormat } from './log-formats.ts'

/**
 * A sink that writes one line for each entry. Escapes unprintable characters in both formats, because a message may
 * quote a peer, which could otherwise forge a line or control the terminal.
 * @param write receives lines without their end
 */
export function logLines(format: LogFormat, write: (line: string) => void): LogSink {
  if (format === 'pretty') return (entry) => write(prettyLine(entry, new Date()))
  const logger = pino(
    {
      // `Log` has filtered by level already.
      level: 'trace',
      base: null,
      timestamp: pino.stdTimeFunctions.isoTime,
      formatters: { level: (level) => ({ level }) },
    },
    { write: (line) => write(line.trimEnd()) },
  )
  return ({ level, message, ...fields }) => logger[level](fields, escapeUnprintable(message))
}

/** As in `2026-12-01T08:00:00.000Z warn network: no answer (timeout) req-...`. */
export function prettyLine({ level, part, message, code, requestId }: LogEntry, time: Date): string {
  return [
    `${time.toISOString()} ${level} ${part}: ${escapeUnprintable(message)}`,
    ...(code === undefined ? [] : [`(${code})`]),
    ...(requestId === undefined ? [] : [requestId]),
  ].join(' ')
}
