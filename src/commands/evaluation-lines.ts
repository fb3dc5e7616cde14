/** An evaluation as lines of text: the table of scores, notes on the text, and the routing by layer. */
import { SENSIBLE_BYTES } from '../jobs/text-size.ts'
import {
  type Bits,
  type DomainReport,
  type EvaluationReport,
  MACRO,
  PUBLIC_TEXT,
} from './evaluation-report.ts'
import { folded, type Style, table } from './terminal.ts'

const LEVELS = '▁▂▃▄▅▆▇█'
/** From grey to red, in tones that are legible on black and on white: codes of the 256 terminal colours. */
const HEAT = [244, 67, 73, 71, 107, 136, 172, 166]
/** Columns reserved for the spaces and numbers beside the cells of a heat map. */
const BESIDE = 30

/** Everything that `flexmesh evaluate` prints. */
export function evaluationLines(report: EvaluationReport, style: Style): string[] {
  const notes = report.domains.flatMap(notesOn)
  if (report.routerNote !== undefined) notes.unshift(report.routerNote)
  if (report.experts.length === 0)
    notes.unshift('no expert is in use: every answer comes from the public model alone')
  return [
    'bits per byte, lower is better; * marks the best of a column',
    '',
    ...scoreTable(report, style),
    ...(notes.length === 0 ? [] : ['', ...notes]),
    ...(report.experts.length === 0 ? [] : ['', ...routing(report, style)]),
  ]
}

/** Labels of the experts in the order of the mixture, the public model first. */
export function mixtureLabels({ experts }: Pick<EvaluationReport, 'experts'>): string[] {
  return ['public model', ...experts.map(({ institution, name }) => `${institution}/${name}`)]
}

const kilobytes = (bytes: number): string => (bytes / 1000).toFixed(1)
export const percent = (share: number): string => String(Math.round(100 * share))

function scoreTable({ experts, domains, macro }: EvaluationReport, style: Style): string[] {
  const rows: [string, (bits: Bits) => number][] = [['public model', (bits) => bits.public]]
  if (experts.length > 0) {
    const labels = experts.map(({ institution, name }) => `${institution}/${name}`)
    labels.forEach((label, i) => {
      rows.push([`public model + ${label}`, (bits) => bits.alone[i] as number])
    })
    rows.push(['composition', (bits) => bits.composed])
    if (macro.without !== undefined) {
      labels.forEach((label, i) => {
        rows.push([`composition without ${label}`, (bits) => bits.without?.[i] as number])
      })
    }
  }
  const columns = [...domains.map(({ bitsPerByte }) => bitsPerByte), macro].map((bits) => {
    const printed = rows.map(([, pick]) => pick(bits).toFixed(3))
    const best = Math.min(...printed.map(Number))
    return printed.map((value) => (Number(value) === best ? `${value}*` : `${value} `))
  })
  const text = [
    ['model', ...[...domains.map(({ name }) => name), MACRO].map((name) => `${name} `)],
    ...rows.map(([label], row) => [label, ...columns.map((column) => column[row] as string)]),
    ['text scored, kB', ...domains.map(({ bytes }) => `${kilobytes(bytes)} `), ''],
  ]
  const bold = (line: string): string =>
    style.color ? line.replaceAll(/\d+\.\d{3}\*/g, (best) => `\u001b[1m${best}\u001b[22m`) : line
  return folded(text, style.columns).map((line) => bold(line).trimEnd())
}

function notesOn({ name, bytes, cut, trainedAs }: DomainReport): string[] {
  const notes: string[] = []
  if (cut) {
    notes.push(
      `${name}: only the first ${kilobytes(bytes)} kB of the text were scored; --kilobytes N scores more`,
    )
  }
  if (bytes < SENSIBLE_BYTES && name !== PUBLIC_TEXT) {
    notes.push(
      `${name}: ${kilobytes(bytes)} kB is little text; differences are reliable from ${kilobytes(SENSIBLE_BYTES)} kB on`,
    )
  }
  if (trainedAs !== undefined) {
    notes.push(
      `${name}: training "${trainedAs}" of this node has read this text, so its expert looks better than it is; --name ${trainedAs} scores text that it has not read`,
    )
  }
  return notes
}

function routing(report: EvaluationReport, style: Style): string[] {
  const { topK, experts, domains } = report
  const labels = mixtureLabels(report)
  const title = `routing: share of each expert in percent of the weight of the chosen experts, by layer (${topK} of ${experts.length + 1} chosen per token)`
  if (!style.color) return [title, ...domains.flatMap((domain) => ['', ...numbers(domain, labels)])]
  const peak = peakShare(domains)
  const width = Math.max(...labels.map((label) => label.length))
  const layers = domains[0]?.layerShares.length ?? 0
  const cell = 2 * layers + width + BESIDE <= (style.columns ?? 80) ? 2 : 1
  return [
    title,
    `each block is one layer, the first layer on the left; ${LEVELS[7]} is ${percent(peak)} %`,
    ...domains.flatMap((domain) => ['', ...heatMap(domain, labels, peak, cell)]),
  ]
}

/** The largest share of all domains and layers, rounded up to a tenth: the full colour. */
export function peakShare(domains: readonly DomainReport[]): number {
  return Math.ceil(10 * Math.max(...domains.flatMap(({ layerShares }) => layerShares.flat()))) / 10
}

/** Shares of one expert in every layer, and their mean. */
export function sharesOf({ layerShares }: DomainReport, expert: number): { layers: number[]; mean: number } {
  const layers = layerShares.map((shares) => shares[expert] as number)
  return { layers, mean: layers.reduce((sum, share) => sum + share, 0) / Math.max(1, layers.length) }
}

function numbers(domain: DomainReport, labels: readonly string[]): string[] {
  return table([
    [domain.name, ...domain.layerShares.map((_, layer) => `layer ${layer}`), 'mean'],
    ...labels.map((label, expert) => {
      const { layers, mean } = sharesOf(domain, expert)
      return [label, ...layers.map(percent), percent(mean)]
    }),
  ])
}

function heatMap(domain: DomainReport, labels: readonly string[], peak: number, cell: number): string[] {
  const rows = labels.map((_, expert) => {
    const { layers, mean } = sharesOf(domain, expert)
    return {
      cells: layers.map((share) => block(share / peak, cell)).join(''),
      mean: `${percent(mean)} %`,
      range: `${percent(Math.min(...layers))}-${percent(Math.max(...layers))}`,
    }
  })
  // `table` would count colour codes as text, so the cells are put between two tables.
  const left = table([domain.name, ...labels].map((name) => [name]))
  const right = table([['', 'mean', 'range'], ...rows.map(({ mean, range }) => ['', mean, range])])
  const blank = ' '.repeat(cell * domain.layerShares.length)
  return left.map((label, i) => `${label}   ${rows[i - 1]?.cells ?? blank}${right[i]}`)
}

function block(level: number, width: number): string {
  const index = Math.min(LEVELS.length - 1, Math.floor(level * LEVELS.length))
  return `\u001b[38;5;${HEAT[index]}m${(LEVELS[index] as string).repeat(width)}\u001b[39m`
}
