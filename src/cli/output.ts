/** What the command line prints: progress on a terminal, one JSON object with --json. */
const BAR_WIDTH = 24

/** What the place where lines go can show. */
export interface Style {
  /** Characters in a line; nothing where there is no end. */
  readonly columns?: number
  /** Colours, and with them characters that only make sense on a terminal. */
  readonly color: boolean
}

export interface Output {
  readonly style: Style
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
  const terminal = process.stdout.isTTY === true
  return {
    json,
    style: {
      ...(terminal ? { columns: process.stdout.columns ?? 80 } : {}),
      color: terminal && !process.env['NO_COLOR'] && process.env['TERM'] !== 'dumb',
    },
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

/** Columns of a terminal that text takes: wide letters two, marks above letters none. */
export function displayWidth(text: string): number {
  let width = 0
  for (const character of text) {
    if (/[\p{Mn}\p{Me}\p{Cf}]/u.test(character)) continue
    width += WIDE.test(character) ? 2 : 1
  }
  return width
}
/** East Asian letters and pictures (Unicode TR 11, W and F), in blocks. */
const WIDE =
  /[\u1100-\u115f\u2e80-\ua4cf\uac00-\ud7a3\uf900-\ufaff\ufe30-\ufe6f\uff00-\uff60\uffe0-\uffe6\u{1f300}-\u{1faff}\u{20000}-\u{3fffd}]/u

const GAP = '   '

function widthsOf(rows: readonly (readonly string[])[]): number[] {
  return (rows[0] ?? []).map((_, column) => Math.max(...rows.map((row) => displayWidth(row[column] ?? ''))))
}

/** Columns aligned; the first left, the others right. */
export function table(rows: readonly (readonly string[])[]): string[] {
  const widths = widthsOf(rows)
  return rows.map((row) =>
    row
      .map((cell, i) => {
        const blanks = ' '.repeat((widths[i] as number) - displayWidth(cell))
        return i === 0 ? cell + blanks : blanks + cell
      })
      .join(GAP),
  )
}

/** The same, and columns that do not fit into a line in tables of their own below, after an empty line. */
export function folded(rows: readonly (readonly string[])[], columns = Number.POSITIVE_INFINITY): string[] {
  const [label = 0, ...widths] = widthsOf(rows)
  const lines: string[] = []
  for (let from = 0; from < widths.length; ) {
    let to = from
    let room = columns - label
    while (to < widths.length && (to === from || room >= GAP.length + (widths[to] as number))) {
      room -= GAP.length + (widths[to] as number)
      to++
    }
    if (from > 0) lines.push('')
    lines.push(...table(rows.map(([first = '', ...cells]) => [first, ...cells.slice(from, to)])))
    from = to
  }
  return lines
}

export function duration(seconds: number): string {
  return seconds >= 90 ? `${Math.round(seconds / 60)} min` : `${Math.ceil(seconds)} s`
}
