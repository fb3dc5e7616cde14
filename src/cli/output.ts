/** What the command line prints: lines and progress for people, or one JSON object with --json. */
import type { Style } from '../commands/terminal.ts'

export interface Output {
  readonly style: Style
  readonly json: boolean
  /** A line for people; nothing with --json. */
  say(line: string): void
  /** A line that the next one replaces; on a terminal only. */
  progress(line: string): void
  /** The result: the object as the last line of stdout with --json, else its lines. */
  result(value: unknown, lines: readonly string[]): void
  /** A line for operators, on stderr, with --json too. */
  log(line: string): void
}

/** Where text goes: the streams of the process, or a recorder. */
export interface TextStream {
  readonly isTTY?: boolean
  readonly columns?: number
  write(text: string): unknown
}

export interface Streams {
  readonly stdout: TextStream
  readonly stderr: TextStream
}

/** Columns of a terminal that does not tell its width. */
const DEFAULT_COLUMNS = 80

export function createOutput({ stdout, stderr }: Streams, json: boolean): Output {
  const terminal = stdout.isTTY === true
  let isLineOpen = false
  const clear = (): void => {
    if (isLineOpen) stdout.write('\r\u001b[2K')
    isLineOpen = false
  }
  const print = (line: string): void => {
    clear()
    stdout.write(`${line}\n`)
  }
  return {
    json,
    style: {
      ...(terminal ? { columns: stdout.columns ?? DEFAULT_COLUMNS } : {}),
      color: terminal && !process.env['NO_COLOR'] && process.env['TERM'] !== 'dumb',
    },
    say: (line) => {
      if (!json) print(line)
    },
    progress: (line) => {
      if (json || !terminal) return
      clear()
      stdout.write(line.slice(0, (stdout.columns ?? DEFAULT_COLUMNS) - 1))
      isLineOpen = true
    },
    result: (value, lines) => {
      clear()
      if (json) print(JSON.stringify(value))
      else for (const line of lines) print(line)
    },
    log: (line) => {
      clear()
      stderr.write(`${line}\n`)
    },
  }
}
