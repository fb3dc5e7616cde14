import { solveGate } from '../../../src/model/solved-router.ts'
import { onnxEngine } from '../../../src/tensor/onnx-engine.ts'
import { Cells } from './cells.ts'
import { composePairs } from './compositions.ts'
import { Experiment } from './experiment.ts'
import { gateOf, solve, type GateKind } from './routers.ts'
import { bitsPerByte } from './scorer.ts'
import { FULL } from './settings.ts'
import { loadText } from './text.ts'
const say = () => {}
const cells = await Cells.open('/tmp/paper-full', say)
const text = await loadText('/work/shared/data/suite', FULL, cells)
const x = await Experiment.begin({ engine: onnxEngine(), settings: FULL, cells, text, say, signal: new AbortController().signal })
const C = FULL.config.hiddenSize
const lda: GateKind = { decays: [0.9], solver: 'discriminant', scale: 1 }
const g = process.argv[2] ?? 'law-fr'
for (const spec of process.argv.slice(3)) {
  const [share, peak, steps] = spec.split(',').map(Number) as [number, number, number]
  const own = [await x.statistics('public', [0.9]), await x.statistics(g, [0.9])]
  const t0 = performance.now()
  const pair = await x.pair(g, 1, `x${spec}`, { replayShare: share, gate: solveGate(C, own), training: { ...FULL.expertTraining, peak, steps } })
  const secs = (performance.now() - t0) / 1000
  const p = composePairs(FULL.config, x.publicModel, [pair], { scale: 0, bias: 'carried', shift: 0, publicRows: x.zeroRows })
  const out: string[] = []
  for (const set of ['public', g]) {
    const gate = gateOf(lda, solve(lda, C, own), await x.streams(set), C)
    out.push(bitsPerByte((await x.scorer.score({ params: p, E: 2, topK: 2, gate }, x.heldOut(set).windows, x.windowOf(set))).nats, x.heldOut(set).bytes).toFixed(3))
  }
  console.log(g, spec, ...out, secs.toFixed(0), 's')
}
