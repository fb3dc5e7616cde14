import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import {
  fromFloat32,
  readSafetensors,
  toFloat32,
  writeSafetensors,
} from '../../src/checkpoint/safetensors.ts'
import { seal } from '../../src/identity/envelope.ts'
import { createIdentity } from '../../src/identity/keys.ts'
import { MEDIA_TYPES } from '../../src/identity/media-types.ts'
import { concatBytes, type Digest, digestOf, fromUtf8, utf8 } from '../../src/lib/bytes.ts'
import { encodeCanonical } from '../../src/lib/canonical-json.ts'
import { limit } from '../../src/lib/limits.ts'
import { decodeManifest, encodeManifest, type Manifest, openManifest } from '../../src/packaging/manifest.ts'
import { packExpert, unpackExpert } from '../../src/packaging/package.ts'
import { NO_STATEMENT } from '../../src/statements/statement.ts'
import { codeOf, mutate, TINY_EXPERT, tinyManifest, tinyTensors } from '../support/packages.ts'

const anna = createIdentity(new Uint8Array(32).fill(1))
const berta = createIdentity(new Uint8Array(32).fill(2))
const digest = (byte: number): Digest => digestOf(Uint8Array.of(byte))

describe('an expert package', () => {
  it.each(['F32', 'BF16', 'F16'] as const)('comes back from %s as it was rounded', (dtype) => {
    const tensors = tinyTensors()
    const { parts, file, shape } = packExpert(tensors, dtype)
    expect(shape).toEqual(TINY_EXPERT)
    const bytes = concatBytes(...parts)
    expect([file.size, file.sha256]).toEqual([bytes.length, digestOf(bytes)])
    const unpacked = unpackExpert(bytes, tinyManifest(anna.peerId, {}, dtype))
    expect([...unpacked.keys()].sort()).toEqual([...tensors.keys()].sort())
    for (const [name, { data, shape: dimensions }] of tensors) {
      const stored = name.includes('experts.1') ? dtype : 'F32'
      const expected = toFloat32({ dtype: stored, data: fromFloat32(data, stored) })
      expect(unpacked.get(name)).toEqual({ name, shape: dimensions, dtype: stored, data: expected })
    }
  })

  it('is unpacked without a copy where it travelled as F32', () => {
    const bytes = concatBytes(...packExpert(tinyTensors(), 'F32').parts)
    const unpacked = unpackExpert(bytes, tinyManifest(anna.peerId, {}, 'F32'))
    for (const { data } of unpacked.values()) expect(data.buffer).toBe(bytes.buffer)
  })

  it('leaves nothing of the file in memory where it travelled as BF16', () => {
    const bytes = concatBytes(...packExpert(tinyTensors(), 'BF16').parts)
    const unpacked = unpackExpert(bytes, tinyManifest(anna.peerId, {}, 'BF16'))
    for (const { data } of unpacked.values()) expect(data.buffer).not.toBe(bytes.buffer)
  })

  it('has equal bytes for equal tensors in any order', () => {
    const reversed = new Map([...tinyTensors()].reverse())
    expect(packExpert(reversed, 'BF16').file).toEqual(packExpert(tinyTensors(), 'BF16').file)
  })

  const file = (change: (tensors: ReturnType<typeof readSafetensors>['tensors']) => void): Uint8Array => {
    const { tensors, metadata } = readSafetensors(concatBytes(...packExpert(tinyTensors(), 'BF16').parts))
    change(tensors)
    return concatBytes(...writeSafetensors(tensors.values(), metadata))
  }
  const ffn = 'model.layers.1.mlp.experts.1.up_proj.weight'
  const router = 'model.layers.0.mlp.gate.weight'

  it('is refused with tensor-name for every name that an expert does not have', () => {
    const foreign = [
      'model.embed_tokens.weight',
      'model.norm.weight',
      'lm_head.weight',
      'model.layers.0.self_attn.q_proj.weight',
      'model.layers.0.self_attn.k_norm.weight',
      'model.layers.0.post_attention_layernorm.weight',
      'model.layers.0.mlp.experts.0.up_proj.weight',
      'model.layers.0.mlp.experts.2.up_proj.weight',
      'model.layers.2.mlp.experts.1.up_proj.weight',
      'model.layers.00.mlp.experts.1.up_proj.weight',
      'model.layers.0.mlp.experts.1.up_proj.weight ',
      '__proto__',
      '',
    ]
    for (const name of foreign) {
      const bytes = file((tensors) =>
        tensors.set(name, { name, dtype: 'F32', shape: [0], data: new Uint8Array(0) }),
      )
      expect([name, codeOf(() => unpackExpert(bytes, tinyManifest(anna.peerId)))]).toEqual([
        name,
        'tensor-name',
      ])
    }
  })

  it('is refused when a tensor is missing, or has another shape or dtype', () => {
    const manifest = tinyManifest(anna.peerId)
    const missing = file((tensors) => tensors.delete(router))
    expect(codeOf(() => unpackExpert(missing, manifest))).toBe('tensor-name')
    for (const shape of [[4, 6], [24], [6, 4, 1], [1, 6, 4], [6, 2, 2]]) {
      const bytes = file((tensors) =>
        tensors.set(ffn, { name: ffn, dtype: 'BF16', shape, data: new Uint8Array(48) }),
      )
      expect(codeOf(() => unpackExpert(bytes, manifest))).toBe('tensor-shape')
    }
    const half = file((tensors) =>
      tensors.set(ffn, { name: ffn, dtype: 'F16', shape: [6, 4], data: new Uint8Array(48) }),
    )
    expect(codeOf(() => unpackExpert(half, manifest))).toBe('tensor-dtype')
    const rounded = file((tensors) =>
      tensors.set(router, { name: router, dtype: 'BF16', shape: [1, 4], data: new Uint8Array(8) }),
    )
    expect(codeOf(() => unpackExpert(rounded, manifest))).toBe('tensor-dtype')
  })

  it('is not packed from tensors that are no expert', () => {
    const pack = (change: (tensors: ReturnType<typeof tinyTensors>) => void) => () => {
      const tensors = tinyTensors()
      change(tensors)
      return packExpert(tensors, 'BF16')
    }
    expect(codeOf(pack((tensors) => tensors.clear()))).toBe('tensor-name')
    expect(codeOf(pack((tensors) => tensors.delete('model.layers.1.mlp.expert_bias')))).toBe('tensor-name')
    expect(codeOf(pack((tensors) => tensors.set('extra', { shape: [1], data: new Float32Array(1) })))).toBe(
      'tensor-name',
    )
    expect(codeOf(pack((tensors) => tensors.set(router, { shape: [4], data: new Float32Array(4) })))).toBe(
      'tensor-shape',
    )
    expect(codeOf(pack((tensors) => tensors.set(router, { shape: [1, 4], data: new Float32Array(3) })))).toBe(
      'tensor-shape',
    )
  })
})

describe('a manifest', () => {
  it('comes back as it was', () => {
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

  it('is refused from any other signer, from two, and as another kind of statement', () => {
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
    ['an unknown member', { comment: 'x' }],
    ["another statement's prev in statement 1", { prev: digest(1) }],
    ['no predecessor in statement 2', { seq: 2 }],
    ['number 0', { seq: 0 }],
    [
      'a peer id of another kind as publisher',
      { publisher: 'QmYyQSo1c1Ym7orWxLYvCrM2EmxFTANf8wXmmE7DWjhx5N' },
    ],
    ['a life of no time', { expiresAt: base.issuedAt }],
    ['a life above the limit', { expiresAt: base.issuedAt + limit('manifestLifetime') + 1 }],
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

  it('is refused without any one of its members', () => {
    for (const name of Object.keys(base)) {
      const { [name]: _gone, ...rest } = Object.fromEntries(Object.entries(base))
      expect([name, codeOf(() => decodeManifest(encodeCanonical(rest)))]).toEqual([name, 'bad-field'])
    }
  })

  it('is refused in any second spelling', () => {
    const text = fromUtf8(encodeManifest(base))
    const spellings = [
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
    for (const spelling of spellings) {
      expect(['not-canonical', 'not-json']).toContain(codeOf(() => decodeManifest(utf8(spelling))))
    }
    expect(codeOf(() => decodeManifest(new Uint8Array(limit('statementBytes') + 1)))).toBe('too-large')
  })

  it('answers 5,000 mutants with our errors', () => {
    const payload = encodeManifest(base)
    for (const mutant of mutate(payload, 5000, 11)) codeOf(() => decodeManifest(mutant))
  })
})
