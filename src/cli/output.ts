/** What the command line prints: progress on a terminal, one JSON object with --json. */
const BAR_WIDTH = 24

export interface Output {
  readonly json: boolean
  /** A line for people; nothing with --json. */
  say(line: string): void
  /** A line that the next one replaces, on a terminal only. */
  progress(line: string): void
  /** The result: the object as the last line of stdout with --json, else its lines. */
  result(value: unknown, lines: readonly string[]): void
}

export function createOutput(json: boolean): Output {
  const live = !json && process.stdout.isTTY === true
  let open = false
  const clear = (): void => {
    if (open) process.stdout.write('\r\u001b[2K')
    open = false
  }
  return {
    json,
    say: (line) => {
      clear()
      if (!json) console.log(line)
    },
    progress: (line) => {
      if (!live) return
      clear()
      process.stdout.write(line.slice(0, (process.stdout.columns ?? 80) - 1))
      open = true
    },
    result: (value, lines) => {
      clear()
      if (json) console.log(JSON.stringify(value))
      else for (const line of lines) console.log(line)
    },
  }
}

export function bar(done: number, total: number): string {
  const filled = total === 0 ? BAR_WIDTH : Math.round((BAR_WIDTH * done) / total)
  return `${'█'.repeat(filled)}${'░'.repeat(BAR_WIDTH - filled)}`
}

export function megabytes(done: number, total: number): string {
  return `${Math.round(done / 1e6)}/${Math.round(total / 1e6)} MB`
}

/** Columns aligned; the first left, the others right. */
export function table(rows: readonly (readonly string[])[]): string[] {
  const widths = (rows[0] ?? []).map((_, column) =>
    Math.max(...rows.map((row) => (row[column] ?? '').length)),
  )
  return rows.map((row) =>
    row
      .map((cell, i) => (i === 0 ? cell.padEnd(widths[i] as number) : cell.padStart(widths[i] as number)))
      .join('   '),
  )
}

export function duration(seconds: number): string {
  return seconds >= 90 ? `${Math.round(seconds / 60)} min` : `${Math.ceil(seconds)} s`
}
