/**
 * The routing of an evaluation as one SVG file: a panel for each domain, with a row for each expert and a column for
 * each layer; a cell holds the expert's share in percent of the weight of the chosen experts. The file needs no
 * script, font or other file.
 */
import { mixtureLabels, peakShare, percent, sharesOf } from './evaluation-lines.ts'
import type { DomainReport, EvaluationReport } from './evaluation-report.ts'
import { displayWidth } from './terminal.ts'

// Pixels.
const CELL = { width: 30, height: 24 }
const MEAN_WIDTH = 44
const LETTER = 7
const MARGIN = 16
const GAP = 32
/** Height of a panel's title and layer numbers. */
const HEAD = 40
const TITLE = 68
const MAX_WIDTH = 1200
const MAX_LABEL = 44

/** Cells of this opacity and above have white numbers, in both themes. */
const STRONG = 0.8

/** Dark if the reader's system is, otherwise light; the file has a background for each. */
const STYLE = `
    text { font: 12px system-ui, sans-serif; fill: #1f2328 }
    .page { fill: #ffffff } .cell { fill: #1d4ed8 } .frame { fill: none; stroke: #8b949e; stroke-opacity: .5 }
    .title { font-size: 15px; font-weight: 600 } .domain { font-weight: 600 } .quiet { fill: #59636e }
    .number { font-size: 11px; text-anchor: middle } .strong { fill: #ffffff } .label { text-anchor: end }
    @media (prefers-color-scheme: dark) {
      text { fill: #e6edf3 } .page { fill: #0d1117 } .cell { fill: #3b6cf0 } .quiet { fill: #9198a1 }
    }
  `

/** The content of the SVG file. */
export function routingPicture(report: EvaluationReport): string {
  const { domains, topK, experts } = report
  const labels = mixtureLabels(report)
  const peak = peakShare(domains)
  const layers = domains[0]?.layerShares.length ?? 0
  const titles = domains.map(({ name }) => LETTER * displayWidth(name))
  const panel = {
    width: Math.max(layers * CELL.width + MEAN_WIDTH, ...titles),
    height: HEAD + labels.length * CELL.height,
  }
  const left = MARGIN + LETTER * Math.max(...labels.map((label) => displayWidth(shortened(label)))) + LETTER
  const fit = Math.floor((MAX_WIDTH - left - MARGIN + GAP) / (panel.width + GAP))
  const across = Math.min(domains.length, Math.max(1, fit))
  const down = Math.ceil(domains.length / across)
  const title = 'Routing by layer: share of each expert in percent of the weight of the chosen experts'
  const key = `${topK} of ${experts.length + 1} experts chosen per token; full colour is ${percent(peak)} %`
  const width = Math.max(left + across * (panel.width + GAP) - GAP, MARGIN + 8 * title.length) + MARGIN
  const height = TITLE + down * (panel.height + GAP) - GAP + MARGIN
  const panels = domains.map((domain, i) => {
    const x = left + (i % across) * (panel.width + GAP)
    const y = TITLE + Math.floor(i / across) * (panel.height + GAP)
    const inside = [...panelOf(domain, labels.length, peak), ...(i % across === 0 ? rowLabels(labels) : [])]
    return [`  <g transform="translate(${x} ${y})">`, ...inside.map((line) => `    ${line}`), '  </g>'].join(
      '\n',
    )
  })
  return `${[
    `<svg xmlns="http://www.w3.org/2000/svg" width="${width}" height="${height}" viewBox="0 0 ${width} ${height}" role="img">`,
    `  <title>${escaped(title)}</title>`,
    `  <style>${STYLE}</style>`,
    `  <rect class="page" width="${width}" height="${height}"/>`,
    `  ${text(MARGIN, 28, 'title', title)}`,
    `  ${text(MARGIN, 48, 'quiet', key)}`,
    ...panels,
    '</svg>',
  ].join('\n')}\n`
}

/** Names of the rows, left of a panel. A shortened name has its full text as a tooltip. */
function rowLabels(labels: readonly string[]): string[] {
  const names = labels.map((label, row) => {
    const short = shortened(label)
    const whole = short === label ? '' : `<title>${escaped(label)}</title>`
    return text(-LETTER, baseline(row), 'label', short, whole)
  })
  return [text(-LETTER, HEAD - 6, 'quiet label', 'layer'), ...names]
}

function panelOf(domain: DomainReport, experts: number, peak: number): string[] {
  const layers = domain.layerShares.length
  const middle = (column: number): number => (column + 0.5) * CELL.width
  const meanAt = layers * CELL.width + MEAN_WIDTH / 2
  const lines = [
    text(0, 12, 'domain', domain.name),
    ...domain.layerShares.map((_, layer) => text(middle(layer), HEAD - 6, 'quiet number', String(layer))),
    text(meanAt, HEAD - 6, 'quiet number', 'mean'),
  ]
  for (let row = 0; row < experts; row++) {
    const { layers: shares, mean } = sharesOf(domain, row)
    const y = HEAD + row * CELL.height
    for (const [layer, share] of shares.entries()) {
      const level = share / peak
      const x = layer * CELL.width
      lines.push(
        `<rect class="cell" x="${x}" y="${y}" width="${CELL.width}" height="${CELL.height}" fill-opacity="${level.toFixed(3)}"/>`,
        text(middle(layer), baseline(row), level >= STRONG ? 'strong number' : 'number', percent(share)),
      )
    }
    lines.push(text(meanAt, baseline(row), 'number', `${percent(mean)} %`))
  }
  const frame = { width: layers * CELL.width, height: experts * CELL.height }
  lines.push(`<rect class="frame" y="${HEAD}" width="${frame.width}" height="${frame.height}"/>`)
  return lines
}

function baseline(row: number): number {
  return HEAD + (row + 0.5) * CELL.height + 4
}

/** @param inside markup, which is not escaped */
function text(x: number, y: number, className: string, content: string, inside = ''): string {
  return `<text class="${className}" x="${x}" y="${y}">${inside}${escaped(content)}</text>`
}

function shortened(label: string): string {
  const characters = [...label]
  return characters.length <= MAX_LABEL ? label : `${characters.slice(0, MAX_LABEL - 1).join('')}…`
}

/** Escapes the four special characters of XML, and replaces characters that XML does not allow. */
function escaped(content: string): string {
  return content
    .replaceAll(/[\p{Cc}\p{Cs}\ufffe\uffff]/gu, '\ufffd')
    .replaceAll('&', '&amp;')
    .replaceAll('<', '&lt;')
    .replaceAll('>', '&gt;')
    .replaceAll('"', '&quot;')
}
