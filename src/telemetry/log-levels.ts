/**
 * Levels of log lines, for the whole node and for its parts, and how they are written in options: `info,network=debug`.
 * Knows nothing about where lines go.
 */
import { editDistance } from '../lib/edit-distance.ts'
import { InputError } from '../lib/errors.ts'

/** From the most severe to the most detailed. */
export const LOG_LEVELS = ['error', 'warn', 'info', 'debug', 'trace'] as const
export type LogLevel = (typeof LOG_LEVELS)[number]

/** Parts of the node that log lines name. */
export const LOG_PARTS = [
  'acceptance',
  'api',
  'composition',
  'control',
  'cosigning',
  'egress',
  'events',
  'exchange',
  'exports',
  'network',
  'node',
  'pipeline',
] as const
export type LogPart = (typeof LOG_PARTS)[number]

/** The level of the node, and those of the parts that have their own. */
export interface LogLevels {
  readonly default: LogLevel
  readonly parts: Readonly<Partial<Record<LogPart, LogLevel>>>
}

/**
 * Reads levels such as `info`, `network=debug` or `info,network=debug,api=warn`.
 * @param fallback level of the node if the text names only parts
 * @param title option or variable that holds the text, for messages
 * @throws InputError `usage`.
 */
export function parseLogLevels(text: string, fallback: LogLevel, title: string): LogLevels {
  let level: LogLevel | undefined
  const parts: Partial<Record<LogPart, LogLevel>> = {}
  for (const item of text.split(',')) {
    const [left = '', right, ...rest] = item.split('=').map((word) => word.trim())
    if (rest.length > 0) throw usage(title, `LEVEL or PART=LEVEL, got "${item}"`)
    if (right !== undefined) parts[partOf(left, title)] = levelOf(right, title)
    else if (level === undefined) level = levelOf(left, title)
    else throw usage(title, `one level for the whole node, got "${level}" and "${left}"`)
  }
  return { default: level ?? fallback, parts }
}

function levelOf(word: string, title: string): LogLevel {
  const level = LOG_LEVELS.find((known) => known === word)
  if (level === undefined) throw usage(title, `one of ${LOG_LEVELS.join(', ')}, got "${word}"`)
  return level
}

function partOf(word: string, title: string): LogPart {
  const part = LOG_PARTS.find((known) => known === word)
  if (part !== undefined) return part
  const [nearest] = [...LOG_PARTS].sort((a, b) => editDistance(word, a) - editDistance(word, b))
  throw usage(title, `a part of the node: ${LOG_PARTS.join(', ')}; got "${word}", nearest is "${nearest}"`)
}

function usage(title: string, rest: string): InputError {
  return new InputError('usage', `${title}: expected ${rest}`)
}
