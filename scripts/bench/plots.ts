/** Pictures of the benchmarks, for `npm run plots`. A benchmark without results has no picture. */
import * as Plot from '@observablehq/plot'
import { type Measured, resultsOf, writePicture } from './picture.ts'

type Numbers = Readonly<Record<string, number>>
/** Our speed divided by a peer's, by model and then by peer. */
type Ratios = Readonly<Record<string, Numbers>>

interface InferenceResults extends Measured {
  readonly ratios: { readonly decode: Ratios; readonly prefill: Ratios }
  /** Milliseconds for one token, by number of composed experts. */
  readonly expertsCurve: Numbers
}

interface TrainingResults extends Measured {
  readonly ratios: Ratios
}

const FOLDER = new URL('./', import.meta.url)

/** Bars of our speed divided by each peer's, for every model; the line at 1 is the peer. */
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
        // The outline keeps the figure readable where the line at 1 crosses it.
        fill: 'black',
        stroke: 'white',
        strokeWidth: 5,
      }),
    ],
  }
}

function expertsCurve(msByExperts: Numbers): Plot.PlotOptions {
  const curve = Object.entries(msByExperts).map(([experts, ms]) => ({ experts: +experts, ms }))
  const channels = { x: 'experts', y: 'ms' } as const
  return {
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
  }
}

const inference = await resultsOf<InferenceResults>(FOLDER, 'inference')
if (inference !== undefined) {
  const { decode, prefill } = inference.ratios
  const pictures = {
    decode: ratioBars(decode, 'times the decoding speed of the peer, by model'),
    prefill: ratioBars(prefill, 'times the prompt speed of the peer, by model'),
    experts: expertsCurve(inference.expertsCurve),
  }
  for (const [name, options] of Object.entries(pictures)) await writePicture(FOLDER, name, options, inference)
}
const training = await resultsOf<TrainingResults>(FOLDER, 'training')
if (training !== undefined) {
  const torch = Object.entries(training.ratios).map(([model, { torchEager, torchCompile, rss }]) => [
    model,
    { 'PyTorch eager': torchEager, 'torch.compile': torchCompile, 'memory (rss)': rss },
  ])
  const options = ratioBars(Object.fromEntries(torch), 'times the peer, by model')
  await writePicture(FOLDER, 'training', options, training)
}
