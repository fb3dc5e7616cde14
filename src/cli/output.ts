/**
 * What the command line prints: lines and progress for people, or one JSON object with --json. Escapes control
 * characters, because a line may quote a peer, whose text could otherwise control the terminal.
 */
import { once } from 'node:events'
import { createInterface } from 'node:readline'
import type { Style } from '../commands/terminal.ts'
import { completeCommands } from '../lib/command-line.ts'
import { escapeUnprintable } from '../lib/printable.ts'

export interface Output {
  readonly style: Style
  readonly json: boolean
  /** Options that lead a command to the home of this one; commands in lines for people are completed with them. */
  readonly homeOptions: readonly string[]
  /** A line for people; nothing with --json. */
  say(line: string): void
  /**
   * A line that the next one replaces; an empty one ends progress. Without a terminal, the latest line is printed every
   * 30 s until the next line of another kind: on stdout, with --json on stderr.
   */
  progress(line: string): void
  /**
   * The result: the object as the last line of stdout with --json, else its lines.
   * @param isVerbatim whether the lines hold text that must not be changed, and no commands of the program
   */
  result(value: unknown, lines: readonly string[], isVerbatim?: boolean): void
  /**
   * A result that the next one replaces on a terminal; elsewhere results follow each other, and one that equals the last
   * is left out.
   */
  screen(value: unknown, lines: readonly string[]): void
  /** A line for operators, on stderr, with --json too. */
  log(line: string): void
  /** Whether somebody can be asked: both ends are a terminal, and --json was not given. */
  readonly interactive: boolean
  /** Ask for yes or no, on a terminal. @returns whether the answer was yes. */
  ask(question: string, signal: AbortSignal): Promise<boolean>
}

/** Where text goes: the streams of the process, or a recorder. */
export interface TextStream {
  readonly isTTY?: boolean
  readonly columns?: number
  write(text: string): unknown
}

export interface Streams {
  /** Where answers come from; undefined if nobody can be asked. */
  readonly stdin?: NodeJS.ReadableStream & { readonly isTTY?: boolean }
  readonly stdout: TextStream
  readonly stderr: TextStream
}

/** Time between lines of progress where lines cannot be replaced, as in a log file. */
const PROGRESS_INTERVAL_MS = 30_000
/** Columns of a terminal that does not tell its width. */
const DEFAULT_COLUMNS = 80

/**
 * Characters of a printed text that stay although they are control or format characters: line ends, tabs, and the
 * joiners that scripts and emoji need (zero-width non-joiner and joiner).
 */
const KEPT = '\n\t\u200c\u200d'
const ESCAPE = '\u001b'
/** The styles that commands use, in ANSI escape sequences: bold and colours of the palette, each on and off. */
const STYLES = new RegExp(`(${ESCAPE}\\[(?:1|22|38;5;[0-9]{1,3}|39)m)`)

/** @param color whether the styles of the commands are kept */
function printable(text: string, color: boolean): string {
  const parts = color ? text.split(STYLES) : [text]
  return parts.map((part, i) => (i % 2 === 1 ? part : escapeUnprintable(part, KEPT))).join('')
}

/** JSON has escaped only the control characters below U+0020. */
function printableJson(value: unknown): string {
  return JSON.stringify(value).replaceAll(
    /\p{Cc}/gu,
    (character) => `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`,
  )
}

export function createOutput(
  { stdin, stdout, stderr }: Streams,
  json: boolean,
  homeOptions: readonly string[] = [],
): Output {
  const terminal = stdout.isTTY === true
  const color = terminal && !process.env['NO_COLOR'] && process.env['TERM'] !== 'dumb'
  let isLineOpen = false
  let waiting: string | undefined
  let shown: string | undefined
  let timer: NodeJS.Timeout | undefined
  const clear = (): void => {
    waiting = undefined
    if (isLineOpen) stdout.write(`\r${ESCAPE}[2K`)
    isLineOpen = false
  }
  const print = (line: string): void => {
    clear()
    stdout.write(`${printable(line, color)}\n`)
  }
  const complete = (line: string): string => completeCommands(line, homeOptions)
  const stopTimer = (): void => {
    clearInterval(timer)
    timer = undefined
  }
  const printWaiting = (): void => {
    if (waiting !== undefined) (json ? stderr : stdout).write(`${escapeUnprintable(waiting)}\n`)
  }
  return {
    json,
    homeOptions,
    style: {
      ...(terminal ? { columns: stdout.columns || DEFAULT_COLUMNS } : {}),
      color,
    },
    say: (line) => {
      if (json) waiting = undefined
      else print(complete(line))
    },
    progress: (text) => {
      const line = complete(text)
      if (json || !terminal) {
        waiting = line
        if (line === '') stopTimer()
        // The timer does not keep the process running.
        else timer ??= setInterval(printWaiting, PROGRESS_INTERVAL_MS).unref()
        return
      }
      clear()
      stdout.write(escapeUnprintable(line).slice(0, (stdout.columns || DEFAULT_COLUMNS) - 1))
      isLineOpen = true
    },
    result: (value, lines, isVerbatim = false) => {
      clear()
      stopTimer()
      if (json) stdout.write(`${printableJson(value)}\n`)
      else for (const line of lines) print(isVerbatim ? line : complete(line))
    },
    screen: (value, lines) => {
      clear()
      const text = json
        ? printableJson(value)
        : lines.map((line) => printable(complete(line), color)).join('\n')
      // Back to the top, and away with what was there.
      if (!json && terminal) stdout.write(`${ESCAPE}[H${ESCAPE}[J${text}\n`)
      else if (text !== shown) stdout.write(`${text}\n`)
      shown = text
    },
    log: (line) => {
      clear()
      stderr.write(`${printable(line, false)}\n`)
    },
    interactive: !json && terminal && stdin?.isTTY === true,
    ask: async (question, signal) => {
      if (stdin === undefined) return false
      clear()
      stdout.write(`${printable(question, color)} [y/N] `)
      const answer = await firstLine(stdin, signal)
      return /^y(es)?$/i.test(answer.trim())
    },
  }
}

/** One line of input, or what came before its end. */
async function firstLine(input: NodeJS.ReadableStream, signal: AbortSignal): Promise<string> {
  const lines = createInterface({ input, terminal: false })
  try {
    const [line] = (await Promise.race([
      once(lines, 'line', { signal }),
      once(lines, 'close', { signal }),
    ])) as [string?]
    return line ?? ''
  } finally {
    lines.close()
  }
}
