import { resolve } from 'node:path'
import { zeroRows } from '../../../src/model/params.ts'
import { onnxEngine } from '../../../src/tensor/onnx-engine.ts'
import { Cells } from './cells.ts'
import { composePairs } from './compositions.ts'
import { type GateKind, gateOf, solve, statistics } from './routers.ts'
import { bitsPerByte, Scorer } from './scorer.ts'
import { FULL, MIXED_WINDOW, PURE_WINDOW, QUICK } from './settings.ts'
import { whitenedStart } from './starts.ts'
import { loadText, sampler } from './text.ts'
import { trainPair, trainPublic, type Laboratory } from './trainings.ts'

const settings = process.argv[2] === 'full' ? FULL : QUICK
const say = (l: string) => console.log(l)
const cells = await Cells.open(resolve(process.argv[3] as string), say)
const text = await loadText('/work/shared/data/suite', settings, cells)
const engine = onnxEngine()
const lab: Laboratory = { engine, settings, cells, text, say, signal: new AbortController().signal }
const publicModel = await trainPublic(lab)
const { config } = settings
const C = config.hiddenSize
const guests = text.domains.slice(1)
const shares = (process.argv[4] ?? '0.5').split(',').map(Number)
const scorer = new Scorer(engine, config)

const streams = new Map<string, Float32Array[]>()
for (const d of text.domains) streams.set(d, await scorer.streams(publicModel, text.test(d).windows, PURE_WINDOW))
const mixedStreams = await scorer.streams(publicModel, text.mixed.windows, MIXED_WINDOW)
const trainStreams = new Map<string, Float32Array[]>()
for (const d of text.domains) {
  const s = sampler(text.train(d), 127, 99)
  const ids = await Promise.all(Array.from({ length: 256 }, (_, i) => s(i)))
  trainStreams.set(d, await scorer.streams(publicModel, ids.map((ids) => ({ document: 0, ids, labels: ids })), 128))
}
const evaluate = async (label: string, params: any, E: number, topK: number, kind?: GateKind) => {
  const gate = kind && solve(kind, C * kind.decays.length, text.domains.map((d) => statistics(trainStreams.get(d)!, C, kind.decays)))
  const bpb: number[] = []
  for (const d of text.domains) {
    const model = { params, E, topK, ...(kind && gate ? { gate: gateOf(kind, gate, streams.get(d)!, C) } : {}) }
    bpb.push(bitsPerByte((await scorer.score(model, text.test(d).windows, PURE_WINDOW)).nats, text.test(d).bytes))
  }
  const model = { params, E, topK, ...(kind && gate ? { gate: gateOf(kind, gate, mixedStreams, C) } : {}) }
  const mixed = bitsPerByte((await scorer.score(model, text.mixed.windows, MIXED_WINDOW)).nats, text.mixed.bytes)
  console.log(label.padEnd(50), bpb.map((x) => x.toFixed(3)).join(' '), 'macro', (bpb.reduce((a, b) => a + b) / bpb.length).toFixed(4), 'mixed', mixed.toFixed(4))
}
console.log(' '.repeat(50), text.domains.join(' '))
await evaluate('public', publicModel, 1, 1)
for (const share of shares) {
  const pairs: any[] = []
  for (const domain of guests) {
    const start = await whitenedStart(lab, publicModel, domain, 1)
    const pair = await trainPair(lab, publicModel, { name: `pair-${domain}-replay${share}-s1`, domain, seed: 1, replayShare: share, rows: start.rows, bias: true })
    pairs.push(pair)
    if (process.argv[5] === 'pairs') await evaluate(`pair ${domain} ${share}`, composePairs(config, publicModel, [pair], { scale: 1, bias: 'carried', shift: 0, publicRows: zeroRows(config) }), 2, 2)
  }
  const rows = (scale: number, bias: 'carried' | 'dropped', shift: number) => composePairs(config, publicModel, pairs, { scale, bias, shift, publicRows: zeroRows(config) })
  const E = pairs.length + 1
  const K = Math.min(4, E)
  await evaluate(`${share} rows carried -2`, rows(1, 'carried', -2), E, K)
  await evaluate(`${share} rows carried`, rows(1, 'carried', 0), E, K)
  for (const decay of [0.8, 0.9, 0.95]) for (const scale of [1, 2]) await evaluate(`${share} lda ${decay} x${scale}`, rows(0, 'dropped', 0), E, K, { decays: [decay], solver: 'discriminant', scale })
  await evaluate(`${share} ridge .9 x10`, rows(0, 'dropped', 0), E, K, { decays: [0.9], solver: 'ridge', ridge: 0.01, scale: 10 })
  await evaluate(`${share} ridge .9 x20`, rows(0, 'dropped', 0), E, K, { decays: [0.9], solver: 'ridge', ridge: 0.01, scale: 20 })
  await evaluate(`${share} lda .9 + rows`, rows(1, 'carried', 0), E, K, { decays: [0.9], solver: 'discriminant', scale: 1 })
  await evaluate(`${share} lda .9 + rows/2`, rows(0.5, 'carried', 0), E, K, { decays: [0.9], solver: 'discriminant', scale: 1 })
  await evaluate(`${share} lda .7,.95 x1`, rows(0, 'dropped', 0), E, K, { decays: [0.7, 0.95], solver: 'discriminant', scale: 1 })
  await evaluate(`${share} lda .9 top1`, rows(0, 'dropped', 0), E, 1, { decays: [0.9], solver: 'discriminant', scale: 1 })
  await evaluate(`${share} lda .9 top2`, rows(0, 'dropped', 0), E, 2, { decays: [0.9], solver: 'discriminant', scale: 1 })
}
