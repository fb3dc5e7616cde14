/** What the pictures of the paper's tables show, from the JSON line of `bench -- paper`. Does not write files. */
import * as Plot from '@observablehq/plot'
import type { Measured } from '../bench/picture.ts'
import { MIXED } from './experiment.ts'
import { column, type RowResult } from './results.ts'

export interface PaperResults extends Measured {
  readonly sets: readonly string[]
  readonly rows: readonly RowResult[]
  /** (layers x experts) by set. */
  readonly routing?: Readonly<Record<string, readonly (readonly number[])[]>>
}

const AXIS_ROOM = 250

/** Plots by name; a plot whose rows were not run is left out. */
export function paperPictures(line: PaperResults): Readonly<Record<string, Plot.PlotOptions>> {
  const optOut = optOutPlot(line)
  const has = (isOne: (row: RowResult) => boolean): boolean => line.rows.some(isOne)
  return {
    headline: headlinePlot(line),
    ...(has(({ id }) => id.startsWith('gate-top-')) ? { experts: activeExpertsPlot(line) } : {}),
    ...(has(({ group }) => group === 'recipe')
      ? { recipes: barsOf(line, ['recipe', 'router'], 'macro bits per byte') }
      : {}),
    ...(has(({ group }) => group === 'own')
      ? { trunk: barsOf(line, ['own', 'whole'], 'macro bits per byte') }
      : {}),
    ...(line.routing === undefined ? {} : { routing: routingPlot(line.routing, line.sets) }),
    ...(optOut === undefined ? {} : { 'opt-out': optOut }),
    ...(has(({ group }) => group === 'rank') ? { rank: rankPlot(line) } : {}),
  }
}

/** Bars of the macro average over pure domains and of mixed documents. Of single experts, only the best is shown. */
function headlinePlot({ rows }: PaperResults): Plot.PlotOptions {
  const shown = rows.filter(({ id }) => !/^(dense|pair)-/.test(id))
  const headline = shown.filter(({ group }) => group === 'headline' || group === 'bound')
  const best = bestSingle(rows)
  const data = [...headline, ...(best === undefined ? [] : [best])].flatMap((row) =>
    ['macro', MIXED].map((set) => ({
      label: row.label,
      set: set === 'macro' ? 'bits per byte, pure domains (macro)' : 'bits per byte, mixed documents',
      ...column(row, set),
    })),
  )
  return {
    height: 30 * headline.length + 130,
    width: 860,
    marginLeft: AXIS_ROOM,
    y: { label: null, domain: [...new Set(data.map(({ label }) => label))] },
    fx: { label: null },
    x: { label: null, grid: true },
    marks: [
      Plot.barX(data, {
        fx: 'set',
        y: 'label',
        x: 'mean',
        fill: (d) => (d.label.includes('default') ? '#1b9e77' : '#9aa5b1'),
      }),
      Plot.ruleY(
        data.filter(({ seeds }) => seeds > 1),
        {
          fx: 'set',
          y: 'label',
          x1: (d) => d.mean - d.deviation,
          x2: (d) => d.mean + d.deviation,
        },
      ),
      Plot.text(data, {
        fx: 'set',
        y: 'label',
        x: 'mean',
        text: (d) => d.mean.toFixed(3),
        dx: 6,
        textAnchor: 'start',
      }),
    ],
    insetRight: 36,
  }
}

/** The single expert with the lowest macro average. */
function bestSingle(rows: readonly RowResult[]): RowResult | undefined {
  const singles = rows.filter(({ id }) => /^(dense|pair)-/.test(id))
  return singles.toSorted((a, b) => column(a, 'macro').mean - column(b, 'macro').mean)[0]
}

function barsOf(
  { rows }: PaperResults,
  groups: readonly RowResult['group'][],
  label: string,
): Plot.PlotOptions {
  const data = rows
    .filter(({ group, id }) => groups.includes(group) || id === 'gate' || id === 'rows' || id === 'plain')
    .map((row) => ({ label: row.label, value: firstSeed(row) }))
    .sort((a, b) => a.value - b.value)
  return {
    height: 22 * data.length + 138,
    marginBottom: 70,
    width: 760,
    marginLeft: AXIS_ROOM + 40,
    insetRight: 36,
    y: { label: null, domain: data.map((d) => d.label) },
    x: { label, grid: true, labelAnchor: 'center', labelOffset: 34 },
    marks: [
      Plot.barX(data, {
        y: 'label',
        x: 'value',
        fill: (d) => (d.label.includes('default') ? '#1b9e77' : '#9aa5b1'),
      }),
      Plot.text(data, {
        y: 'label',
        x: 'value',
        text: (d) => d.value.toFixed(3),
        dx: 6,
        textAnchor: 'start',
      }),
    ],
  }
}

/** Macro average of the first seed, the only seed of the ablations. */
function firstSeed(row: RowResult): number {
  const [seed] = Object.keys(row.bySeed)
  return column(
    { ...row, bySeed: { [seed as string]: row.bySeed[seed as string] as RowResult['bySeed'][string] } },
    'macro',
  ).mean
}

function activeExpertsPlot({ rows }: PaperResults): Plot.PlotOptions {
  const points = rows.flatMap((row) => {
    const [, router, k] = /^(gate|rows)-top-(\d+)$/.exec(row.id) ?? []
    if (router !== undefined && k !== undefined) return [{ router, k: Number(k), value: firstSeed(row) }]
    return row.id === 'gate' || row.id === 'rows' ? [{ router: row.id, k: 4, value: firstSeed(row) }] : []
  })
  const data = points.toSorted((a, b) => a.k - b.k)
  const channels = { x: 'k', y: 'value', stroke: 'router' } as const
  return {
    marginRight: 60,
    x: {
      label: 'active experts, of seven',
      tickFormat: 'd',
      ticks: [1, 2, 3, 4, 5, 6, 7],
      labelAnchor: 'center',
    },
    y: { label: 'macro bits per byte', grid: true },
    marks: [
      Plot.line(data, channels),
      Plot.dot(data, channels),
      Plot.text(
        data,
        Plot.selectLast({ x: 'k', y: 'value', z: 'router', text: 'router', dx: 8, textAnchor: 'start' }),
      ),
    ],
  }
}

/** Loss of each domain, in per cent, when an expert is left out. */
function optOutPlot({ rows, sets }: PaperResults): Plot.PlotOptions | undefined {
  const whole = rows.find(({ id }) => id === 'gate')
  const gone = rows.filter(({ id }) => id.startsWith('without-'))
  if (whole === undefined || gone.length === 0) return undefined
  const [seed] = Object.keys(gone[0]?.bySeed ?? {})
  const bits = (row: RowResult, set: string): number => row.bySeed[seed as string]?.[set] as number
  const data = gone.flatMap((row) =>
    sets.map((set) => ({
      left: row.id.replace('without-', ''),
      set,
      loss: 100 * (bits(row, set) / bits(whole, set) - 1),
    })),
  )
  return {
    ...cells('loss in % on', 'expert left out'),
    color: { type: 'symlog', scheme: 'OrRd' },
    marks: [
      Plot.cell(data, { x: 'set', y: 'left', fill: (d) => Math.max(0, d.loss), inset: 1 }),
      Plot.text(data, {
        x: 'set',
        y: 'left',
        text: (d) => d.loss.toFixed(1),
        fill: (d) => (d.loss > 10 ? 'white' : 'black'),
      }),
    ],
  }
}

/** Share of each expert by domain, for every layer. */
function routingPlot(
  routing: NonNullable<PaperResults['routing']>,
  sets: readonly string[],
): Plot.PlotOptions {
  const experts = sets.filter((set) => set !== MIXED)
  const data = Object.entries(routing).flatMap(([set, layers]) =>
    layers.flatMap((shares, layer) =>
      shares.map((share, e) => ({ set, layer: `layer ${layer + 1}`, expert: experts[e] ?? '', share })),
    ),
  )
  return {
    ...cells('expert', 'text'),
    fy: { label: null },
    height: 640,
    marginRight: 60,
    color: { scheme: 'Greens', domain: [0, 1] },
    x: { label: 'expert', domain: experts, labelAnchor: 'left' },
    y: { label: 'text', domain: [...sets] },
    marks: [
      Plot.cell(data, { fy: 'layer', x: 'expert', y: 'set', fill: 'share', inset: 0.5 }),
      Plot.text(data, {
        fy: 'layer',
        x: 'expert',
        y: 'set',
        text: (d) => (d.share < 0.005 ? '' : (100 * d.share).toFixed(0)),
        fill: (d) => (d.share > 0.6 ? 'white' : 'black'),
        fontSize: 9,
      }),
    ],
  }
}

function cells(x: string, y: string): Plot.PlotOptions {
  return { marginLeft: 80, width: 700, x: { label: x, labelAnchor: 'center' }, y: { label: y } }
}

function rankPlot({ rows }: PaperResults): Plot.PlotOptions {
  const full = rows.find(({ id }) => id === 'gate')
  const data = rows.flatMap((row) => {
    const [, how, rank] = /^(svd|trained)-rank-(\d+)$/.exec(row.id) ?? []
    return how === undefined || rank === undefined ? [] : [{ how, rank: Number(rank), value: firstSeed(row) }]
  })
  const channels = { x: 'rank', y: 'value', stroke: 'how' } as const
  return {
    marginRight: 70,
    x: {
      label: 'rank of an expert',
      type: 'log',
      base: 2,
      ticks: [...new Set(data.map((d) => d.rank))],
      tickFormat: 'd',
      labelAnchor: 'center',
    },
    y: { label: 'macro bits per byte', grid: true },
    marks: [
      ...(full === undefined ? [] : [Plot.ruleY([firstSeed(full)], { strokeDasharray: '4 3' })]),
      Plot.line(data, channels),
      Plot.dot(data, channels),
      Plot.text(
        data,
        Plot.selectLast({ x: 'rank', y: 'value', z: 'how', text: 'how', dx: 8, textAnchor: 'start' }),
      ),
    ],
  }
}
