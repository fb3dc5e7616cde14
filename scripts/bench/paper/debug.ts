import { onnxEngine } from '../../../src/tensor/onnx-engine.ts'
import { Cells } from './cells.ts'
import { Experiment, MIXED, macro } from './experiment.ts'
import { GATE, Rows } from './rows.ts'
import { QUICK, type Settings } from './settings.ts'
import { loadText } from './text.ts'

const tr = { steps: 6, B: 4, T: 64, peak: 2e-3, warmupSteps: 2, finalShare: 0.5 }
const settings: Settings = {
  ...QUICK,
  config: {
    ...QUICK.config,
    vocabSize: 512,
    hiddenSize: 32,
    intermediateSize: 64,
    numHiddenLayers: 2,
    numAttentionHeads: 2,
    numKeyValueHeads: 2,
  },
  publicTraining: { ...tr, steps: 30 },
  expertTraining: tr,
  domainTokens: 20000,
  publicTokens: 40000,
  evaluationBytes: 1500,
  mixedTokens: 1024,
}
const say = (l: string) => console.log(l)
const cells = await Cells.open('/tmp/paper-debug', say)
const text = await loadText('/work/shared/data/suite', settings, cells)
const x = await Experiment.begin({
  engine: onnxEngine(),
  settings,
  cells,
  text,
  say,
  signal: new AbortController().signal,
})
const r = new Rows(x)
const show = async (label: string, nats: any) => {
  const b = x.bits(await nats)
  console.log(
    label.padEnd(20),
    x.sets.map((s) => b[s]?.toFixed(3)).join(' '),
    macro(b).toFixed(4),
    b[MIXED]?.toFixed(3),
  )
}
await show('public', r.publicModel())
await show('dense', r.dense('math', 1))
await show('pair', r.pair('math', 1))
await show('soup', r.uniformSoup(1))
await show('wsoup', r.weightedSoup(1))
const b = await r.btm(1)
console.log('tau', b.temperature)
await show('btm', b.nats)
await show('prompt', r.promptRouting(1))
await show('btx', r.btx(1))
await show('joint', r.joint(1, 'half'))
await show('gate', r.composition('flexmesh', 1, { gate: GATE }))
await show('gate -1', r.composition('flexmesh-1', 1, { gate: GATE, present: [0, 2, 3, 4, 5, 6] }))
await show('rows', r.composition('flexmesh-rows', 1, {}))
await show('plain', r.plain(1))
await show('rt', r.routerTuned(1))
await show('rtgate', r.routerTuned(1, GATE))
await show('nocoord', r.noCoordination(1))
await show(
  'random',
  r.recipe('random', 1, (d) => r.starts.random(d, 1), GATE),
)
