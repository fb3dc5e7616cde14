import { execFile } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { beforeAll, describe, expect, it } from 'vitest'

/** What `flexmesh demo --once --json` prints. */
interface Report {
  institutions: { name: string; peerId: string; expert: string; domain: string }[]
  bitsPerByte: Record<string, Record<string, number>>
  macro: { public: number; bestExpert: number; composed: number }
  optOut: { institution: string; before: Record<string, number>; after: Record<string, number> }
  refused: { code: string }[]
  answer: { text: string; experts: { institution: string; share: number }[] }
  seconds: number
}

const main = fileURLToPath(new URL('../../src/main.ts', import.meta.url))
const tsx = fileURLToPath(new URL('../../node_modules/tsx/dist/cli.mjs', import.meta.url))
const PUBLIC = 'public text'

describe('the demo: three processes on loopback, the whole path', () => {
  let report: Report
  let lines: string[]

  beforeAll(async () => {
    const { stdout } = await promisify(execFile)(process.execPath, [tsx, main, 'demo', '--once', '--json'], {
      timeout: 600_000,
      maxBuffer: 2 ** 24,
    })
    lines = stdout.trimEnd().split('\n')
    report = JSON.parse(lines.at(-1) ?? '')
  }, 600_000)

  const of = (domain: string, model: string): number => report.bitsPerByte[domain]?.[model] as number

  it('prints one JSON object and nothing else', () => {
    expect(lines).toHaveLength(1)
    expect(Object.keys(report).sort()).toEqual(
      ['answer', 'bitsPerByte', 'institutions', 'macro', 'optOut', 'refused', 'seconds'].sort(),
    )
    expect(report.institutions).toHaveLength(3)
    expect(new Set(report.institutions.map(({ peerId }) => peerId)).size).toBe(3)
  })

  it('improves each institution’s own domain by at least 12 % over the public model', () => {
    for (const { domain } of report.institutions)
      expect(of(domain, 'composed')).toBeLessThanOrEqual(0.88 * of(domain, 'public'))
  })

  it('beats the best single expert by 8 % and the public model by 15 % on average', () => {
    expect(report.macro.composed).toBeLessThanOrEqual(0.92 * report.macro.bestExpert)
    expect(report.macro.composed).toBeLessThanOrEqual(0.85 * report.macro.public)
  })

  it('makes public text at most 1 % worse', () => {
    expect(of(PUBLIC, 'composed')).toBeLessThanOrEqual(1.01 * of(PUBLIC, 'public'))
  })

  it('gives back at least half of a domain’s gain when its expert is left out, and leaves others alone', () => {
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

  it('refuses the package that was changed after signing, and nothing else', () => {
    expect(report.refused).toEqual([{ code: 'bad-signature' }])
  })

  it('answers with shares that sum to 1', () => {
    expect(report.answer.text.length).toBeGreaterThan(0)
    expect(report.answer.experts).toHaveLength(4)
    expect(report.answer.experts.reduce((sum, { share }) => sum + share, 0)).toBeCloseTo(1, 6)
  })
})
