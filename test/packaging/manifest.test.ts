import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { seal } from '../../src/identity/envelope.ts'
import { createIdentity } from '../../src/identity/keys.ts'
import { MEDIA_TYPES } from '../../src/identity/media-types.ts'
import { NO_STATEMENT } from '../../src/identity/statement.ts'
import { type Digest, digestOf, fromUtf8, utf8 } from '../../src/lib/bytes.ts'
import { encodeCanonical } from '../../src/lib/canonical-json.ts'
import { limit } from '../../src/lib/limits.ts'
import { decodeManifest, encodeManifest, type Manifest, openManifest } from '../../src/packaging/manifest.ts'
import { codeOf, mutate, tinyManifest } from '../support/packages.ts'

const anna = createIdentity(new Uint8Array(32).fill(1))
const berta = createIdentity(new Uint8Array(32).fill(2))
const digest = (byte: number): Digest => digestOf(Uint8Array.of(byte))

describe('a manifest', () => {
  it('is decoded to what was encoded', () => {
    const names = fc.stringMatching(/^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$/)
    fc.assert(
      fc.property(
        names,
        fc.nat(1e9),
        fc.nat(1000),
        fc.bigInt(1n, 2n ** 53n - 1n),
        (name, tokens, share, seq) => {
          const base = tinyManifest(anna.peerId)
          const manifest: Manifest = {
            ...base,
            seq: Number(seq),
            prev: seq === 1n ? NO_STATEMENT : digest(9),
            expert: { ...base.expert, name },
            training: { documents: tokens, tokens, steps: tokens, replayShareMilli: share },
            ext: { note: ['anything', { deep: true }] },
          }
          expect(decodeManifest(encodeManifest(manifest))).toEqual(manifest)
        },
      ),
      { seed: 5, numRuns: 200 },
    )
  })

  it("is identified by the digest of its bytes and opened from its publisher's envelope", () => {
    const manifest = tinyManifest(anna.peerId)
    const payload = encodeManifest(manifest)
    const opened = openManifest(seal(MEDIA_TYPES.manifest, payload, [anna]))
    expect(opened).toEqual({ manifest, id: digestOf(payload), signer: anna.peerId })
  })

  it('is refused from another signer, from two signers, and as another kind of statement', () => {
    const payload = encodeManifest(tinyManifest(anna.peerId))
    expect(codeOf(() => openManifest(seal(MEDIA_TYPES.manifest, payload, [berta])))).toBe('wrong-signer')
    expect(codeOf(() => openManifest(seal(MEDIA_TYPES.manifest, payload, [anna, berta])))).toBe(
      'wrong-signer',
    )
    expect(codeOf(() => openManifest(seal(MEDIA_TYPES.head, payload, [anna])))).toBe('wrong-type')
    expect(codeOf(() => openManifest(seal(MEDIA_TYPES.manifest, payload, [])))).toBe('unsigned')
  })

  const base = tinyManifest(anna.peerId)
  const [expertFile] = base.files
  const changes: [string, Record<string, unknown>][] = [
    ['an unknown field', { comment: 'x' }],
    ["another statement's prev in statement 1", { prev: digest(1) }],
    ['no predecessor in statement 2', { seq: 2 }],
    ['the number 0', { seq: 0 }],
    [
      'a peer id of another kind as publisher',
      { publisher: 'QmYyQSo1c1Ym7orWxLYvCrM2EmxFTANf8wXmmE7DWjhx5N' },
    ],
    ['a lifetime of 0', { expiresAt: base.issuedAt }],
    ['a lifetime above the limit', { expiresAt: base.issuedAt + limit('manifestLifetime') + 1 }],
    ['a short digest', { consortium: 'sha256:00' }],
    ['an upper-case digest', { consortium: `sha256:${'AB'.repeat(32)}` }],
    ['roster 0', { rosterVersion: 0 }],
    ['no file', { files: [] }],
    ['two files', { files: [expertFile, expertFile] }],
    ['a file of another role', { files: [{ ...expertFile, role: '../../etc/passwd' }] }],
    ['a file with a path', { files: [{ ...expertFile, path: 'x' }] }],
    ['another chunk size', { files: [{ ...expertFile, chunkSize: 4096 }] }],
    ['a file that is too small for its tensors', { files: [{ ...expertFile, size: 100 }] }],
    ['a file that is too large for its tensors', { files: [{ ...expertFile, size: 2 * 2 ** 20 }] }],
    ['an unknown dtype', { expert: { ...base.expert, dtype: 'I8' } }],
    ['no layers', { expert: { ...base.expert, layers: 0 } }],
    ['more layers than a file may have tensors', { expert: { ...base.expert, layers: 820 } }],
    ['absurd dimensions', { expert: { ...base.expert, hidden_size: 2 ** 36, intermediate_size: 2 ** 36 } }],
    ['a name with a slash', { expert: { ...base.expert, name: '../x' } }],
    ['a name with a terminal escape', { expert: { ...base.expert, name: 'a\u001b[31m' } }],
    ['a domain with a line break', { domain: 'court\ndecisions' }],
    ['a domain with a direction override', { domain: 'a\u202eb' }],
    ['an empty licence', { license: '' }],
    ['a replay share above one', { training: { ...base.training, replayShareMilli: 1001 } }],
    ['the same set twice in eval', { eval: [base.eval[0], base.eval[0]] }],
    ['another metric', { eval: [{ ...base.eval[0], metric: 'accuracy' }] }],
    ['a list as ext', { ext: [] }],
    ['text as ext', { ext: 'x' }],
  ]
  it.each(changes)('is refused with %s', (_title, change) => {
    expect(codeOf(() => decodeManifest(encodeCanonical({ ...base, ...change })))).toBe('bad-field')
  })

  it('is refused without any one of its fields', () => {
    for (const name of Object.keys(base)) {
      const { [name]: _gone, ...rest } = Object.fromEntries(Object.entries(base))
      expect([name, codeOf(() => decodeManifest(encodeCanonical(rest)))]).toEqual([name, 'bad-field'])
    }
  })

  it('is refused in any other encoding', () => {
    const text = fromUtf8(encodeManifest(base))
    const encodings = [
      ` ${text}`,
      `${text}\n`,
      `\ufeff${text}`,
      text.replace('"seq":1', '"seq":1.0'),
      text.replace('"seq":1', '"seq":1e0'),
      text.replace('"seq":1', '"seq":1,"seq":1'),
      text.replace('"ext"', '"\\u0065xt"'),
      text.replace('"ext":{}', '"ext":{"__proto__":{}}'),
      text.replace('"ext":{}', '"ext":{"x":null}'),
      text.replace('"ext":{}', '"ext":{"x":-1}'),
    ]
    for (const encoding of encodings) {
      expect(['not-canonical', 'not-json']).toContain(codeOf(() => decodeManifest(utf8(encoding))))
    }
    expect(codeOf(() => decodeManifest(new Uint8Array(limit('statementBytes') + 1)))).toBe('too-large')
  })

  it('is decoded from each of 5,000 mutants, or one of our errors is thrown', () => {
    const payload = encodeManifest(base)
    for (const mutant of mutate(payload, 5000, 11)) codeOf(() => decodeManifest(mutant))
  })
})
