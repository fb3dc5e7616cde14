/**
 * `npm run plots`: pictures of the benchmarks in plots/, from the JSON lines that results/ keeps of
 * `npm run bench -- NAME --json`. A benchmark without a line there has no picture. Knows no benchmark's work.
 */
import { mkdir, readFile, writeFile } from 'node:fs/promises'
import * as Plot from '@observablehq/plot'
import { parseHTML } from 'linkedom'
import { type PaperLine, paperPlots } from '../paper/plots.ts'

type Numbers = Readonly<Record<string, number>>
/** By model, then by peer. */
type Ratios = Readonly<Record<string, Numbers>>

interface InferenceLine {
  readonly ratios: { readonly decode: Ratios; readonly prefill: Ratios }
  readonly expertsCurve: Numbers
  readonly machine: string
  readonly commit: string
}

interface TrainingLine {
  readonly ratios: Ratios
  readonly machine: string
  readonly commit: string
}

/** Results lie in results/ of a folder, pictures go to plots/ of it. */
const BENCH = new URL('./', import.meta.url)
const PAPER = new URL('../paper/', import.meta.url)
const { document } = parseHTML('<!doctype html><html><body></body></html>')

async function line<T>(name: string, folder = BENCH): Promise<T | undefined> {
  const text = await readFile(new URL(`results/${name}.json`, folder), 'utf8').catch(() => undefined)
  return text === undefined ? undefined : (JSON.parse(text.trim().split('\n').at(-1) as string) as T)
}

async function write(
  name: string,
  options: Plot.PlotOptions,
  where: { readonly machine: string; readonly commit: string },
  folder = BENCH,
) {
  const svg = Plot.plot({
    document,
    width: 640,
    height: 320,
    marginBottom: 64,
    marginTop: 36,
    marginLeft: 48,
    insetTop: 16,
    style: { background: 'white', color: 'black' },
    ...options,
    marks: [
      ...(options.marks ?? []),
      Plot.text([`${where.machine}, commit ${where.commit}`], {
        frameAnchor: 'bottom-right',
        facet: 'super',
        dy: 55,
        fontSize: 9,
        fill: 'gray',
      }),
    ],
  })
  svg.setAttribute('xmlns', 'http://www.w3.org/2000/svg')
  await mkdir(new URL('plots/', folder), { recursive: true })
  await writeFile(new URL(`plots/${name}.svg`, folder), `${svg.outerHTML}\n`)
  console.log(`plots/${name}.svg`)
}

/** Bars of our speed over each peer's, for every model; the line at 1 is the peer. */
function ratioBars(ratios: Ratios, label: string): Plot.PlotOptions {
  const bars = Object.entries(ratios).flatMap(([model, peers]) =>
    Object.entries(peers).map(([peer, ratio]) => ({ model, peer, ratio })),
  )
  return {
    fx: { label: null, domain: Object.keys(ratios) },
    x: { label: null, tickRotate: -20 },
    y: { label, grid: true },
    marks: [
      Plot.barY(bars, { fx: 'model', x: 'peer', y: 'ratio', fill: 'peer' }),
      Plot.ruleY([1], { strokeDasharray: '4 3' }),
      Plot.text(bars, {
        fx: 'model',
        x: 'peer',
        y: 'ratio',
        text: (d) => `${d.ratio.toFixed(2)}x`,
        dy: -7,
        // Readable where the line at 1 passes.
        fill: 'black',
        stroke: 'white',
        strokeWidth: 5,
      }),
    ],
  }
}

const inference = await line<InferenceLine>('inference')
if (inference !== undefined) {
  const { decode, prefill } = inference.ratios
  await write('decode', ratioBars(decode, 'times the decoding speed of the peer, by model'), inference)
  await write('prefill', ratioBars(prefill, 'times the prompt speed of the peer, by model'), inference)
  const curve = Object.entries(inference.expertsCurve).map(([experts, ms]) => ({ experts: +experts, ms }))
  const channels = { x: 'experts', y: 'ms' } as const
  await write(
    'experts',
    {
      insetLeft: 20,
      x: {
        labelAnchor: 'left',
        label: 'composed experts, two active',
        type: 'log',
        base: 2,
        ticks: curve.map((d) => d.experts),
        tickFormat: 'd',
      },
      y: { label: 'ms a token, model M', zero: true, grid: true },
      marks: [
        Plot.line(curve, channels),
        Plot.dot(curve, { ...channels, fill: 'black' }),
        Plot.text(curve, { ...channels, text: (d) => d.ms.toFixed(2), dy: -10 }),
      ],
    },
    inference,
  )
}
const training = await line<TrainingLine>('training')
if (training !== undefined) {
  const torch = Object.entries(training.ratios).map(([model, { torchEager, torchCompile, rss }]) => [
    model,
    { 'PyTorch eager': torchEager, 'torch.compile': torchCompile, 'memory (rss)': rss },
  ])
  await write('training', ratioBars(Object.fromEntries(torch), 'times the peer, by model'), training)
}
const paper = await line<PaperLine>('paper', PAPER)
if (paper !== undefined) {
  for (const [name, options] of Object.entries(paperPlots(paper)))
    await write(`paper-${name}`, options, paper, PAPER)
}
