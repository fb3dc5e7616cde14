/** Test vectors of section Manifest. */
import { LENGTH_BYTES } from '../../../src/checkpoint/safetensors.ts'
import { fromUtf8 } from '../../../src/lib/bytes.ts'
import { encodeCanonical } from '../../../src/lib/canonical-json.ts'
import type { FileRef } from '../../../src/lib/file-ref.ts'
import { limit } from '../../../src/lib/limits.ts'
import { encodeManifest } from '../../../src/packaging/manifest.ts'
import { expertDataBytes } from '../../../src/packaging/tensor-names.ts'
import { packTensors } from '../../support/package-bytes.ts'
import { TINY_EXPERT, tinyManifest, tinyTensors } from '../../support/packages.ts'
import { type Case, type Vector, vectorsOf } from '../vector.ts'
import { digest, publisher, VOCABULARY } from './fixtures.ts'

export function manifestVectors(): Vector[] {
  const base = tinyManifest(publisher.peerId)
  const text = fromUtf8(encodeManifest(base))
  const without = (name: string) => Object.fromEntries(Object.entries(base).filter(([key]) => key !== name))
  const json = (change: Record<string, unknown>) => fromUtf8(encodeCanonical({ ...base, ...change }))
  const [file] = base.files
  const lowRank = packTensors(tinyTensors({ ...TINY_EXPERT, rank: 2 }), 'BF16')
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
  /** A manifest of an expert without biases, so with four tensors a layer, and perhaps with statistics. */
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
    ['no-eval', 'accept', 'a manifest without results of an evaluation', json({ eval: [] })],
    [
      'unknown-member',
      'bad-field',
      'a member outside ext that the format does not have',
      json({ comment: 'x' }),
    ],
    ['missing-member', 'bad-field', 'a member is missing', fromUtf8(encodeCanonical(without('license')))],
    ['prev-in-first', 'bad-field', 'a predecessor in statement 1', json({ prev: digest(1) })],
    ['no-prev-in-second', 'bad-field', 'no predecessor in statement 2', json({ seq: 2 })],
    ['low-rank', 'accept', 'an expert of rank 2', ranked(2)],
    ['rank-zero', 'bad-field', 'a rank of 0', ranked(0)],
    ['rank-over-size', 'bad-field', 'a rank above the smaller size of the FFN', ranked(5)],
    ['rank-as-text', 'bad-field', 'a rank as text', ranked('2')],
    [
      'rank-file-too-small',
      'bad-field',
      'a file too small for its rank',
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
    ['seq-zero', 'bad-field', 'a sequence number of 0', json({ seq: 0 })],
    [
      'lives-too-long',
      'bad-field',
      'consent longer than the limit',
      json({ expiresAt: base.issuedAt + limit('manifestLifetime') + 1 }),
    ],
    ['expires-at-once', 'bad-field', 'consent that ends when it begins', json({ expiresAt: base.issuedAt })],
    [
      'upper-case-digest',
      'bad-field',
      'a digest in upper-case digits',
      json({ consortium: `sha256:${'AB'.repeat(32)}` }),
    ],
    [
      'rsa-publisher',
      'bad-field',
      'the peer id of an RSA key',
      json({ publisher: 'QmYyQSo1c1Ym7orWxLYvCrM2EmxFTANf8wXmmE7DWjhx5N' }),
    ],
    [
      'file-path',
      'bad-field',
      'a file with a path',
      json({ files: [{ ...file, path: '../../etc/passwd' }] }),
    ],
    [
      'file-role',
      'bad-field',
      'a file with another role than expert',
      json({ files: [{ ...file, role: 'code' }] }),
    ],
    [
      'file-too-small',
      'bad-field',
      'a file too small for its shape',
      json({ files: [{ ...file, size: 100 }] }),
    ],
    [
      'file-too-large',
      'bad-field',
      'a file too large for its shape',
      json({ files: [{ ...file, size: 2 ** 31 }] }),
    ],
    ['chunk-size', 'bad-field', 'another chunk size', json({ files: [{ ...file, chunkSize: 65_536 }] })],
    [
      'name-with-slash',
      'bad-field',
      'a name with a slash',
      json({ expert: { ...base.expert, name: '../x' } }),
    ],
    ['domain-control', 'bad-field', 'a domain with a control character', json({ domain: 'court\u001b[31m' })],
    [
      'replay-share',
      'bad-field',
      'a replay share above 1000 thousandths',
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
      'a number of documents without statistics',
      json({ expert: { ...base.expert, statisticsDocuments: 120 } }),
    ],
    [
      'statistics-noise-alone',
      'bad-field',
      'an epsilon without statistics',
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
      'a number of tokens that is not a number',
      json({ expert: { ...withStatistics, statisticsTokens: '8' }, files: [withStatisticsFile] }),
    ],
    [
      'statistics-true',
      'bad-field',
      'a number of tokens that is not a number',
      json({ expert: { ...withStatistics, statisticsTokens: true }, files: [withStatisticsFile] }),
    ],
    [
      'statistics-unsaid',
      'bad-field',
      'a member is missing',
      json({
        expert: Object.fromEntries(Object.entries(base.expert).filter(([key]) => key !== 'statisticsTokens')),
      }),
    ],
    [
      'statistics-flag',
      'bad-field',
      'a flag instead of the number of tokens',
      json({ expert: { ...withStatistics, statistics: true }, files: [withStatisticsFile] }),
    ],
    [
      'statistics-more-than-a-file',
      'bad-field',
      'more tokens than a file has bytes',
      json({ expert: { ...withStatistics, statisticsTokens: limit('fileBytes') + 1 } }),
    ],
    ['eval-twice', 'bad-field', 'two results on the same set', json({ eval: [base.eval[0], base.eval[0]] })],
    ['white-space', 'not-canonical', 'white space between members', ` ${text}`],
    ['float', 'not-canonical', 'an integer written as 1.0', text.replace('"seq":1', '"seq":1.0')],
    ['duplicate-key', 'not-canonical', 'a key that occurs twice', text.replace('"seq":1', '"seq":2,"seq":1')],
    ['escaped-key', 'not-canonical', 'a key written with an escape', text.replace('"ext"', '"\\u0065xt"')],
    ['proto-key', 'not-canonical', 'the key __proto__', text.replace('"ext":{}', '"ext":{"__proto__":{}}')],
    [
      'null',
      'not-canonical',
      'a value outside the profile of canonical JSON',
      text.replace('"ext":{}', '"ext":{"x":null}'),
    ],
    [
      'negative',
      'not-canonical',
      'a value outside the profile of canonical JSON',
      text.replace('"ext":{}', '"ext":{"x":-1}'),
    ],
    ['byte-order-mark', 'not-json', 'a byte order mark before the JSON', `\ufeff${text}`],
    ['cut', 'not-json', 'a statement that is cut off', text.slice(0, 200)],
  ]
  return vectorsOf('manifest', 'expert-package Manifest', cases, (payload) => ({
    decoder: 'manifest',
    text: payload,
  }))
}
