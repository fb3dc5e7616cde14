/** Results of the table's rows: means and deviations over seeds, and the table as text. Does not compute rows. */
import { type Bits, MIXED, macro } from './experiment.ts'

export type RowGroup = 'headline' | 'bound' | 'own' | 'whole' | 'recipe' | 'router' | 'experts' | 'rank'

export interface RowResult {
  readonly id: string
  readonly label: string
  readonly group: RowGroup
  readonly compute: number
  /** Bits per byte by set, for each seed that was run. */
  readonly bySeed: Readonly<Record<string, Bits>>
}

export interface Spread {
  readonly mean: number
  /** Sample deviation; 0 for one seed. */
  readonly deviation: number
  readonly seeds: number
}

export function spread(values: readonly number[]): Spread {
  const mean = values.reduce((a, b) => a + b, 0) / values.length
  const squares = values.reduce((sum, value) => sum + (value - mean) ** 2, 0)
  return {
    mean,
    deviation: values.length > 1 ? Math.sqrt(squares / (values.length - 1)) : 0,
    seeds: values.length,
  }
}

/** Spread of a column, or of the macro average over domains; NaN if the row lacks the column. */
export function column({ bySeed }: RowResult, set: string): Spread {
  return spread(
    Object.values(bySeed).map((bits) => (set === 'macro' ? macro(bits) : (bits[set] ?? Number.NaN))),
  )
}

const WIDTH = 9

/** The table as lines of text. */
export function tableLines(results: readonly RowResult[], sets: readonly string[]): string[] {
  const columns = [...sets.filter((set) => set !== MIXED), 'macro', MIXED]
  const label = Math.max(...results.map((row) => row.label.length))
  const head = `${'bits per byte'.padEnd(label)} ${columns.map((name) => name.padStart(WIDTH)).join('')}  compute`
  const lines = results.map((row) => {
    const cells = columns.map((name) => {
      const { mean } = column(row, name)
      return (Number.isNaN(mean) ? '' : mean.toFixed(3)).padStart(WIDTH)
    })
    const { deviation, seeds } = column(row, 'macro')
    const note = seeds > 1 ? `  ±${deviation.toFixed(3)} macro over ${seeds} seeds` : ''
    return `${row.label.padEnd(label)} ${cells.join('')}  ${row.compute.toFixed(1)}x${note}`
  })
  return [head, ...lines]
}
