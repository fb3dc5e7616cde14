import { describe, expect, it } from 'vitest'
import type { PackageState } from '../../src/acceptance/package-states.ts'
import { packageLine, packageLines, stateWords } from '../../src/commands/package-lines.ts'
import { digestOf, utf8 } from '../../src/lib/bytes.ts'
import type { PackageReport, ReportedState } from '../../src/node/packages.ts'
import { DP_STATEMENT } from '../support/packages.ts'

const NOW = 1_800_000_000

function report(state: ReportedState, changes: Partial<PackageReport> = {}): PackageReport {
  return {
    id: digestOf(utf8(state)),
    state,
    institution: 'Archive',
    expert: 'law',
    isOwn: false,
    domain: 'court decisions',
    license: 'CC-BY-4.0',
    bytes: 2_400_000,
    expiresAt: NOW,
    ...changes,
  }
}

function refused(code: string, reason: string): Partial<PackageReport> {
  const verdict = { id: digestOf(utf8('x')), passed: [], at: NOW, check: 'norms', code, reason }
  return { verdict: { ...verdict, outcome: 'refused' } }
}

describe('the state of a package without a verdict', () => {
  it.each<[PackageState, string]>([
    [{ kind: 'announced' }, 'announced, waits for its turn'],
    [{ kind: 'fetching', doneBytes: 40e6, totalBytes: 201e6 }, 'fetching 40.0 of 201.0 MB'],
    [{ kind: 'waiting-for-holder', reason: 'nobody has it' }, 'waiting for a holder: nobody has it'],
    [{ kind: 'disk-full', neededBytes: 5e6, freeBytes: 1e6 }, 'disk full: needs 5.0 MB, 1.0 MB free'],
    [{ kind: 'disk-full', neededBytes: 0, freeBytes: 1e6 }, 'disk full: 1.0 MB free'],
    [{ kind: 'fetched' }, 'fetched, waits to be judged'],
    [{ kind: 'judging', check: 'measurement' }, 'judging (measurement)'],
    [
      { kind: 'judging', check: 'measurement', done: 42, total: 100, secondsLeft: 170 },
      'judging (measurement, 42 %, 3 min left)',
    ],
    [{ kind: 'failed', reason: 'EIO', isFinal: false }, 'cannot be judged now: EIO; will be tried again'],
  ])('%j reads as a sentence', (state, words) => {
    expect(stateWords(digestOf(utf8('package')), state)).toBe(words)
  })
})

describe('the audit of a package', () => {
  const canaries = { count: 100, seed: 1, guesses: 50, right: 40, epsilonLowMicro: 900_000 }
  it.each([
    [{}, 'audited; '],
    [{ canaries }, 'audited, epsilon at least 0.90; '],
    [{ canaries: { ...canaries, epsilonLowMicro: 0 } }, 'audited; '],
    [{ acceptedRisk: 'all have consented' }, 'audited, its owner accepted the risk: all have consented; '],
  ])('%j reads as %s', (found, words) => {
    const audit = { report: digestOf(utf8('report')), ...found }
    expect(packageLine(report('accepted', { audit }))).toContain(`; ${words}`)
  })
})

describe('a line about a package', () => {
  it.each<[ReportedState, Partial<PackageReport>, string]>([
    ['accepted', {}, 'accepted'],
    ['refused', refused('norm-bound', 'too large'), 'refused, norm-bound: too large'],
    ['withdrawn', refused('withdrawn', 'its owner took it back'), 'withdrawn by its owner'],
    [
      'superseded',
      refused('withdrawn', 'its owner took it back'),
      'superseded by a later package of this name',
    ],
    ['expired', refused('expired', 'its consent ended'), 'expired: its consent ended'],
    [
      'refused-by-operator',
      refused('refused-by-operator', 'the operator refused it'),
      'refused by the operator of this node',
    ],
  ])('that is %s says so, and what its manifest says', (state, changes, words) => {
    const line = packageLine(report(state, changes))
    expect(line).toContain(
      `Archive/law: ${words}; 2.4 MB; CC-BY-4.0; domain "court decisions"; privacy not stated; not audited; consent until 2027-01-15`,
    )
  })

  it.each([
    [{ mechanism: 'none' } as const, 'no privacy guarantee'],
    [DP_STATEMENT, 'epsilon 2, delta 5e-5 per document, as its publisher states'],
    [
      { ...DP_STATEMENT, epsilonMicro: 2_011_000, unit: 'source' } as const,
      'epsilon 2.02, delta 5e-5 per source',
    ],
  ])('of a manifest with the statement %j says what protects the text', (privacy, words) => {
    expect(packageLine(report('accepted', { privacy }))).toContain(`; ${words}`)
  })

  it('names what is known about an envelope that holds no manifest', () => {
    const bare = {
      id: digestOf(utf8('x')),
      state: 'refused',
      isOwn: false,
      ...refused('not-json', 'no JSON'),
    }
    expect(packageLine(bare as PackageReport)).toMatch(
      /unknown institution.*unknown expert.*not-json: no JSON$/,
    )
  })

  it('says which packages were published here', () => {
    expect(packageLine(report('accepted', { isOwn: true }))).toMatch(/; published here$/)
  })
})

describe('a list of packages', () => {
  it('begins with those on their way, and ends with those that are no longer offered', () => {
    const states: ReportedState[] = ['withdrawn', 'refused', 'accepted', 'waiting-for-place', 'fetching']
    const lines = packageLines(states.map((state) => report(state)))
    const order = ['fetching', 'accepted', 'waits until', 'refused', 'withdrawn']
    expect(order.map((word, i) => lines[i]?.includes(word))).toEqual(order.map(() => true))
  })

  it('shows the latest 20 that were withdrawn, and counts the others', () => {
    const many = Array.from({ length: 50 }, (_, i) => ({
      ...report('withdrawn', refused('withdrawn', `number ${i}`)),
      expert: `law-${i}`,
      verdict: { id: digestOf(utf8('x')), passed: [], at: NOW + i, outcome: 'accepted' as const },
    }))
    const lines = packageLines(many)
    expect(lines).toHaveLength(21)
    expect(lines[0]).toContain('law-49')
    expect(lines.at(-1)).toBe('and 30 more like these; --json lists all')
  })

  it('shows all that are in use', () => {
    const many = Array.from({ length: 50 }, () => report('accepted'))
    expect(packageLines(many)).toHaveLength(50)
  })
})
