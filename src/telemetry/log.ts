/**
 * Log lines for operators: one event on one line, with a level and the part of the node that it comes from. Does not
 * know where the lines go. Callers never pass an owner's text, keys or tokens.
 */
import { FlexMeshError } from '../lib/errors.ts'
import { escapeUnprintable } from '../lib/printable.ts'

/** From the most severe to the most detailed. */
export const LOG_LEVELS = ['error', 'warn', 'info', 'debug'] as const
export type LogLevel = (typeof LOG_LEVELS)[number]

export interface LogEntry {
  readonly level: LogLevel
  /** Part of the node, such as `exchange`. */
  readonly scope: string
  /** What happened, and the message of the error that caused it. */
  readonly message: string
  /** Code of that error, if it is a FlexMeshError. */
  readonly code?: string
}

/** Receives every entry of the level of the log and of the more severe ones. */
export type LogSink = (entry: LogEntry) => void

export class Log {
  readonly #sink: LogSink
  readonly #scope: string
  readonly #level: LogLevel

  /** @param level entries of this level and of the more severe ones reach the sink. */
  constructor(sink: LogSink, level: LogLevel = 'warn', scope = 'node') {
    this.#sink = sink
    this.#level = level
    this.#scope = scope
  }

  /** A log with the same sink and level for one part of the node. */
  scope(name: string): Log {
    return new Log(this.#sink, this.#level, name)
  }

  /** A log whose entries also reach another sink. */
  also(sink: LogSink): Log {
    const first = this.#sink
    return new Log(
      (entry) => {
        first(entry)
        sink(entry)
      },
      this.#level,
      this.#scope,
    )
  }

  error(message: string, error?: unknown): void {
    this.#write('error', message, error)
  }

  warn(message: string, error?: unknown): void {
    this.#write('warn', message, error)
  }

  info(message: string, error?: unknown): void {
    this.#write('info', message, error)
  }

  debug(message: string, error?: unknown): void {
    this.#write('debug', message, error)
  }

  #write(level: LogLevel, message: string, error: unknown): void {
    if (LOG_LEVELS.indexOf(level) > LOG_LEVELS.indexOf(this.#level)) return
    const code = error instanceof FlexMeshError ? error.code : undefined
    const reason = error === undefined ? '' : `: ${error instanceof Error ? error.message : String(error)}`
    this.#sink({
      level,
      scope: this.#scope,
      message: `${message}${reason}`,
      ...(code === undefined ? {} : { code }),
    })
  }
}

/** Drops every entry. */
export const SILENT = new Log(() => undefined)

/**
 * One line for a terminal or a journal, without a time because the journal adds it. Escapes unprintable characters,
 * because a message may quote a peer, which could otherwise forge a line or control the terminal.
 */
export function logLine({ level, scope, message, code }: LogEntry): string {
  return `${level} ${scope}: ${escapeUnprintable(message)}${code === undefined ? '' : ` (${code})`}`
}
