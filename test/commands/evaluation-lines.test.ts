import { describe, expect, it } from 'vitest'
import { evaluationLines } from '../../src/commands/evaluation-lines.ts'
import type { DomainReport } from '../../src/commands/evaluation-report.ts'
import { displayWidth } from '../../src/commands/terminal.ts'
import { domain, report } from '../support/evaluation-report.ts'

const PLAIN = { color: false }
const CODES = new RegExp(`${'\u001b'}\\[[0-9;]*m`, 'g')

const row = (lines: readonly string[], label: string): string =>
  lines.find((line) => line.startsWith(label)) ?? `no row ${label}`

describe('the table of an evaluation', () => {
  it('has a row for every way of answering and marks the lowest printed number of a column', () => {
    const lines = evaluationLines(report(), PLAIN)
    expect(row(lines, 'public model ')).toMatch(/ 3\.000 +2\.500 +2\.750$/)
    expect(row(lines, 'public model + Archive/law')).toMatch(/ 2\.000\* +2\.400 +2\.200$/)
    expect(row(lines, 'composition  ')).toMatch(/ 2\.100 +1\.500\* +1\.800\*$/)
    expect(row(lines, 'composition without St. Anna Hospital/bio')).toMatch(/ 2\.000\* +2\.300 +2\.150$/)
    expect(row(lines, 'text scored, kB')).toMatch(/ 27\.3 +27\.3$/)
  })

  it('has no rows without an expert if those were not measured', () => {
    const bits = { public: 3, composed: 2, alone: [2.5, 2.6] }
    const domains = [domain('law', bits, [[0.2, 0.7, 0.1]])]
    expect(evaluationLines(report({ domains, macro: bits }), PLAIN).join('\n')).not.toContain('without')
  })

  it('continues below with columns that do not fit, and repeats the labels there', () => {
    const lines = evaluationLines(report(), { columns: 62, color: false })
    const heads = lines.filter((line) => line.startsWith('model '))
    expect(heads.map((head) => head.split(/ {3,}/).slice(1))).toEqual([['French law'], ['医学', 'macro']])
    expect(lines.filter((line) => line.startsWith('composition  '))).toHaveLength(2)
  })

  it('aligns columns whose titles have wide letters', () => {
    const lines = evaluationLines(report(), PLAIN)
    const table = lines.slice(
      0,
      lines.findIndex((line) => line.startsWith('routing')),
    )
    const widths = table
      .filter((line) => /^(model|public|comp)/.test(line))
      .map((line) => displayWidth(line.replace(/\*$/, '')))
    expect(new Set(widths).size).toBe(1)
  })

  it('is followed by notes on little text, text that was cut and text that an expert was trained on', () => {
    const bits = { public: 3, composed: 3, alone: [], without: [] }
    const text = { ...domain('law', bits, [[1]]), bytes: 2000, cut: true, trainedAs: 'mine' }
    const lines = evaluationLines(report({ experts: [], domains: [text], macro: bits }), PLAIN).join('\n')
    expect(lines).toContain('law: only the first 2.0 kB of the text were scored')
    expect(lines).toContain('law: 2.0 kB is little text; differences are reliable from 16.0 kB on')
    expect(lines).toContain('training "mine" of this node has read this text')
  })

  it('says that no expert is in use, and then has no routing', () => {
    const bits = { public: 3, composed: 3, alone: [], without: [] }
    const domains = [domain('law', bits, [[1]])]
    const lines = evaluationLines(report({ experts: [], domains, macro: bits }), PLAIN).join('\n')
    expect(lines).toContain('no expert is in use')
    expect(lines).not.toContain('routing')
  })
})

describe('the routing of an evaluation', () => {
  it('is a table of numbers on an output without colours', () => {
    const lines = evaluationLines(report(), PLAIN)
    const first = lines.findIndex((line) => line.startsWith('French law'))
    expect(lines.slice(first, first + 4).map((line) => line.split(/ {2,}/))).toEqual([
      ['French law', 'layer 0', 'layer 1', 'mean'],
      ['public model', '25', '10', '18'],
      ['Archive/law', '75', '85', '80'],
      ['St. Anna Hospital/bio', '0', '5', '3'],
    ])
    expect(lines.join('\n')).not.toContain('\u001b')
  })

  it('is a heat map on a terminal, with a full block for the largest share', () => {
    const lines = evaluationLines(report(), { columns: 100, color: true })
    const plain = lines.map((line) => line.replaceAll(CODES, ''))
    expect(row(plain, 'Archive/law')).toBe('Archive/law             ▇▇██   80 %   75-85')
    expect(row(plain, 'St. Anna Hospital/bio')).toBe('St. Anna Hospital/bio   ▁▁▁▁    3 %     0-5')
    expect(lines.join('\n')).toContain('\u001b[1m1.500*')
  })

  it('has one character per layer in the heat map of a deep model', () => {
    const layerShares = Array.from({ length: 40 }, () => [0.5, 0.3, 0.2])
    const domains = [{ ...(report().domains[0] as DomainReport), layerShares }]
    const lines = evaluationLines(report({ domains }), { columns: 100, color: true })
    expect(lines.map((line) => line.replaceAll(CODES, ''))).toContain(
      `public model            ${'█'.repeat(40)}   50 %   50-50`,
    )
  })
})
