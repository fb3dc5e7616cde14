import { parseHTML } from 'linkedom'
import { describe, expect, it } from 'vitest'
import { evaluationLines } from '../../src/cli/evaluation.ts'
import { displayWidth } from '../../src/cli/output.ts'
import { routingPicture } from '../../src/cli/routing-picture.ts'
import type { Bits, DomainReport, EvaluationReport } from '../../src/commands/evaluate.ts'
import { biasName } from '../../src/lib/tensor-names.ts'
import { createEvaluator } from '../../src/model/evaluate.ts'
import { LEFT_OUT } from '../../src/model/router.ts'
import { onnx, oracle } from '../support/engines.ts'
import { golden, goldenConfig, goldenMixture } from '../support/golden.ts'

const PLAIN = { color: false }

function domain(name: string, bitsPerByte: Bits, layerShares: number[][]): DomainReport {
  const loadShares = layerShares[0] as number[]
  return { name, documents: 3, tokens: 9000, bytes: 27_300, cut: false, bitsPerByte, loadShares, layerShares }
}

/** Two experts, two layers: the first expert is best on law, the composition on medicine. */
function report(change: Partial<EvaluationReport> = {}): EvaluationReport {
  const law = { public: 3, composed: 2.1, alone: [2, 2.9], without: [2.8, 2.00049] }
  const medicine = { public: 2.5, composed: 1.5, alone: [2.4, 1.6], without: [1.7, 2.3] }
  const macro = { public: 2.75, composed: 1.8, alone: [2.2, 2.25], without: [2.25, 2.15] }
  return {
    public: 2.75,
    composed: 1.8,
    alone: {},
    loadShares: [0.5, 0.3, 0.2],
    router: 'rows',
    topK: 2,
    experts: [
      { id: 'sha256:aa', name: 'law', institution: 'Archive' },
      { id: 'sha256:bb', name: 'bio', institution: 'St. Anna Hospital' },
    ],
    domains: [
      domain('French law', law, [
        [0.25, 0.75, 0],
        [0.1, 0.85, 0.05],
      ]),
      domain('医学', medicine, [
        [0.4, 0.1, 0.5],
        [0.2, 0.1, 0.7],
      ]),
    ],
    macro,
    ...change,
  }
}

const row = (lines: readonly string[], label: string): string =>
  lines.find((line) => line.startsWith(label)) ?? `no row ${label}`

describe('the table of an evaluation', () => {
  const lines = evaluationLines(report(), PLAIN)

  it('has a row for every way of answering and marks what prints as the best of a column', () => {
    expect(row(lines, 'public model ')).toMatch(/ 3\.000 +2\.500 +2\.750$/)
    expect(row(lines, 'public model + Archive/law')).toMatch(/ 2\.000\* +2\.400 +2\.200$/)
    expect(row(lines, 'composition  ')).toMatch(/ 2\.100 +1\.500\* +1\.800\*$/)
    expect(row(lines, 'composition without St. Anna Hospital/bio')).toMatch(/ 2\.000\* +2\.300 +2\.150$/)
    expect(row(lines, 'text scored, kB')).toMatch(/ 27\.3 +27\.3$/)
  })

  it('leaves the opt-out rows away where they were not measured', () => {
    const bits = { public: 3, composed: 2, alone: [2.5, 2.6] }
    const domains = [domain('law', bits, [[0.2, 0.7, 0.1]])]
    expect(evaluationLines(report({ domains, macro: bits }), PLAIN).join('\n')).not.toContain('without')
  })

  it('folds columns that do not fit, each part with its labels, and lines up wide letters', () => {
    const folded = evaluationLines(report(), { columns: 62, color: false })
    const heads = folded.filter((line) => line.startsWith('model '))
    expect(heads.map((head) => head.split(/ {3,}/).slice(1))).toEqual([['French law'], ['医学', 'macro']])
    expect(folded.filter((line) => line.startsWith('composition  '))).toHaveLength(2)
    const ends = lines
      .slice(
        0,
        lines.findIndex((line) => line.startsWith('routing')),
      )
      .filter((line) => /^(model|public|comp)/.test(line))
      .map((line) => displayWidth(line.replace(/\*$/, '')))
    expect(new Set(ends).size).toBe(1)
  })

  it('says what to know about the text, and that nothing is composed', () => {
    const bits = { public: 3, composed: 3, alone: [], without: [] }
    const text = { ...domain('law', bits, [[1]]), bytes: 2000, cut: true, trainedAs: 'mine' }
    const said = evaluationLines(report({ experts: [], domains: [text], macro: bits }), PLAIN).join('\n')
    expect(said).toContain('law: only the first 2.0 kB of its text were scored')
    expect(said).toContain('law: 2.0 kB is little text; differences mean something from 16.0 kB on')
    expect(said).toContain('training "mine" here has read this text')
    expect(said).toContain('no expert is composed')
    expect(said).not.toContain('routing')
  })
})

describe('the routing of an evaluation', () => {
  it('is numbers without colours', () => {
    const lines = evaluationLines(report(), PLAIN)
    const at = lines.findIndex((line) => line.startsWith('French law'))
    expect(lines.slice(at, at + 4).map((line) => line.split(/ {2,}/))).toEqual([
      ['French law', 'layer 0', 'layer 1', 'mean'],
      ['public model', '25', '10', '18'],
      ['Archive/law', '75', '85', '80'],
      ['St. Anna Hospital/bio', '0', '5', '3'],
    ])
    expect(lines.join('\n')).not.toContain('\u001b')
  })

  it('is blocks on a terminal, a full one for the largest share', () => {
    const lines = evaluationLines(report(), { columns: 100, color: true })
    const codes = new RegExp(`${'\u001b'}\\[[0-9;]*m`, 'g')
    const plain = lines.map((line) => line.replaceAll(codes, ''))
    expect(row(plain, 'Archive/law')).toBe('Archive/law             ▇▇██   80 %   75-85')
    expect(row(plain, 'St. Anna Hospital/bio')).toBe('St. Anna Hospital/bio   ▁▁▁▁    3 %     0-5')
    expect(lines.join('\n')).toContain('\u001b[1m1.500*')
    // A model of many layers has a character a layer.
    const deep = Array.from({ length: 40 }, () => [0.5, 0.3, 0.2])
    const domains = [{ ...(report().domains[0] as DomainReport), layerShares: deep }]
    const narrow = evaluationLines(report({ domains }), { columns: 100, color: true })
    expect(narrow.map((line) => line.replaceAll(codes, ''))).toContain(
      `public model            ${'█'.repeat(40)}   50 %   50-50`,
    )
  })
})

describe('the picture of an evaluation', () => {
  const parse = (svg: string) => parseHTML(svg).document

  it('has a cell for every domain, expert and layer, and the same numbers', () => {
    const svg = parse(routingPicture(report()))
    expect(svg.querySelectorAll('rect.cell')).toHaveLength(2 * 3 * 2)
    const texts = [...svg.querySelectorAll('text')].map((text) => text.textContent)
    expect(texts).toEqual(
      expect.arrayContaining(['French law', '医学', 'Archive/law', 'layer', '85', '80 %']),
    )
    expect([...svg.querySelectorAll('rect.cell')].map((cell) => cell.getAttribute('fill-opacity'))).toContain(
      '0.944',
    )
  })

  it('escapes names, cuts long ones and fetches nothing', () => {
    const hostile = '</text><script>alert("1")</script>&\u0000'
    const experts = [
      { id: 'sha256:aa' as const, name: 'x'.repeat(64), institution: 'A & B' },
      { id: 'sha256:bb' as const, name: 'bio', institution: 'Hospital' },
    ]
    const domains = [{ ...(report().domains[0] as DomainReport), name: hostile }]
    const text = routingPicture(report({ experts, domains }))
    expect(text).not.toMatch(/<script|href|url\(/)
    expect(text).not.toContain('\u0000')
    expect(text).toContain('&lt;/text&gt;&lt;script&gt;')
    expect(text).toContain(`<title>A &amp; B/${'x'.repeat(64)}</title>`)
    expect(parse(text).querySelectorAll('script')).toHaveLength(0)
  })

  it('breaks panels into rows before it grows beyond a page', () => {
    const many = Array.from({ length: 20 }, () => report().domains[0] as DomainReport)
    const svg = parse(routingPicture(report({ domains: many }))).querySelector('svg')
    const width = Number(svg?.getAttribute('width'))
    expect(width).toBeLessThanOrEqual(1200)
    const ends = [...(svg?.querySelectorAll('g') ?? [])].map((panel) => panel.getAttribute('transform'))
    expect(new Set(ends).size).toBe(20)
  })
})

describe('shares of the routing weight by layer', () => {
  const [, chosen] = Object.entries(golden.cases).find(
    ([, { experts, top_k }]) => top_k < experts.length,
  ) as [string, (typeof golden.cases)[string]]
  const E = chosen.experts.length
  const ids = golden.input_ids

  it.each([onnx, oracle])(
    'are those of the golden vectors, over the weight of the chosen: $name',
    async (engine) => {
      const params = goldenMixture(chosen.experts)
      for (let layer = 0; layer < goldenConfig.numHiddenLayers; layer++) {
        const bias = chosen.bias?.[layer] ?? new Array<number>(E - 1).fill(0)
        params.set(biasName(layer), { shape: [E], data: Float32Array.from([0, ...bias]) })
      }
      // The window of the evaluator begins with end-of-text: with the first token of the vectors, here.
      const document = { tokens: Int32Array.from([...ids.slice(1), 0]), bytes: 100 }
      const init = { E, topK: chosen.top_k, B: 2, T: ids.length, endOfText: ids[0] as number }
      const evaluator = await createEvaluator(engine, goldenConfig, params, init)
      const scored: number[] = []
      const { layerShares } = await evaluator.evaluate(
        [document],
        { mask: new Float32Array(E) },
        undefined,
        (windows) => scored.push(windows),
      )
      expect(scored).toEqual([1])
      const expected = chosen.layers.map(({ topk_index, topk_weight }) => {
        const shares = new Array<number>(E).fill(0)
        topk_index.forEach((indexes, token) => {
          const weights = topk_weight[token] as number[]
          const total = weights.reduce((a, b) => a + b, 0)
          indexes.forEach((e, i) => {
            shares[e] = (shares[e] as number) + (weights[i] as number) / total / ids.length
          })
        })
        return shares
      })
      expect(layerShares).toHaveLength(expected.length)
      const worst = layerShares.flatMap((shares, l) =>
        shares.map((x, e) => Math.abs(x - (expected[l]?.[e] as number))),
      )
      expect(Math.max(...worst)).toBeLessThan(1e-5)
      // An expert left out has no share, and the others' still sum to 1.
      const mask = new Float32Array(E)
      mask[E - 1] = LEFT_OUT
      const without = await evaluator.evaluate([document], { mask })
      for (const shares of without.layerShares) {
        expect(shares[E - 1]).toBe(0)
        expect(shares.reduce((a, b) => a + b, 0)).toBeCloseTo(1, 5)
      }
      await evaluator.dispose()
    },
  )
})
