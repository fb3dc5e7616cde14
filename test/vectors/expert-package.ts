/**
 * Test vectors of protocols/expert-package, from fixed seeds. Each names the decoder that it is for,
 * its input, and what must come of it.
 */

import {
  fromFloat32,
  LENGTH_BYTES,
  readSafetensors,
  type TensorEntry,
  writeSafetensors,
} from '../../src/checkpoint/safetensors.ts'
import { seal } from '../../src/identity/envelope.ts'
import { createIdentity } from '../../src/identity/keys.ts'
import { MEDIA_TYPES } from '../../src/identity/media-types.ts'
import { concatBytes, type Digest, digestOf, fromUtf8, toHex, utf8 } from '../../src/lib/bytes.ts'
import { encodeCanonical } from '../../src/lib/canonical-json.ts'
import { type FileRef, fileRefOf } from '../../src/lib/file-ref.ts'
import { limit } from '../../src/lib/limits.ts'
import { encodeManifest } from '../../src/packaging/manifest.ts'
import { packExpert } from '../../src/packaging/package.ts'
import { type ExpertShape, expertDataBytes } from '../../src/packaging/tensor-names.ts'
import { NO_STATEMENT } from '../../src/statements/statement.ts'
import { rawSafetensors, TINY_EXPERT, tinyManifest, tinyTensors } from '../support/packages.ts'
import { byFileName, type Case, type Vector, vectorsOf as vectorsFor } from './vector.ts'

const publisher = createIdentity(new Uint8Array(32).fill(0x11))
const stranger = createIdentity(new Uint8Array(32).fill(0x22))
const digest = (byte: number): Digest => digestOf(Uint8Array.of(byte))
/** Tokens of the public model's vocabulary. */
const VOCABULARY = 8

/** File name to vector. */
export function makeVectors(): Record<string, Vector> {
  const vectors = [
    ...safetensorsVectors(),
    ...packageVectors(),
    ...lowRankVectors(),
    ...sharesVectors(),
    ...manifestVectors(),
    ...envelopeVectors(),
    ...declaredStatisticsVectors(),
    ...headVectors(),
    ...withdrawalVectors(),
    ...chainVectors(),
    ...chunkVectors(),
  ]
  return byFileName(vectors)
}

function vectorsOf<T extends unknown[]>(
  prefix: string,
  section: string,
  cases: readonly (readonly [...Case, ...T])[],
  input: (...rest: T) => Record<string, unknown>,
): Vector[] {
  return vectorsFor(prefix, `expert-package ${section}`, cases, input)
}

function safetensorsVectors(): Vector[] {
  const one = '"dtype":"F32","shape":[1],"data_offsets":[0,4]'
  const two = '"b":{"dtype":"F32","shape":[1],"data_offsets":'
  const bad = 'bad-safetensors'
  const cases: [...Case, string, number][] = [
    ['one-tensor', 'accept', 'the smallest useful file', `{"a":{${one}}}`, 4],
    ['empty', 'accept', 'no tensors and no data', '{}', 0],
    [
      'metadata',
      'accept',
      'text to text under __metadata__',
      `{"__metadata__":{"format":"pt"},"a":{${one}}}`,
      4,
    ],
    [
      'other-order',
      'accept',
      'members in any order, white space, padding',
      `{ "a": {"shape": [1], "data_offsets": [0, 4], "dtype": "F32"} }   `,
      4,
    ],
    [
      'empty-tensor',
      'accept',
      'a dimension of zero holds no bytes',
      '{"a":{"dtype":"F32","shape":[0,3],"data_offsets":[0,0]}}',
      0,
    ],
    [
      'duplicate-name',
      bad,
      'JSON readers keep the last of two; two readers would see two files',
      `{"a":{${one}},"a":{${one}}}`,
      4,
    ],
    [
      'duplicate-name-escaped',
      bad,
      'an escape is another spelling of the same name',
      `{"a":{${one}},"\\u0061":{${one}}}`,
      4,
    ],
    ['duplicate-member', bad, 'two dtypes', `{"a":{"dtype":"F16",${one}}}`, 4],
    [
      'duplicate-metadata-key',
      bad,
      'also inside __metadata__',
      `{"__metadata__":{"k":"1","k":"2"},"a":{${one}}}`,
      4,
    ],
    ['unknown-member', bad, 'nothing may hide in a tensor', `{"a":{${one},"x":1}}`, 4],
    [
      'unknown-dtype',
      bad,
      'element size unknown',
      '{"a":{"dtype":"F31","shape":[1],"data_offsets":[0,4]}}',
      4,
    ],
    [
      'hole-at-start',
      bad,
      'bytes that no tensor owns',
      '{"a":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}}',
      8,
    ],
    ['hole-between', bad, 'bytes that no tensor owns', `{"a":{${one}},${two}[8,12]}}`, 12],
    ['overlap', bad, 'one byte in two tensors', `{"a":{${one}},${two}[2,6]}}`, 6],
    ['same-place', bad, 'two tensors over the same bytes', `{"a":{${one}},${two}[0,4]}}`, 4],
    [
      'reversed-offsets',
      bad,
      'end before begin',
      '{"a":{"dtype":"F32","shape":[1],"data_offsets":[4,0]}}',
      4,
    ],
    [
      'wrong-length',
      bad,
      'two elements in four bytes',
      '{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,4]}}',
      4,
    ],
    [
      'overflow',
      bad,
      'the product of the shape leaves the safe integers',
      '{"a":{"dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,0]}}',
      0,
    ],
    [
      'overflow-times-zero',
      bad,
      'a later zero does not undo an overflow',
      '{"a":{"dtype":"F32","shape":[9007199254740991,2,0],"data_offsets":[0,0]}}',
      0,
    ],
    [
      'fraction',
      bad,
      'integers have one spelling',
      '{"a":{"dtype":"F32","shape":[1.0],"data_offsets":[0,4]}}',
      4,
    ],
    [
      'negative',
      bad,
      'dimensions are not negative',
      '{"a":{"dtype":"F32","shape":[-1],"data_offsets":[0,4]}}',
      4,
    ],
    ['leading-space', bad, 'the first header byte is {', ` {"a":{${one}}}`, 4],
    ['trailing-text', bad, 'only spaces pad', `{"a":{${one}}}{}`, 4],
    ['trailing-newline', bad, 'only spaces pad', `{"a":{${one}}}\n`, 4],
    ['trailing-data', bad, 'the last tensor ends the file', `{"a":{${one}}}`, 5],
    ['lone-surrogate', bad, 'a name that UTF-8 cannot hold', `{"\\ud800":{${one}}}`, 4],
    ['cut-data', 'truncated', 'fewer bytes than the header names', `{"a":{${one}}}`, 3],
  ]
  const files: [...Case, Uint8Array][] = [
    ['nothing', 'truncated', 'not even a header length', new Uint8Array(0)],
    [
      'cut-header',
      'truncated',
      'the header is longer than the file',
      rawSafetensors(`{"a":{${one}}}`, new Uint8Array(4)).subarray(0, 30),
    ],
    [
      'header-over-cap',
      'too-large',
      'refused by its length alone',
      lengthOnly(limit('safetensorsHeaderBytes') + 1),
    ],
    ['header-of-4-gib', 'too-large', 'the upper half of the length counts', lengthOnly(2 ** 32)],
    [
      'pickle',
      'too-large',
      'a pickle read as a header length',
      concatBytes(utf8('\u0080\u0004'), new Uint8Array(14).fill(0x28)),
    ],
  ]
  return [
    ...vectorsOf('safetensors', 'File', cases, (header, data) => ({
      decoder: 'safetensors',
      hex: toHex(rawSafetensors(header, new Uint8Array(data))),
    })),
    ...vectorsOf('safetensors', 'File', files, (bytes) => ({ decoder: 'safetensors', hex: toHex(bytes) })),
  ]
}

function lengthOnly(length: number): Uint8Array {
  const bytes = new Uint8Array(16)
  new DataView(bytes.buffer).setBigUint64(0, BigInt(length), true)
  return bytes
}

function packageVectors(): Vector[] {
  const { tensors, metadata } = readSafetensors(concatBytes(...packExpert(tinyTensors(), 'BF16').parts))
  const ffn = 'model.layers.0.mlp.experts.1.down_proj.weight'
  const router = 'model.layers.1.mlp.gate.weight'
  const file = (change?: TensorEntry, remove?: string): Uint8Array => {
    const changed = new Map(tensors)
    if (change !== undefined) changed.set(change.name, change)
    if (remove !== undefined) changed.delete(remove)
    return concatBytes(...writeSafetensors(changed.values(), metadata))
  }
  const foreign = (name: string): TensorEntry => ({ name, dtype: 'F32', shape: [0], data: new Uint8Array(0) })
  const cases: [...Case, Uint8Array][] = [
    ['bf16', 'accept', 'two layers with bias, as the publisher packs them', file()],
    ['missing-tensor', 'tensor-name', 'every tensor must be there', file(undefined, ffn)],
    [
      'missing-one-bias',
      'tensor-name',
      'biases in all layers or in none',
      file(undefined, 'model.layers.1.mlp.expert_bias'),
    ],
    [
      'public-expert',
      'tensor-name',
      "expert 0 is the public model's",
      file(foreign('model.layers.0.mlp.experts.0.up_proj.weight')),
    ],
    [
      'attention',
      'tensor-name',
      "shared weights are not a package's to bring",
      file(foreign('model.layers.0.self_attn.q_proj.weight')),
    ],
    [
      'embedding',
      'tensor-name',
      "shared weights are not a package's to bring",
      file(foreign('model.embed_tokens.weight')),
    ],
    [
      'extra-layer',
      'tensor-name',
      'a layer that the manifest does not count',
      file(foreign('model.layers.2.mlp.gate.weight')),
    ],
    [
      'transposed',
      'tensor-shape',
      'same size, other shape',
      file({ name: ffn, dtype: 'BF16', shape: [6, 4], data: new Uint8Array(48) }),
    ],
    [
      'two-router-rows',
      'tensor-shape',
      'one expert brings one row',
      file({ name: router, dtype: 'F32', shape: [2, 4], data: new Uint8Array(32) }),
    ],
    [
      'ffn-dtype',
      'tensor-dtype',
      'the manifest says BF16',
      file({ name: ffn, dtype: 'F16', shape: [4, 6], data: new Uint8Array(48) }),
    ],
    [
      'router-dtype',
      'tensor-dtype',
      'router rows are always F32',
      file({ name: router, dtype: 'BF16', shape: [1, 4], data: new Uint8Array(8) }),
    ],
  ]
  return [...packageCases('Tensors', cases, TINY_EXPERT), ...statisticsVectors()]
}

function packageCases(
  section: string,
  cases: readonly (readonly [...Case, Uint8Array])[],
  shape: ExpertShape,
): Vector[] {
  return vectorsOf('package', section, cases, (bytes) => ({
    decoder: 'package',
    expert: { name: 'case-law', dtype: 'BF16', ...shape },
    hex: toHex(bytes),
  }))
}

function lowRankVectors(): Vector[] {
  const shape = { ...TINY_EXPERT, rank: 2 }
  const { tensors, metadata } = readSafetensors(concatBytes(...packExpert(tinyTensors(shape), 'BF16').parts))
  const factor = (name: 'A' | 'B'): string => `model.layers.0.mlp.experts.1.down_proj.lora_${name}.weight`
  const file = (change?: TensorEntry, remove?: string): Uint8Array => {
    const changed = new Map(tensors)
    if (change !== undefined) changed.set(change.name, change)
    if (remove !== undefined) changed.delete(remove)
    return concatBytes(...writeSafetensors(changed.values(), metadata))
  }
  const zeros = (name: string, dtype: 'BF16' | 'F32', dimensions: readonly [number, number]): TensorEntry => {
    const size = dimensions[0] * dimensions[1] * (dtype === 'F32' ? 4 : 2)
    return { name, dtype, shape: dimensions, data: new Uint8Array(size) }
  }
  const whole = concatBytes(...packExpert(tinyTensors(), 'BF16').parts)
  const both = concatBytes(
    ...packExpert(tinyTensors({ ...shape, statisticsTokens: VOCABULARY }), 'BF16').parts,
  )
  const cases: [...Case, Uint8Array, Partial<ExpertShape>][] = [
    ['low-rank', 'accept', 'factors of rank 2, as the publisher packs them', file(), { rank: 2 }],
    ['low-rank-one-factor', 'tensor-name', 'A without B', file(undefined, factor('B')), { rank: 2 }],
    [
      'low-rank-beside-whole',
      'tensor-name',
      'a weight travels whole or as factors, never both',
      file(zeros('model.layers.0.mlp.experts.1.down_proj.weight', 'BF16', [4, 6])),
      { rank: 2 },
    ],
    [
      'low-rank-of-public-expert',
      'tensor-name',
      "expert 0 is the public model's",
      file(zeros('model.layers.0.mlp.experts.0.down_proj.lora_A.weight', 'BF16', [2, 6])),
      { rank: 2 },
    ],
    [
      'low-rank-of-attention',
      'tensor-name',
      "shared weights are not a package's to bring, nor their differences",
      file(zeros('model.layers.0.self_attn.q_proj.lora_A.weight', 'BF16', [2, 4])),
      { rank: 2 },
    ],
    ['low-rank-unannounced', 'tensor-name', 'the manifest says whole weights', file(), {}],
    ['low-rank-missing', 'tensor-name', 'the manifest says rank 2', whole, { rank: 2 }],
    ['low-rank-other-rank', 'tensor-shape', 'the manifest says rank 3', file(), { rank: 3 }],
    [
      'low-rank-transposed',
      'tensor-shape',
      'same size, other shape',
      file(zeros(factor('A'), 'BF16', [6, 2])),
      { rank: 2 },
    ],
    [
      'low-rank-uneven',
      'tensor-shape',
      'one rank for all factors',
      file(zeros(factor('B'), 'BF16', [4, 3])),
      { rank: 2 },
    ],
    [
      'low-rank-dtype',
      'tensor-dtype',
      'factors travel in the dtype of the manifest',
      file(zeros(factor('A'), 'F32', [2, 6])),
      { rank: 2 },
    ],
    [
      'low-rank-statistics',
      'accept',
      'factors and router statistics in one package',
      both,
      { rank: 2, statisticsTokens: VOCABULARY },
    ],
    [
      'low-rank-statistics-other-size',
      'tensor-shape',
      'the manifest says nine tokens',
      both,
      { rank: 2, statisticsTokens: VOCABULARY + 1 },
    ],
    ['low-rank-statistics-unasked', 'tensor-name', 'the manifest names the rank alone', both, { rank: 2 }],
    [
      'low-rank-statistics-missing',
      'tensor-name',
      'the manifest says that there are some',
      file(),
      { rank: 2, statisticsTokens: VOCABULARY },
    ],
  ]
  return vectorsOf('package', 'Low-rank experts', cases, (bytes, change) => ({
    decoder: 'package',
    expert: { name: 'case-law', dtype: 'BF16', ...TINY_EXPERT, ...change },
    hex: toHex(bytes),
  }))
}

function statisticsVectors(): Vector[] {
  const shape = { ...TINY_EXPERT, statisticsTokens: VOCABULARY }
  const { tensors, metadata } = readSafetensors(concatBytes(...packExpert(tinyTensors(shape), 'BF16').parts))
  const tokens = 'router_statistics.tokens'
  const file = (change?: TensorEntry, remove?: string): Uint8Array => {
    const changed = new Map(tensors)
    if (change !== undefined) changed.set(change.name, change)
    if (remove !== undefined) changed.delete(remove)
    return concatBytes(...writeSafetensors(changed.values(), metadata))
  }
  const zeros = (name: string, dtype: 'F32' | 'BF16' | 'I32', ...dimensions: number[]): TensorEntry => {
    const size = dimensions.reduce((product, dimension) => product * dimension, dtype === 'BF16' ? 2 : 4)
    return { name, dtype, shape: dimensions, data: new Uint8Array(size) }
  }
  const cases: [...Case, Uint8Array][] = [
    ['statistics', 'accept', 'a share for each of eight tokens', file()],
    ['statistics-missing', 'tensor-name', 'the manifest says that there are some', file(undefined, tokens)],
    [
      'statistics-of-a-layer',
      'tensor-name',
      'one for the whole model',
      file(zeros(`model.layers.0.${tokens}`, 'F32', VOCABULARY)),
    ],
    [
      'statistics-mean',
      'tensor-name',
      'statistics of another kind, in place of shares',
      file(zeros('router_statistics.mean', 'F32', 4), tokens),
    ],
    [
      'statistics-second',
      'tensor-name',
      'statistics of another kind, beside shares',
      file(zeros('router_statistics.second', 'F32', 10)),
    ],
    [
      'statistics-short',
      'tensor-shape',
      'the manifest says eight tokens',
      file(zeros(tokens, 'F32', VOCABULARY - 1)),
    ],
    [
      'statistics-long',
      'tensor-shape',
      'the manifest says eight tokens',
      file(zeros(tokens, 'F32', VOCABULARY + 1)),
    ],
    ['statistics-row', 'tensor-shape', 'same size, other shape', file(zeros(tokens, 'F32', 1, VOCABULARY))],
    [
      'statistics-dtype',
      'tensor-dtype',
      'rounding would move the rarest tokens',
      file(zeros(tokens, 'BF16', VOCABULARY)),
    ],
    ['statistics-counts', 'tensor-dtype', 'shares, not counts', file(zeros(tokens, 'I32', VOCABULARY))],
  ]
  const unasked: [...Case, Uint8Array][] = [
    ['statistics-unasked', 'tensor-name', 'the manifest says that there are none', file()],
  ]
  return [
    ...packageCases('Router statistics', cases, shape),
    ...packageCases('Router statistics', unasked, TINY_EXPERT),
  ]
}

/** Values of a package whose structure is right. */
function sharesVectors(): Vector[] {
  const cases: [...Case, number[]][] = [
    ['whole', 'accept', 'two tokens in equal parts', [0.5, 0.5, 0, 0]],
    ['rounded', 'accept', 'a sum that rounding moved', [0.5, 0.4999, 0, 0]],
    ['negative', 'statistics-shares', 'a sum of 1 with a share below 0', [0.6, 0.5, -0.1, 0]],
    ['too-little', 'statistics-shares', 'a sum of 0.9', [0.5, 0.4, 0, 0]],
    ['too-much', 'statistics-shares', 'a sum of 2', [1, 0.5, 0.5, 0]],
    ['of-nothing', 'statistics-shares', 'a sum of 0', [0, 0, 0, 0]],
    ['counts', 'statistics-shares', 'counts that nobody divided', [12, 30, 1, 0]],
    ['not-a-number', 'not-finite', 'not a number', [0.5, Number.NaN, 0.5, 0]],
    ['infinite', 'not-finite', 'an infinite share', [Number.POSITIVE_INFINITY, 0, 0, 0]],
  ]
  return vectorsOf('shares', 'Router statistics', cases, (shares) => ({
    decoder: 'shares',
    hex: toHex(fromFloat32(Float32Array.from(shares), 'F32')),
  }))
}

/** What a receiver refuses before it fetches anything. */
function declaredStatisticsVectors(): Vector[] {
  const enough = limit('statisticsDocuments')
  const cases: [...Case, number, number][] = [
    ['enough', 'accept', 'as few documents as may be', VOCABULARY, enough],
    ['few-documents', 'statistics-documents', 'one document too few', VOCABULARY, enough - 1],
    ['one-document', 'statistics-documents', 'what one document says', VOCABULARY, 1],
    ['smaller-vocabulary', 'tensor-shape', 'seven of eight tokens', VOCABULARY - 1, enough],
    ['larger-vocabulary', 'tensor-shape', 'tokens that nobody has', VOCABULARY + 1, enough],
  ]
  const { expert, files } = tinyManifest(publisher.peerId)
  return vectorsOf('declared', 'Router statistics', cases, (statisticsTokens, statisticsDocuments) => {
    const manifest = tinyManifest(publisher.peerId, {
      expert: { ...expert, statisticsTokens, statisticsDocuments },
      files: [{ ...files[0], size: files[0].size + 4 * statisticsTokens }],
    })
    const text = fromUtf8(seal(MEDIA_TYPES.manifest, encodeManifest(manifest), [publisher]))
    return { decoder: 'judge-manifest', vocabulary: VOCABULARY, text }
  })
}

function manifestVectors(): Vector[] {
  const base = tinyManifest(publisher.peerId)
  const text = fromUtf8(encodeManifest(base))
  const without = (name: string) => Object.fromEntries(Object.entries(base).filter(([key]) => key !== name))
  const json = (change: Record<string, unknown>) => fromUtf8(encodeCanonical({ ...base, ...change }))
  const [file] = base.files
  const lowRank = packExpert(tinyTensors({ ...TINY_EXPERT, rank: 2 }), 'BF16')
  const ranked = (rank: unknown, of = lowRank.file): string =>
    json({ expert: { ...base.expert, rank }, files: [{ role: 'expert', ...of }] })
  const withStatistics = {
    ...base.expert,
    statisticsTokens: VOCABULARY,
    statisticsDocuments: 120,
    statisticsEpsilonMilli: 8000,
  }
  const leastSize = LENGTH_BYTES + expertDataBytes(base.expert, 2)
  const withRoom = (of: FileRef) => ({ role: 'expert', ...of, size: of.size + 4 * VOCABULARY })
  const withStatisticsFile = withRoom(file)
  /** Of four tensors a layer and, with them, statistics. */
  const layered = (layers: number, statisticsTokens: number): string => {
    const expert = {
      ...base.expert,
      layers,
      bias: false,
      statisticsTokens,
      statisticsDocuments: statisticsTokens === 0 ? 0 : 120,
    }
    return json({ expert, files: [{ ...file, size: LENGTH_BYTES + expertDataBytes(expert, 2) }] })
  }
  const cases: [...Case, string][] = [
    ['first', 'accept', 'statement 1 of a publisher', text],
    ['later', 'accept', 'statement 7, with a predecessor', json({ seq: 7, prev: digest(6) })],
    ['extension', 'accept', 'members under ext are kept and have no effect', json({ ext: { note: 'x' } })],
    ['no-eval', 'accept', 'a publisher need not state results', json({ eval: [] })],
    ['unknown-member', 'bad-field', 'new members go under ext', json({ comment: 'x' })],
    ['missing-member', 'bad-field', 'no member has a default', fromUtf8(encodeCanonical(without('license')))],
    ['prev-in-first', 'bad-field', 'statement 1 follows nothing', json({ prev: digest(1) })],
    ['no-prev-in-second', 'bad-field', 'statement 2 follows something', json({ seq: 2 })],
    ['low-rank', 'accept', 'an expert of rank 2', ranked(2)],
    ['rank-zero', 'bad-field', 'whole weights have no rank', ranked(0)],
    ['rank-over-size', 'bad-field', 'no difference of 4 x 6 has rank 5', ranked(5)],
    ['rank-as-text', 'bad-field', 'a rank is a number', ranked('2')],
    [
      'rank-file-too-small',
      'bad-field',
      'size and rank must agree before a byte is fetched',
      ranked(2, { ...lowRank.file, size: 287 }),
    ],
    [
      'rank-statistics',
      'accept',
      'factors of rank 2 and router statistics',
      json({ expert: { ...withStatistics, rank: 2 }, files: [withRoom(lowRank.file)] }),
    ],
    [
      'rank-statistics-no-room',
      'bad-field',
      'a file with room for the factors only',
      json({
        expert: { ...withStatistics, rank: 2 },
        files: [{ ...file, size: LENGTH_BYTES + expertDataBytes(lowRank.shape, 2) }],
      }),
    ],
    ['most-tensors', 'accept', '1023 layers of four tensors, and statistics', layered(1023, VOCABULARY)],
    [
      'too-many-tensors',
      'bad-field',
      '1024 layers of four tensors, and statistics',
      layered(1024, VOCABULARY),
    ],
    ['too-many-layers', 'bad-field', '1025 layers of four tensors', layered(1025, 0)],
    ['seq-zero', 'bad-field', 'numbers start at 1', json({ seq: 0 })],
    [
      'lives-too-long',
      'bad-field',
      'consent is renewed',
      json({ expiresAt: base.issuedAt + limit('manifestLifetime') + 1 }),
    ],
    ['expires-at-once', 'bad-field', 'expiresAt is later than issuedAt', json({ expiresAt: base.issuedAt })],
    [
      'upper-case-digest',
      'bad-field',
      'digests have one spelling',
      json({ consortium: `sha256:${'AB'.repeat(32)}` }),
    ],
    [
      'rsa-publisher',
      'bad-field',
      'only Ed25519 peer ids',
      json({ publisher: 'QmYyQSo1c1Ym7orWxLYvCrM2EmxFTANf8wXmmE7DWjhx5N' }),
    ],
    [
      'file-path',
      'bad-field',
      'files have roles, not paths',
      json({ files: [{ ...file, path: '../../etc/passwd' }] }),
    ],
    ['file-role', 'bad-field', 'the only role is expert', json({ files: [{ ...file, role: 'code' }] })],
    [
      'file-too-small',
      'bad-field',
      'size and shape must agree before a byte is fetched',
      json({ files: [{ ...file, size: 100 }] }),
    ],
    [
      'file-too-large',
      'bad-field',
      'size and shape must agree before a byte is fetched',
      json({ files: [{ ...file, size: 2 ** 31 }] }),
    ],
    ['chunk-size', 'bad-field', 'one chunk size for all', json({ files: [{ ...file, chunkSize: 65_536 }] })],
    [
      'name-with-slash',
      'bad-field',
      'names are safe to print and to use',
      json({ expert: { ...base.expert, name: '../x' } }),
    ],
    [
      'domain-control',
      'bad-field',
      'no control characters in what people read',
      json({ domain: 'court\u001b[31m' }),
    ],
    [
      'replay-share',
      'bad-field',
      'at most 1000 thousandths',
      json({ training: { ...base.training, replayShareMilli: 1001 } }),
    ],
    [
      'statistics',
      'accept',
      'shares in 120 documents, with noise',
      json({ expert: withStatistics, files: [withStatisticsFile] }),
    ],
    [
      'statistics-of-nothing',
      'bad-field',
      'shares in no documents',
      json({ expert: { ...withStatistics, statisticsDocuments: 0 }, files: [withStatisticsFile] }),
    ],
    [
      'statistics-documents-alone',
      'bad-field',
      'documents of statistics that are not there',
      json({ expert: { ...base.expert, statisticsDocuments: 120 } }),
    ],
    [
      'statistics-noise-alone',
      'bad-field',
      'noise in statistics that are not there',
      json({ expert: { ...base.expert, statisticsEpsilonMilli: 8000 } }),
    ],
    [
      'statistics-no-room',
      'bad-field',
      'a file with room for the weights only',
      json({ expert: withStatistics, files: [{ ...file, size: leastSize }] }),
    ],
    [
      'statistics-text',
      'bad-field',
      'how many tokens is a number',
      json({ expert: { ...withStatistics, statisticsTokens: '8' }, files: [withStatisticsFile] }),
    ],
    [
      'statistics-true',
      'bad-field',
      'how many tokens is a number',
      json({ expert: { ...withStatistics, statisticsTokens: true }, files: [withStatisticsFile] }),
    ],
    [
      'statistics-unsaid',
      'bad-field',
      'no member has a default',
      json({
        expert: Object.fromEntries(Object.entries(base.expert).filter(([key]) => key !== 'statisticsTokens')),
      }),
    ],
    [
      'statistics-flag',
      'bad-field',
      'the number says whether there are any',
      json({ expert: { ...withStatistics, statistics: true }, files: [withStatisticsFile] }),
    ],
    [
      'statistics-more-than-a-file',
      'bad-field',
      'more tokens than a file has bytes',
      json({ expert: { ...withStatistics, statisticsTokens: limit('fileBytes') + 1 } }),
    ],
    ['eval-twice', 'bad-field', 'each set once', json({ eval: [base.eval[0], base.eval[0]] })],
    ['white-space', 'not-canonical', 'one value has one spelling', ` ${text}`],
    ['float', 'not-canonical', '1.0 is another spelling of 1', text.replace('"seq":1', '"seq":1.0')],
    [
      'duplicate-key',
      'not-canonical',
      'readers differ in which they keep',
      text.replace('"seq":1', '"seq":2,"seq":1'),
    ],
    ['escaped-key', 'not-canonical', 'an escape is another spelling', text.replace('"ext"', '"\\u0065xt"')],
    [
      'proto-key',
      'not-canonical',
      'a name with powers in some readers',
      text.replace('"ext":{}', '"ext":{"__proto__":{}}'),
    ],
    ['null', 'not-canonical', 'outside the profile', text.replace('"ext":{}', '"ext":{"x":null}')],
    ['negative', 'not-canonical', 'outside the profile', text.replace('"ext":{}', '"ext":{"x":-1}')],
    ['byte-order-mark', 'not-json', 'not part of JSON', `\ufeff${text}`],
    ['cut', 'not-json', 'half a statement', text.slice(0, 200)],
  ]
  return vectorsOf('manifest', 'Manifest', cases, (payload) => ({ decoder: 'manifest', text: payload }))
}

function envelopeVectors(): Vector[] {
  const payload = encodeManifest(tinyManifest(publisher.peerId))
  const sealed = (
    signers: (typeof publisher)[],
    type: (typeof MEDIA_TYPES)['manifest' | 'head'] = MEDIA_TYPES.manifest,
  ) => fromUtf8(seal(type, payload, signers))
  const good = sealed([publisher])
  const flipped = good.replace(/"sig":"(.)/, (_all, first: string) => `"sig":"${first === 'A' ? 'B' : 'A'}`)
  const cases: [...Case, string][] = [
    ['signed', 'accept', 'exactly the publisher signed', good],
    ['other-signer', 'wrong-signer', "another member's manifest published as one's own", sealed([stranger])],
    ['two-signers', 'wrong-signer', 'a manifest has one author', sealed([publisher, stranger])],
    ['unsigned', 'unsigned', 'no signature', sealed([])],
    [
      'wrong-type',
      'wrong-type',
      'signed as another kind of statement',
      sealed([publisher], MEDIA_TYPES.head),
    ],
    [
      'relabelled',
      'wrong-type',
      'the type is part of what is signed and expected',
      good.replace('vnd.flexmesh.manifest', 'vnd.flexmesh.verdict'),
    ],
    ['bad-signature', 'bad-signature', 'one character of the signature differs', flipped],
  ]
  return vectorsOf('envelope', 'Statements', cases, (text) => ({ decoder: 'open-manifest', text }))
}

function headVectors(): Vector[] {
  const manifests = [digest(3), digest(4)].sort()
  const base = {
    consortium: digest(1),
    publisher: publisher.peerId,
    seq: 3,
    last: digest(2),
    manifests,
    withdrawals: [digest(5)],
    issuedAt: 1_800_000_000,
    expiresAt: 1_800_086_400,
  }
  const cases: [...Case, Record<string, unknown>][] = [
    ['latest', 'accept', 'two manifests stand, one was withdrawn', {}],
    [
      'empty',
      'accept',
      'a member that has published nothing',
      { seq: 0, last: NO_STATEMENT, manifests: [], withdrawals: [] },
    ],
    ['unsorted', 'bad-field', 'a set has one spelling', { manifests: [...manifests].reverse() }],
    ['twice', 'bad-field', 'a set holds each once', { manifests: [manifests[0], manifests[0]] }],
    ['more-than-made', 'bad-field', 'three statements cannot be two', { seq: 2 }],
    ['seq-without-last', 'bad-field', 'a number needs its statement', { last: NO_STATEMENT }],
    [
      'last-without-seq',
      'bad-field',
      'a statement needs its number',
      { seq: 0, manifests: [], withdrawals: [] },
    ],
    [
      'lives-too-long',
      'bad-field',
      'an old head proves nothing',
      { expiresAt: base.issuedAt + limit('headLifetime') + 1 },
    ],
    [
      'too-many',
      'bad-field',
      'a head fits an announcement',
      {
        seq: 99,
        withdrawals: Array.from({ length: limit('digestsPerStatement') + 1 }, (_, index) =>
          digest(index),
        ).sort(),
      },
    ],
    ['unknown-member', 'bad-field', 'heads have no extensions', { ext: {} }],
  ]
  return vectorsOf('head', 'Head', cases, (change) => ({
    decoder: 'head',
    text: fromUtf8(encodeCanonical({ ...base, ...change })),
  }))
}

function withdrawalVectors(): Vector[] {
  const base = {
    consortium: digest(1),
    publisher: publisher.peerId,
    seq: 2,
    prev: digest(2),
    manifests: [digest(2)],
    reason: 'owner-request',
    issuedAt: 1_800_000_000,
  }
  const cases: [...Case, Record<string, unknown>][] = [
    ['one', 'accept', 'takes back the manifest before it', {}],
    ['nothing', 'bad-field', 'names at least one manifest', { manifests: [] }],
    [
      'free-text',
      'bad-field',
      'kept forever, so no personal data',
      { reason: 'at the request of a patient' },
    ],
    ['expires', 'bad-field', 'a withdrawal is for good', { expiresAt: 1_900_000_000 }],
    ['first', 'bad-field', 'statement 1 follows nothing, later ones something', { prev: NO_STATEMENT }],
  ]
  return vectorsOf('withdrawal', 'Withdrawal', cases, (change) => ({
    decoder: 'withdrawal',
    text: fromUtf8(encodeCanonical({ ...base, ...change })),
  }))
}

function chainVectors(): Vector[] {
  const tip = { seq: 5, digest: digest(5) }
  const link = (seq: number, prev: number, id: number) => ({ seq, prev: digest(prev), id: digest(id) })
  const cases: [...Case, Record<string, unknown>][] = [
    ['next', 'accept', 'extends the chain', link(6, 5, 6)],
    ['known', 'accept', 'the latest again changes nothing', link(5, 4, 5)],
    ['other-predecessor', 'forked', 'numbers follow, digests do not', link(6, 4, 6)],
    ['same-number', 'forked', 'two statements in one place: both are kept as proof', link(5, 4, 9)],
    ['older', 'replayed', 'an earlier statement offered as new', link(4, 3, 4)],
  ]
  return vectorsOf('chain', 'Chain', cases, (statement) => ({ decoder: 'chain', tip, statement }))
}

function chunkVectors(): Vector[] {
  const size = 2 * limit('chunkBytes') + 1
  const { ref, chunkHashes } = fileRefOf(new Uint8Array(size))
  const swapped = concatBytes(chunkHashes.subarray(64), chunkHashes.subarray(0, 64))
  const cases: [...Case, Uint8Array][] = [
    ['hashes', 'accept', '2 MiB and one byte of zeros are three chunks', chunkHashes],
    ['hashes-reordered', 'wrong-digest', 'order is part of the commitment', swapped],
    ['hashes-short', 'bad-field', 'one hash for each chunk', chunkHashes.subarray(32)],
    ['hashes-long', 'bad-field', 'one hash for each chunk', concatBytes(chunkHashes, new Uint8Array(32))],
  ]
  return vectorsOf('chunk', 'Files and chunks', cases, (hashes) => ({
    decoder: 'chunk-hashes',
    ref: { ...ref },
    hex: toHex(hashes),
  }))
}
