import { describe, expect, it } from 'vitest'
import { type AcceptanceContext, judgeManifest } from '../../src/acceptance/accept.ts'
import { DEFAULT_POLICY } from '../../src/acceptance/policy.ts'
import type { Digest } from '../../src/lib/bytes.ts'
import { consortium, identityOf, NOW, SHAPE } from '../support/consortium.ts'

const owner = identityOf(1)
const c = consortium([owner])
const { digest, tokenizerDigest, files } = c.charter.publicModel

function context(names: readonly Digest[]): AcceptanceContext {
  return {
    consortium: c.id,
    roster: c.roster,
    publicModel: { digest, tokenizerDigest, files: new Set(names), shape: SHAPE, weights: new Map() },
    policy: DEFAULT_POLICY,
    isWithdrawn: () => false,
    withdrawnFiles: new Set(),
    counts: () => true,
    isForked: () => false,
    now: NOW,
  }
}

describe('a manifest that names a file of the public model', () => {
  it('is refused before anything is fetched; one that names a file of its own is not', () => {
    const { id, manifest } = c.publisher(owner).manifest()
    const others = files.map(({ sha256 }) => sha256)
    expect(judgeManifest({ id, manifest }, context(others)).outcome).toBe('accepted')
    const verdict = judgeManifest({ id, manifest }, context([...others, manifest.files[0].sha256]))
    expect(verdict).toMatchObject({ outcome: 'refused', check: 'file-role', code: 'file-role' })
  })
})
