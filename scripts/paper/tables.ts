/**
 * Prints results of `bench -- paper` as a Markdown table, as in README.md.
 * Usage: tsx scripts/paper/tables.ts RESULTS.json [GROUP...]
 */
import { readFile } from 'node:fs/promises'
import { MIXED } from './experiment.ts'
import type { PaperResults } from './pictures.ts'
import { column, type RowResult } from './results.ts'

const [path, ...groups] = process.argv.slice(2)
if (path === undefined) {
  console.error('usage: tsx scripts/paper/tables.ts RESULTS.json [GROUP...]')
  process.exit(2)
}
const line = JSON.parse(await readFile(path, 'utf8')) as PaperResults
const sets = line.sets.filter((set) => set !== MIXED)
const rows = line.rows.filter(({ group }) => groups.length === 0 || groups.includes(group))
print(['row', '`--row`', ...sets, 'macro', MIXED, 'compute'])
print(['---', '---', ...sets.map(() => '---:'), '---:', '---:', '---:'])
for (const row of rows) {
  const means = sets.map((set) => column(row, set).mean.toFixed(3))
  const compute = `${row.compute.toFixed(1)}x`
  print([row.label, `\`${row.id}\``, ...means, withSpread(row, 'macro'), withSpread(row, MIXED), compute])
}

function withSpread(row: RowResult, set: string): string {
  const { mean, deviation, seeds } = column(row, set)
  if (Number.isNaN(mean)) return ''
  return seeds > 1 ? `${mean.toFixed(3)} ± ${deviation.toFixed(3)}` : mean.toFixed(3)
}

function print(cells: readonly string[]): void {
  console.log(`| ${cells.join(' | ')} |`)
}
