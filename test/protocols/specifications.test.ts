import { readdirSync, readFileSync } from 'node:fs'
import { describe, expect, it } from 'vitest'
import { PROTOCOLS } from '../../src/exchange/protocols.ts'
import * as errors from '../../src/lib/errors.ts'
import { LIMITS } from '../../src/lib/limits.ts'
import { composition } from '../vectors/composition.ts'
import { consortiumCharter } from '../vectors/consortium-charter.ts'
import { inferenceApi } from '../vectors/inference-api.ts'
import { packageExchange } from '../vectors/package-exchange.ts'
import { outcomeOf, type Vector, type VectorSuite } from '../vectors/vector.ts'

const SUITES: Record<string, VectorSuite> = {
  'consortium-charter': consortiumCharter,
  'package-exchange': packageExchange,
  composition,
  'inference-api': inferenceApi,
}
const CODES: Record<string, readonly string[]> = {
  format: errors.FORMAT_CODES,
  verification: errors.VERIFICATION_CODES,
  policy: errors.POLICY_CODES,
  exchange: errors.EXCHANGE_CODES,
  input: errors.INPUT_CODES,
}
const protocols = new URL('../../protocols/', import.meta.url)

/** Cells of the table under a heading, without its head. */
function rows(readme: string, heading: string): string[][] {
  const section = readme.split(`\n## ${heading}\n`)[1]?.split('\n## ')[0] ?? ''
  const table = section.split('\n').filter((line) => line.startsWith('| ') && !line.startsWith('| ---'))
  return table.slice(1).map((line) =>
    line
      .split('|')
      .slice(1, -1)
      .map((cell) => cell.trim().replaceAll('`', '')),
  )
}

describe.each(Object.entries(SUITES))('the specification of %s', (name, suite) => {
  const folder = new URL(`${name}/`, protocols)
  const readme = readFileSync(new URL('README.md', folder), 'utf8')
  const files = readdirSync(new URL('vectors/', folder)).sort()
  const vectors = files.map((file): Vector & { file: string } => ({
    file,
    ...JSON.parse(readFileSync(new URL(`vectors/${file}`, folder), 'utf8')),
  }))

  it('has vectors with which the code agrees', () => {
    const outcomes = vectors.map((vector) => [vector.name, outcomeOf(() => suite.runVector(vector.input))])
    expect(outcomes).toEqual(vectors.map((vector) => [vector.name, vector.expect]))
  })

  it('has the vectors that its generator makes, each in its table', () => {
    const made = Object.entries(suite.makeVectors()).map(([file, vector]) => ({ file, ...vector }))
    made.sort((a, b) => (a.file < b.file ? -1 : 1))
    expect(vectors).toEqual(JSON.parse(JSON.stringify(made)))
    expect(rows(readme, 'Test vectors').map(([vector, expected]) => [vector, expected])).toEqual(
      Object.values(suite.makeVectors()).map((vector) => [vector.name, vector.expect]),
    )
  })

  it('refuses at least three times as often as it accepts', () => {
    const accepted = vectors.filter((vector) => vector.expect === 'accept').length
    expect(accepted).toBeGreaterThan(0)
    expect(vectors.length - accepted).toBeGreaterThanOrEqual(3 * accepted)
  })

  it('states the limits of the code', () => {
    const limits = rows(readme, 'Limits')
    expect(limits.length).toBeGreaterThan(0)
    const table: Record<string, { value: number; unit: string; why: string }> = LIMITS
    for (const [limit = '', value, unit, why] of limits) {
      const { value: number, unit: of, why: reason } = table[limit] ?? { value: 0, unit: '', why: '' }
      expect([limit, value, unit, why]).toEqual([limit, String(number), of, reason])
    }
  })

  it('states the error codes of the code, and all that its vectors expect', () => {
    const table = rows(readme, 'Errors')
    for (const [code, , family = ''] of table) expect(CODES[family]).toContain(code)
    const codes = new Set(table.map(([code]) => code))
    for (const { expect: expected } of vectors) if (expected !== 'accept') expect(codes).toContain(expected)
  })
})

describe('the specification of package-exchange', () => {
  it('states ids, sizes, times and quotas of every stream protocol', () => {
    const readme = readFileSync(new URL('package-exchange/README.md', protocols), 'utf8')
    const stated = rows(readme, 'Frames')
    const actual = Object.values(PROTOCOLS).map((row) => [
      row.id,
      String(row.maxRequestBytes),
      String(row.maxResponseBytes),
      String(row.maxResponseFrames),
      String(row.timeoutMs),
      row.timeoutPer,
      String(row.maxInboundStreams),
      String(row.quota.burst),
      String(row.quota.everyMs),
      row.guests ? 'yes' : 'no',
    ])
    expect(stated).toEqual(actual)
  })
})

describe('the limits and codes of the program', () => {
  it('are all stated in some specification', () => {
    const text = readdirSync(protocols, { withFileTypes: true })
      .filter((entry) => entry.isDirectory())
      .map(({ name }) => readFileSync(new URL(`${name}/README.md`, protocols), 'utf8'))
      .join('\n')
    // Of the owner's own text; no peer sees it.
    const local = [
      'documentBytes',
      'heldOutBytes',
      'trainTokens',
      'noisyTrainTokens',
      'noisyHeldOutBytes',
      'evaluatedDomains',
      'evaluatedBytes',
      'evaluatedBytesAsked',
    ]
    for (const name of Object.keys(LIMITS)) if (!local.includes(name)) expect(text).toContain(`\`${name}\``)
    for (const code of [...errors.FORMAT_CODES, ...errors.VERIFICATION_CODES, ...errors.EXCHANGE_CODES]) {
      expect(text).toContain(`\`${code}\``)
    }
  })
})
