import { spawnSync } from 'node:child_process'
import { beforeAll, describe, expect, it } from 'vitest'
import { attackBundles, refusesHere, withPython } from '../../scripts/parity/bundle-attacks.ts'
import { createIdentity } from '../../src/identity/keys.ts'
import { COSIGNATURE, encodeVerifierKey } from '../../src/transparency/note.ts'
import { decodeTrustPolicy } from '../../src/transparency/trust-policy.ts'
import { verifyBundle } from '../../src/transparency/verify-bundle.ts'
import { type Audited, auditedConsortium } from '../support/audited.ts'
import { codeOf } from '../support/packages.ts'

/** A witness that no member has. */
const VKEY = encodeVerifierKey({
  name: 'witness.example/other',
  type: COSIGNATURE,
  publicKey: createIdentity(new Uint8Array(32).fill(99)).publicKey,
})

let audited: Audited
beforeAll(async () => {
  audited = await auditedConsortium()
})

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

  it('is refused by an auditor who expects another consortium, or other cosigners', () => {
    const id = `sha256:${'0'.repeat(64)}` as const
    expect(codeOf(() => verifyBundle(audited.bytes, { consortium: id }))).toBe('wrong-consortium')
    const policy = decodeTrustPolicy(`witness W ${VKEY}\nquorum W\n`)
    expect(codeOf(() => verifyBundle(audited.bytes, { policy }))).toBe('not-final')
  })
})

const VERIFIERS = [
  ['typescript', <T>(use: (refuses: typeof refusesHere) => T): T => use(refusesHere)],
  // Where there is a Python, its verifier must find the same.
  ...(spawnSync('python3', ['--version']).status === 0
    ? ([['python', (use: Parameters<typeof withPython>[1]) => withPython('python3', use)]] as const)
    : []),
] as const

describe('attacks on an audit bundle', () => {
  it.each(VERIFIERS)('are all found by the verifier in %s', async (_, using) => {
    const missed: string[] = []
    const counts = { edits: 160, truncations: 60, forks: 8 }
    const result = await using((refuses) =>
      attackBundles(counts, refuses, (kind, seed) => missed.push(`${kind} ${seed}`)),
    )
    expect(missed).toEqual([])
    expect(result).toEqual({ ...counts, found: 160, foundTruncations: 60, foundForks: 8 })
  })
})
