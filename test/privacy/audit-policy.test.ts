import { describe, expect, it } from 'vitest'
import { digestOf, utf8 } from '../../src/lib/bytes.ts'
import { auditStatement } from '../../src/owner/release.ts'
import { type Figures, findingsOf, outcomeOf } from '../../src/privacy/audit-policy.ts'
import { isReleased, kept, reportLines, reportOf } from '../../src/privacy/audit-report.ts'
import { canaryAudit } from '../../src/privacy/canary-audit.ts'
import type { Extraction } from '../../src/privacy/extraction-audit.ts'
import { attack } from '../../src/privacy/membership-audit.ts'

const extraction = (texts: number, extracted: number): Extraction => ({
  texts,
  greedy: extracted,
  fewTries: extracted,
  manyTries: extracted,
  extracted,
})

/** About 100 canaries, each of which a memorising model gives away. */
const included = Array.from({ length: 100 }, (_, i) => i < 50)
const GIVEN_AWAY = canaryAudit(
  included.map((is) => (is ? 1 : 0)),
  included,
  0,
)

/** Scores of members that are above all others for a share of them. */
const recognised = (share: number) =>
  attack(
    Array.from({ length: 500 }, (_, i) => (i < share * 500 ? 2 : 0)),
    Array.from({ length: 100 }, (_, i) => i / 100),
  )

const HONEST: Figures = {
  canaries: { ...GIVEN_AWAY, right: 27, epsilonLow: 0 },
  extraction: { train: extraction(300, 1), trainPublic: extraction(300, 1), heldOut: extraction(60, 0) },
  membership: { members: 500, others: 100, lossRatio: recognised(0.01), minK: recognised(0.02) },
}
const OVERFITTED: Figures = {
  canaries: GIVEN_AWAY,
  extraction: { train: extraction(50, 45), trainPublic: extraction(50, 0), heldOut: extraction(60, 0) },
  membership: { members: 500, others: 100, lossRatio: recognised(1), minK: recognised(0.9) },
}

const report = (figures: Figures, declared?: { epsilon: number; delta: number }) =>
  reportOf({
    subject: { training: 'ward', expert: digestOf(utf8('ward')), rank: 0, dtype: 'BF16', lowered: 0 },
    ...(declared && { declared }),
    canarySeed: 7,
    figures,
    findings: findingsOf(figures, declared?.epsilon),
    at: 1_800_000_000,
    seconds: 20,
  })

describe('the findings of an audit', () => {
  it('are none about an honest expert', () => {
    expect(findingsOf(HONEST, undefined)).toEqual([])
    expect(outcomeOf([])).toBe('pass')
  })

  it('stop an overfitted expert by each of the three attacks', () => {
    const findings = findingsOf(OVERFITTED, undefined)
    expect(findings.map(({ measure, severity }) => `${measure} ${severity}`)).toEqual([
      'canaries stop',
      'extraction stop',
      'membership stop',
      'membership stop',
    ])
    expect(outcomeOf(findings)).toBe('stop')
  })

  it.each<[keyof Figures, Partial<Figures>]>([
    ['canaries', { canaries: GIVEN_AWAY }],
    ['extraction', { extraction: OVERFITTED.extraction }],
    ['membership', { membership: OVERFITTED.membership }],
  ])('stop it by %s alone', (_, change) => {
    expect(outcomeOf(findingsOf({ ...HONEST, ...change }, undefined))).toBe('stop')
  })

  it('do not count what the public model or held-out text give away, too', () => {
    const known = extraction(300, 200)
    const everywhere = { train: known, trainPublic: known, heldOut: extraction(60, 0) }
    expect(findingsOf({ ...HONEST, extraction: everywhere }, undefined)).toEqual([])
    const alike = { train: known, trainPublic: extraction(300, 0), heldOut: extraction(60, 40) }
    expect(findingsOf({ ...HONEST, extraction: alike }, undefined)).toEqual([])
  })

  it('warn between the two bounds', () => {
    const some = { ...HONEST.extraction, train: extraction(300, 6) }
    expect(outcomeOf(findingsOf({ ...HONEST, extraction: some }, undefined))).toBe('warn')
    const few = { ...HONEST.membership, minK: recognised(0.15) }
    expect(outcomeOf(findingsOf({ ...HONEST, membership: few }, undefined))).toBe('warn')
  })

  it('do not stop an expert because of chance among few texts', () => {
    // 1 of 3 members recognised: the interval begins at 0.8 %.
    const few = attack([0, 0, 2], [0.5, 1])
    const membership = { members: 3, others: 2, lossRatio: few, minK: few }
    expect(findingsOf({ ...HONEST, membership }, undefined)).toEqual([])
  })

  it('are a bug if more was found than the training declared, and nothing if less was', () => {
    const bound = GIVEN_AWAY.epsilonLow
    const found = { ...HONEST, canaries: GIVEN_AWAY }
    expect(outcomeOf(findingsOf(found, bound - 0.01))).toBe('bug')
    expect(outcomeOf(findingsOf(found, bound + 0.01))).toBe('pass')
  })
})

describe('a report', () => {
  it('releases an expert that passes, or whose risk was accepted, but never one with a bug', () => {
    expect(isReleased(report(HONEST))).toBe(true)
    const stopped = report(OVERFITTED)
    expect(isReleased(stopped)).toBe(false)
    expect(isReleased({ ...stopped, acceptedRisk: 'agreed' })).toBe(true)
    const bug = report(OVERFITTED, { epsilon: 1, delta: 1e-5 })
    expect(isReleased({ ...bug, acceptedRisk: 'agreed' })).toBe(false)
  })

  it('says in words what was found and what follows', () => {
    const lines = reportLines(report(OVERFITTED)).join('\n')
    expect(lines).toContain(
      'canaries: 50 of 50 guesses about 100 were right (seed 7), so epsilon is at least 2.78',
    )
    expect(lines).toMatch(/training text, expert +50 +90\.0 % +90\.0 % +90\.0 %/)
    expect(lines).toContain('100.0 % recognised (500; 95 % interval 99.3 % to 100.0 %)')
    expect(lines).toContain('too much: 90.0 % of 50 pieces of training text can be extracted')
    expect(lines).toContain('result: publishing stops, unless the risk is accepted')
  })

  it('has a digest that nobody can guess from its figures', () => {
    expect(kept(report(HONEST)).digest).not.toBe(kept(report(HONEST)).digest)
  })

  it('of a training with a guarantee gives the manifest no figure of private text', () => {
    const statement = auditStatement(kept(report(HONEST, { epsilon: 8, delta: 1e-5 })))
    expect(Object.keys(statement)).toEqual(['report', 'canaries'])
    expect(Object.keys(auditStatement(kept(report(HONEST))))).toEqual([
      'report',
      'canaries',
      'extraction',
      'membership',
    ])
  })
})
