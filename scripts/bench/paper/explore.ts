import { solveGate } from '../../../src/model/solved-router.ts'
import { onnxEngine } from '../../../src/tensor/onnx-engine.ts'
import { Cells } from './cells.ts'
import { composePairs } from './compositions.ts'
import { Experiment } from './experiment.ts'
import type { GateKind } from './routers.ts'
import { bitsPerByte } from './scorer.ts'
import { FULL } from './settings.ts'
import { loadText } from './text.ts'

const settings = FULL
const say = (l: string) => {
  if (!l.startsWith('  ') || l.includes('200/200')) console.log(l)
}
const cells = await Cells.open('/tmp/paper-full', say)
const text = await loadText('/work/shared/data/suite', settings, cells)
const x = await Experiment.begin({
  engine: onnxEngine(),
  settings,
  cells,
  text,
  say,
  signal: new AbortController().signal,
})
const { config } = settings
const C = config.hiddenSize
const guests = ['law-fr', 'math', 'code']
const sets = ['public', ...guests]
const idx = [0, ...guests.map((g) => text.domains.indexOf(g))]
const lda: GateKind = { decays: [0.9], solver: 'discriminant', scale: 1 }
const show = async (label: string, params: any, E: number, topK: number, kind?: GateKind) => {
  const out: number[] = []
  for (const set of sets) {
    let gate: any
    if (kind) {
      const owners = []
      for (const i of idx.slice(0, E)) owners.push(await x.statistics(text.domains[i]!, kind.decays))
      const { solve, gateOf } = await import('./routers.ts')
      gate = gateOf(kind, solve(kind, C * kind.decays.length, owners), await x.streams(set), C)
    }
    out.push(
      bitsPerByte(
        (
          await x.scorer.score(
            { params, E, topK, ...(gate ? { gate } : {}) },
            x.heldOut(set).windows,
            x.windowOf(set),
          )
        ).nats,
        x.heldOut(set).bytes,
      ),
    )
  }
  console.log(
    label.padEnd(34),
    out.map((v) => v.toFixed(3)).join(' '),
    'macro',
    (out.reduce((a, b) => a + b) / out.length).toFixed(4),
  )
}
console.log(sets.join(' '))
await show('public', x.publicModel, 1, 1)
const lr = (peak: number) => ({ ...settings.expertTraining, peak })
const recipes: [string, any, boolean][] = [
  ['pair', {}, false],
  ['g25', { replayShare: 0.25 }, true],
  ['g25lr4', { replayShare: 0.25, training: lr(4e-3) }, true],
  ['g0lr4', { replayShare: 0, training: lr(4e-3) }, true],
  ['r25lr4', { replayShare: 0.25, training: lr(4e-3) }, false],
  ['g25lr8', { replayShare: 0.25, training: lr(8e-3) }, true],
]
for (const [name, variant, gated] of recipes) {
  const pairs: any[] = []
  for (const g of guests) {
    const gate = gated
      ? { gate: solveGate(C, [await x.statistics('public', [0.9]), await x.statistics(g, [0.9])]) }
      : {}
    const pair = await x.pair(g, 1, name, { ...variant, ...gate })
    pairs.push(pair)
    if (g === 'law-fr') {
      const p = composePairs(config, x.publicModel, [pair], {
        scale: gated ? 0 : 1,
        bias: 'carried',
        shift: 0,
        publicRows: x.zeroRows,
      })
      await show(`${name} pair ${g}`, p, 2, 2, gated ? lda : undefined)
    }
  }
  const rows = (scale: number, shift: number) =>
    composePairs(config, x.publicModel, pairs, { scale, bias: 'carried', shift, publicRows: x.zeroRows })
  if (!gated) {
    await show(`${name} rows -2`, rows(1, -2), 4, 4)
    await show(`${name} rows`, rows(1, 0), 4, 4)
  }
  await show(`${name} lda`, rows(0, 0), 4, 4, lda)
  await show(`${name} lda x.5`, rows(0, 0), 4, 4, { ...lda, scale: 0.5 })
  await show(`${name} lda x2`, rows(0, 0), 4, 4, { ...lda, scale: 2 })
  if (!gated) await show(`${name} lda + rows`, rows(1, 0), 4, 4, lda)
  if (name === 'pair') for (const d of ['law-fr', 'math']) await show(`dense ${d}`, await x.dense(d, 1), 1, 1)
  await show(`${name} lda .95`, rows(0, 0), 4, 4, { ...lda, decays: [0.95] })
  await show(`${name} lda .8`, rows(0, 0), 4, 4, { ...lda, decays: [0.8] })
}
