/**
 * Log lines for operators: one event a line, with a level and the part of the node that it comes from. Knows neither
 * where lines go nor what they are about; never given text of an owner, keys or tokens.
 */
import { FlexMeshError } from '../lib/errors.ts'

/** From the gravest to the most talkative. */
export const LOG_LEVELS = ['error', 'warn', 'info', 'debug'] as const
export type LogLevel = (typeof LOG_LEVELS)[number]

export interface LogEntry {
  readonly level: LogLevel
  /** Part of the node, such as `acceptance`. */
  readonly scope: string
  /** A sentence: what happened, and what the node does now. */
  readonly message: string
  /** Code of the error behind it, where there is one. */
  readonly code?: string
}

/** Takes every entry that is grave enough. */
export type LogSink = (entry: LogEntry) => void

export class Log {
  readonly #sink: LogSink
  readonly #scope: string
  readonly #levels: number

  /** @param level entries of this level and graver ones reach the sink. */
  constructor(sink: LogSink, level: LogLevel = 'warn', scope = 'node') {
    this.#sink = sink
    this.#levels = LOG_LEVELS.indexOf(level)
    this.#scope = scope
  }

  /** The same log for one part of the node. */
  scope(name: string): Log {
    return new Log(this.#sink, LOG_LEVELS[this.#levels] ?? 'warn', name)
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
    if (LOG_LEVELS.indexOf(level) > this.#levels) return
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

/** Drops everything. */
export const SILENT = new Log(() => undefined)

/** One line for a terminal or a journal, without its time, which the journal adds. */
export function logLine({ level, scope, message, code }: LogEntry): string {
  return `${level} ${scope}: ${message}${code === undefined ? '' : ` (${code})`}`
}
