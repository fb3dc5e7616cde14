import { describe, expect, it } from 'vitest'
import { PROTOCOLS } from '../../src/exchange/protocols.ts'
import * as errors from '../../src/lib/errors.ts'
import { LIMITS } from '../../src/lib/limits.ts'
import { PROTOCOL_NAMES, specification, tableUnder, vectorFiles } from '../support/specifications.ts'
import { SUITES } from '../vectors/suites.ts'
import { outcomeOf } from '../vectors/vector.ts'

const CODES: Record<string, readonly string[]> = {
  format: errors.FORMAT_CODES,
  verification: errors.VERIFICATION_CODES,
  policy: errors.POLICY_CODES,
  exchange: errors.EXCHANGE_CODES,
  input: errors.INPUT_CODES,
}

describe.each(Object.entries(SUITES))('the specification of %s', (name, suite) => {
  const readme = specification(name)
  const vectors = vectorFiles(name)

  it('has vectors with which the code agrees', () => {
    const outcomes = vectors.map((vector) => [
      vector.name,
      outcomeOf(() => suite.runVector(vector.input, (bytes) => bytes)),
    ])
    expect(outcomes).toEqual(vectors.map((vector) => [vector.name, vector.expect]))
  })

  it('has the vectors that its generator computes, each in its table', () => {
    const made = Object.entries(suite.makeVectors()).map(([file, vector]) => ({ file, ...vector }))
    made.sort((a, b) => (a.file < b.file ? -1 : 1))
    expect(vectors).toEqual(JSON.parse(JSON.stringify(made)))
    expect(tableUnder(readme, 'Test vectors').map(([vector, expected]) => [vector, expected])).toEqual(
      Object.values(suite.makeVectors()).map((vector) => [vector.name, vector.expect]),
    )
  })

  it('has at least three refusals for each acceptance, and an acceptance for each decoder', () => {
    const accepted = vectors.filter((vector) => vector.expect === 'accept')
    expect(accepted.length).toBeGreaterThan(0)
    expect(vectors.length - accepted.length).toBeGreaterThanOrEqual(3 * accepted.length)
    const decoders = new Set(vectors.map(({ input }) => input['decoder']))
    expect(new Set(accepted.map(({ input }) => input['decoder']))).toEqual(decoders)
  })

  it('states the limits of the code', () => {
    const limits = tableUnder(readme, 'Limits')
    expect(limits.length).toBeGreaterThan(0)
    const table: Record<string, { value: number; unit: string; why: string }> = LIMITS
    for (const [limit = '', value, unit, why] of limits) {
      const { value: number, unit: of, why: reason } = table[limit] ?? { value: 0, unit: '', why: '' }
      expect([limit, value, unit, why]).toEqual([limit, String(number), of, reason])
    }
  })

  it('states the error codes of the code, and every code that its vectors expect', () => {
    const table = tableUnder(readme, 'Errors')
    for (const [code, , family = ''] of table) expect(CODES[family]).toContain(code)
    const codes = new Set(table.map(([code]) => code))
    for (const { expect: expected } of vectors) if (expected !== 'accept') expect(codes).toContain(expected)
  })
})

describe('the specification of package-exchange', () => {
  it('states ids, sizes, times and quotas of every stream protocol', () => {
    const stated = tableUnder(specification('package-exchange'), 'Frames')
    const actual = PROTOCOLS.map(({ row }) => [
      row.id,
      String(row.maxRequestBytes),
      String(row.maxResponseBytes),
      String(row.maxResponseFrames),
      String(row.timeoutMs),
      row.timeoutPer,
      String(row.maxInboundStreams),
      String(row.quota.burst),
      String(row.quota.everyMs),
      row.guests,
    ])
    expect(stated).toEqual(actual)
  })
})

describe('the limits and codes of the program', () => {
  it('are all stated in some specification', () => {
    const text = PROTOCOL_NAMES.map(specification).join('\n')
    // These concern the owner's own text, which no peer sees.
    const local = [
      'documentBytes',
      'parquetPageBytes',
      'sampledTrainBytes',
      'sampledTrainBytesInMemory',
      'heldOutBytes',
      'trainTokens',
      'noisyTrainTokens',
      'noisyHeldOutBytes',
      'evaluatedDomains',
      'evaluatedBytes',
      'evaluatedBytesAsked',
      'encodingTimeout',
      'renderedChatCharacters',
      'egressSegmentBytes',
      'dashboardSessions',
      'apiKeys',
      'usageDays',
      'dashboardLinkLifetime',
      'dashboardSessionLifetime',
      'dashboardStreams',
      'dashboardEvents',
      'dashboardJobs',
      'dashboardPoints',
    ]
    for (const name of Object.keys(LIMITS)) if (!local.includes(name)) expect(text).toContain(`\`${name}\``)
    for (const code of [...errors.FORMAT_CODES, ...errors.VERIFICATION_CODES, ...errors.EXCHANGE_CODES]) {
      expect(text).toContain(`\`${code}\``)
    }
  })
})
