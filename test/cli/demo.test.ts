import { beforeAll, describe, expect, it } from 'vitest'
import type { Report } from '../../src/cli/demo-report.ts'
import { outcome, spawned } from '../support/command-line.ts'

const PUBLIC = 'public text'
/** A tenth of the default; enough for every difference that is asserted here. */
const STEPS = '10'

describe('flexmesh demo, with three processes on loopback', () => {
  let report: Report & { readonly seconds: number }
  let lines: string[]

  beforeAll(async () => {
    const { code, stdout, stderr } = await outcome(spawned('demo', '--once', '--steps', STEPS, '--json'))
    expect([code, stderr]).toEqual([0, ''])
    lines = stdout.trimEnd().split('\n')
    report = JSON.parse(lines.at(-1) ?? '')
  }, 600_000)

  const of = (domain: string, model: string): number => report.bitsPerByte[domain]?.[model] as number

  it('prints one JSON object and nothing else', () => {
    expect(lines).toHaveLength(1)
    expect(Object.keys(report).sort()).toEqual(
      ['answer', 'bitsPerByte', 'institutions', 'macro', 'optOut', 'refused', 'seconds', 'withdrawal'].sort(),
    )
    expect(report.institutions).toHaveLength(3)
    expect(new Set(report.institutions.map(({ peerId }) => peerId)).size).toBe(3)
  })

  it('scores each institution’s own domain at least 12 % better than the public model', () => {
    for (const { domain } of report.institutions)
      expect(of(domain, 'composed')).toBeLessThanOrEqual(0.88 * of(domain, 'public'))
  })

  it('beats the best single expert by 8 % and the public model by 15 % in the mean over domains', () => {
    expect(report.macro.composed).toBeLessThanOrEqual(0.92 * report.macro.bestExpert)
    expect(report.macro.composed).toBeLessThanOrEqual(0.85 * report.macro.public)
  })

  it('makes public text at most 1 % worse', () => {
    expect(of(PUBLIC, 'composed')).toBeLessThanOrEqual(1.01 * of(PUBLIC, 'public'))
  })

  it('loses at least half of a domain’s gain without its expert, and changes the other domains little', () => {
    const { institution, before, after } = report.optOut
    const leaver = report.institutions.find(({ name }) => name === institution)?.domain as string
    const gain = of(leaver, 'public') - (before[leaver] as number)
    expect((after[leaver] as number) - (before[leaver] as number)).toBeGreaterThanOrEqual(gain / 2)
    for (const domain of Object.keys(before)) {
      if (domain === leaver) continue
      const change = Math.abs((after[domain] as number) / (before[domain] as number) - 1)
      expect(change).toBeLessThan(0.02)
    }
  })

  it('shows a withdrawal that both other members answer with a receipt', () => {
    const { expert, name: institution } = report.institutions[1] as Report['institutions'][number]
    expect(report.withdrawal).toEqual({ institution, expert, dropped: 2, members: 2 })
  })

  it('refuses exactly the package that was changed after signing', () => {
    expect(report.refused).toEqual([{ code: 'bad-signature' }])
  })

  it('answers with shares that sum to 1', () => {
    expect(report.answer.text.length).toBeGreaterThan(0)
    expect(report.answer.experts).toHaveLength(4)
    expect(report.answer.experts.reduce((sum, { share }) => sum + share, 0)).toBeCloseTo(1, 6)
  })
})
