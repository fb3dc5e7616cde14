import { describe, expect, it } from 'vitest'
import { MEASUREMENT_CHECKS } from '../../src/acceptance/accept.ts'
import {
  checkGateShare,
  checkLoadShare,
  checkOwnText,
  checkPublicText,
  type Measurement,
} from '../../src/acceptance/measurement-checks.ts'
import { DEFAULT_POLICY } from '../../src/acceptance/policy.ts'
import { PUBLISH } from '../../src/commands/publish.ts'
import { TRAIN } from '../../src/commands/train.ts'
import { codeOf } from '../support/packages.ts'

/** Text that becomes a thousandth worse, and little of the routing. */
const HONEST: Measurement = {
  public: { before: 1.483, after: 1.484 },
  own: { before: 2, after: 2.002 },
  publicLoadShare: 0.04,
  publicGateShare: 0.1,
}
const CHECKS = [checkLoadShare, checkGateShare, checkPublicText, checkOwnText]

function refusal(change: Partial<Measurement>): { code: string; reason: string } {
  const measured = { ...HONEST, ...change }
  let reason = ''
  const code = codeOf(() => {
    try {
      for (const check of CHECKS) check(measured, DEFAULT_POLICY)
    } catch (error) {
      reason = (error as Error).message
      throw error
    }
  })
  return { code, reason }
}

/** Changes that a check refuses by default, with the code. */
const REFUSED: readonly (readonly [string, Partial<Measurement>])[] = [
  ['load-share', { publicLoadShare: 0.31 }],
  ['load-share', { publicLoadShare: Number.NaN }],
  ['gate-share', { publicGateShare: 0.46 }],
  ['gate-share', { publicGateShare: 0.5 }],
  ['harms-public', { public: { before: 1.483, after: 1.504 } }],
  ['harms-public', { public: { before: 1.483, after: Number.NaN } }],
  ['harms-own', { own: { before: 2, after: 2.31 } }],
]

describe('the checks of a measurement', () => {
  it('cover every row of the table of acceptance', () => {
    expect(MEASUREMENT_CHECKS.map(({ id }) => id)).toEqual([
      'load-share',
      'gate-share',
      'public-text',
      'own-text',
    ])
  })

  it.each([
    ['an honest expert', {}],
    ['public text that becomes as much worse as calibration allows', { public: { before: 1, after: 1.005 } }],
    ['statistics of speeches, of which the public text has some', { publicGateShare: 0.402 }],
    ['an expert of a mixture of kinds of public text', { publicGateShare: 0.392 }],
    ['an expert that improves the text of this node', { own: { before: 2, after: 1 } }],
  ] as const)('accept %s', (_, change) => {
    expect(refusal(change).code).toBe('accept')
  })

  it.each(REFUSED)(
    'refuse with %s, and say what was found and what the owner can do next',
    (code, change) => {
      const found = refusal(change)
      expect(found.code).toBe(code)
      expect(found.reason).toMatch(/at most [\d.]+ %.*; its owner can /)
    },
  )

  it('name only options that the commands have', () => {
    const help = `${TRAIN.usage} ${PUBLISH.usage}`
    for (const [, change] of REFUSED) {
      const options = refusal(change).reason.match(/--[a-z-]+/g) ?? []
      expect(options).not.toEqual([])
      for (const option of options) expect(help).toContain(option)
    }
  })
})
