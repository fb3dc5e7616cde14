/**
 * The routing of an evaluation as one SVG file: a panel for each domain, with a row for each expert and a column for
 * each layer; a cell holds the expert's share in percent of the weight of the chosen experts. The file needs no
 * script, font or other file.
 */
import { mixtureLabels, peakShare, percent, sharesOf } from './evaluation-lines.ts'
import type { DomainReport, EvaluationReport } from './evaluation-report.ts'
import { linesOfText, textWidth } from './text-width.ts'

// Pixels.
const CELL = { width: 30, height: 24 }
const MEAN_WIDTH = 44
const MARGIN = 16
/** Distance between a label and the first cell. */
const LABEL_GAP = 7
const GAP = 32
/** Distance between the baselines of two lines of one text. */
const LINE = 14
/** Height of a panel's layer numbers, and of its name if that has one line. */
const HEAD = 40
const TITLE = 68
const MAX_WIDTH = 1200
/** Longer names continue in the next line. */
const MAX_LINE = 300
const FONT = 12
const TITLE_FONT = 15

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
  const labels = mixtureLabels(report).map((label) => linesOfText(label, FONT, MAX_LINE))
  const names = domains.map(({ name }) => linesOfText(name, FONT, MAX_LINE))
  const peak = peakShare(domains)
  const layers = domains[0]?.layerShares.length ?? 0
  const layout: Layout = {
    rows: labels.length,
    rowHeight: Math.max(CELL.height, 10 + LINE * mostLines(labels)),
    head: HEAD + LINE * (mostLines(names) - 1),
  }
  const panel = {
    width: Math.max(layers * CELL.width + MEAN_WIDTH, widest(names, true)),
    height: layout.head + labels.length * layout.rowHeight,
  }
  const left = MARGIN + Math.max(widest(labels), textWidth('layer', FONT)) + LABEL_GAP
  const fit = Math.floor((MAX_WIDTH - left - MARGIN + GAP) / (panel.width + GAP))
  const across = Math.min(domains.length, Math.max(1, fit))
  const down = Math.ceil(domains.length / across)
  const title = 'Routing by layer: share of each expert in percent of the weight of the chosen experts'
  const key = `${topK} of ${experts.length + 1} experts chosen per token; full colour is ${percent(peak)} %`
  const width = Math.ceil(
    MARGIN +
      Math.max(
        left - MARGIN + across * (panel.width + GAP) - GAP,
        textWidth(title, TITLE_FONT, true),
        textWidth(key, FONT),
      ) +
      MARGIN,
  )
  const height = TITLE + down * (panel.height + GAP) - GAP + MARGIN
  const panels = domains.map((domain, i) => {
    const x = Math.round(left + (i % across) * (panel.width + GAP))
    const y = TITLE + Math.floor(i / across) * (panel.height + GAP)
    const inside = [
      ...panelOf(domain, names[i] as string[], layout, peak),
      ...(i % across === 0 ? rowLabels(labels, layout) : []),
    ]
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

/** Dimensions that all panels share. */
interface Layout {
  readonly rows: number
  readonly rowHeight: number
  /** Height of the name and of the layer numbers. */
  readonly head: number
}

function mostLines(texts: readonly (readonly string[])[]): number {
  return Math.max(1, ...texts.map(({ length }) => length))
}

function widest(texts: readonly (readonly string[])[], isBold = false): number {
  return Math.max(0, ...texts.flat().map((line) => textWidth(line, FONT, isBold)))
}

/** Names of the rows, left of a panel. @param labels lines of each name */
function rowLabels(labels: readonly (readonly string[])[], layout: Layout): string[] {
  const names = labels.flatMap((lines, row) =>
    lines.map((line, i) => {
      const y = baseline(row, layout) + LINE * (i - (lines.length - 1) / 2)
      return text(-LABEL_GAP, y, 'label', line)
    }),
  )
  return [text(-LABEL_GAP, layout.head - 6, 'quiet label', 'layer'), ...names]
}

/** @param name lines of the domain's name */
function panelOf(domain: DomainReport, name: readonly string[], layout: Layout, peak: number): string[] {
  const { rows, rowHeight, head } = layout
  const layers = domain.layerShares.length
  const middle = (column: number): number => (column + 0.5) * CELL.width
  const meanAt = layers * CELL.width + MEAN_WIDTH / 2
  const lines = [
    ...name.map((line, i) => text(0, 12 + LINE * i, 'domain', line)),
    ...domain.layerShares.map((_, layer) => text(middle(layer), head - 6, 'quiet number', String(layer))),
    text(meanAt, head - 6, 'quiet number', 'mean'),
  ]
  for (let row = 0; row < rows; row++) {
    const { layers: shares, mean } = sharesOf(domain, row)
    const y = head + row * rowHeight
    for (const [layer, share] of shares.entries()) {
      const level = share / peak
      const x = layer * CELL.width
      lines.push(
        `<rect class="cell" x="${x}" y="${y}" width="${CELL.width}" height="${rowHeight}" fill-opacity="${level.toFixed(3)}"/>`,
        text(
          middle(layer),
          baseline(row, layout),
          level >= STRONG ? 'strong number' : 'number',
          percent(share),
        ),
      )
    }
    lines.push(text(meanAt, baseline(row, layout), 'number', `${percent(mean)} %`))
  }
  const frame = { width: layers * CELL.width, height: rows * rowHeight }
  lines.push(`<rect class="frame" y="${head}" width="${frame.width}" height="${frame.height}"/>`)
  return lines
}

function baseline(row: number, { head, rowHeight }: Layout): number {
  return head + (row + 0.5) * rowHeight + 4
}

function text(x: number, y: number, className: string, content: string): string {
  return `<text class="${className}" x="${x}" y="${y}">${escaped(content)}</text>`
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
