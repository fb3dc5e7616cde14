import { beforeAll, describe, expect, it } from 'vitest'
import { FlexMeshError } from '../../src/lib/errors.ts'
import { mulberry32 } from '../../src/lib/random.ts'
import { verifyBundle } from '../../src/transparency/verify-bundle.ts'
import {
  type Audited,
  auditedConsortium,
  cut,
  forked,
  type Pick,
  withBit,
  withoutTail,
  withRecord,
} from '../support/audited.ts'

let audited: Audited
beforeAll(async () => {
  audited = await auditedConsortium()
})

function picks(seed: number): Pick {
  const random = mulberry32(seed)
  return (bound) => Math.floor(random() * bound)
}

function outcome(bytes: Uint8Array): string {
  try {
    verifyBundle(bytes)
    return 'accept'
  } catch (error) {
    if (error instanceof FlexMeshError) return error.code
    throw error
  }
}

describe('an audit bundle', () => {
  it('proves what each member has logged and who has cosigned it', () => {
    const { name, exporter, rosterVersion, logs, verdicts } = verifyBundle(audited.bytes)
    expect({ name, exporter, rosterVersion, verdicts }).toEqual({
      name: 'Test consortium',
      exporter: 'Court',
      rosterVersion: 3,
      verdicts: 1,
    })
    expect(
      logs.map(({ institution, statements, final, cosigners }) => [
        institution,
        statements,
        final,
        cosigners,
      ]),
    ).toEqual([
      ['A', 5, 4, ['Archive', 'Court']],
      ['Archive', 2, 2, ['A', 'Court']],
      ['Court', 0, 0, ['A', 'Archive']],
    ])
  })

  it.each([
    ['a bit', 300, withBit],
    ['a record by its exporter', 150, withRecord],
  ] as const)('is refused after a change of %s', (_, count, change) => {
    for (let seed = 0; seed < count; seed++) {
      expect([seed, outcome(change(audited, picks(seed)))]).not.toEqual([seed, 'accept'])
    }
  })

  it.each([
    ['after any byte', 100, cut],
    ['by its exporter, before the end of a log', 50, withoutTail],
  ] as const)('is refused if it is cut %s', (_, count, change) => {
    for (let seed = 0; seed < count; seed++) {
      expect([seed, outcome(change(audited, picks(seed)))]).not.toEqual([seed, 'accept'])
    }
  })

  it('is refused if a member has signed another history', async () => {
    for (let seed = 0; seed < 12; seed++) {
      expect([seed, outcome(await forked(audited, picks(seed)))]).not.toEqual([seed, 'accept'])
    }
  })
})
