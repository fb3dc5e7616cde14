/**
 * Log lines for operators: one event on one line, with a level, the part of the node that it comes from, and the id of
 * the API request that it concerns. Does not know where the lines go. Callers never pass an owner's text, prompts,
 * answers, losses on private text, keys or tokens.
 */
import { FlexMeshError } from '../lib/errors.ts'
import { LOG_LEVELS, type LogLevel, type LogLevels, type LogPart } from './log-levels.ts'

export interface LogEntry {
  readonly level: LogLevel
  /** Part of the node, such as `exchange`. */
  readonly part: LogPart
  /** What happened, and the message of the error that caused it. */
  readonly message: string
  /** Code of that error, if it is a FlexMeshError. */
  readonly code?: string
  /** Id of the API request that the entry concerns, as in the header `X-Request-Id` of its response. */
  readonly requestId?: string
}

/** Receives every entry of the level of its part and of the more severe ones. */
export type LogSink = (entry: LogEntry) => void

export class Log {
  readonly #sink: LogSink
  readonly #levels: LogLevels
  readonly #part: LogPart
  readonly #requestId: string | undefined

  /** @param level entries of this level and of the more severe ones reach the sink. */
  constructor(
    sink: LogSink,
    level: LogLevel | LogLevels = 'warn',
    part: LogPart = 'node',
    requestId: string | undefined = undefined,
  ) {
    this.#sink = sink
    this.#levels = typeof level === 'string' ? { default: level, parts: {} } : level
    this.#part = part
    this.#requestId = requestId
  }

  /** A log with the same sink and levels for one part of the node. */
  part(name: LogPart): Log {
    return new Log(this.#sink, this.#levels, name, this.#requestId)
  }

  /** A log whose entries name an API request. */
  request(id: string): Log {
    return new Log(this.#sink, this.#levels, this.#part, id)
  }

  /** A log whose entries also reach another sink. */
  also(sink: LogSink): Log {
    const first = this.#sink
    return new Log(
      (entry) => {
        first(entry)
        sink(entry)
      },
      this.#levels,
      this.#part,
      this.#requestId,
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

  trace(message: string, error?: unknown): void {
    this.#write('trace', message, error)
  }

  #write(level: LogLevel, message: string, error: unknown): void {
    const shown = this.#levels.parts[this.#part] ?? this.#levels.default
    if (LOG_LEVELS.indexOf(level) > LOG_LEVELS.indexOf(shown)) return
    const code = error instanceof FlexMeshError ? error.code : undefined
    this.#sink({
      level,
      part: this.#part,
      message: error === undefined ? message : `${message}: ${reasonOf(error)}`,
      ...(code === undefined ? {} : { code }),
      ...(this.#requestId === undefined ? {} : { requestId: this.#requestId }),
    })
  }
}

/** Drops every entry. */
export const SILENT = new Log(() => undefined)

function reasonOf(error: unknown): string {
  // Messages of parsers quote what they could not parse, which may be a prompt or an answer.
  if (error instanceof SyntaxError) return 'a text could not be parsed'
  return error instanceof Error ? error.message : String(error)
}
