/** Text for terminals: columns, bars, durations. Does not know what is printed, and prints nothing itself. */

/** Capabilities of the output. */
export interface Style {
  /** Characters in a line; undefined if lines may be of any length. */
  readonly columns?: number
  /** Colours, and with them characters that only make sense on a terminal. */
  readonly color: boolean
}

const BAR_WIDTH = 24

export function bar(done: number, total: number): string {
  const filled = total === 0 ? BAR_WIDTH : Math.round((BAR_WIDTH * done) / total)
  return `${'█'.repeat(filled)}${'░'.repeat(BAR_WIDTH - filled)}`
}

export function megabytes(done: number, total: number): string {
  return `${Math.round(done / 1e6)}/${Math.round(total / 1e6)} MB`
}

export function duration(seconds: number): string {
  return seconds >= 90 ? `${Math.round(seconds / 60)} min` : `${Math.ceil(seconds)} s`
}

/** "3 h ago", for a time that has passed, in seconds. */
export function ago(seconds: number): string {
  if (seconds < 90) return 'a moment ago'
  if (seconds < 90 * 60) return `${Math.round(seconds / 60)} min ago`
  return seconds < 48 * 3600
    ? `${Math.round(seconds / 3600)} h ago`
    : `${Math.round(seconds / 86_400)} days ago`
}

/** Bits per byte as tables print them; empty if there was no text to score. */
export function bits(value: number | undefined): string {
  return value === undefined ? '' : value.toFixed(3)
}

/** The day of a Unix time in seconds, in UTC. */
export function day(seconds: number): string {
  return new Date(seconds * 1000).toISOString().slice(0, 10)
}

/** The local time of day of a Unix time in seconds: 14:05. */
export function timeOfDay(seconds: number): string {
  return new Date(seconds * 1000).toTimeString().slice(0, 5)
}

/** "today", or "in 3 days". @param days whole days, not negative */
export function daysLeft(days: number): string {
  return days === 0 ? 'today' : `in ${days} day${days === 1 ? '' : 's'}`
}

/** Number of terminal columns that a text takes: two for a wide letter, none for a combining mark. */
export function displayWidth(text: string): number {
  let width = 0
  for (const character of text) {
    if (/[\p{Mn}\p{Me}\p{Cf}]/u.test(character)) continue
    width += WIDE.test(character) ? 2 : 1
  }
  return width
}
/** East Asian letters and pictographs: Unicode TR 11, classes W and F, as blocks. */
const WIDE =
  /[\u1100-\u115f\u2e80-\ua4cf\uac00-\ud7a3\uf900-\ufaff\ufe30-\ufe6f\uff00-\uff60\uffe0-\uffe6\u{1f300}-\u{1faff}\u{20000}-\u{3fffd}]/u

const GAP = '   '

function widthsOf(rows: readonly (readonly string[])[]): number[] {
  return (rows[0] ?? []).map((_, column) => Math.max(...rows.map((row) => displayWidth(row[column] ?? ''))))
}

/** Aligns columns: the first to the left, the others to the right. */
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

/**
 * Like `table`, but columns that do not fit into a line follow below in further tables with the same first column,
 * each after an empty line.
 */
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
