/** Test vectors of section Manifest. */
import { LENGTH_BYTES } from '../../../src/checkpoint/safetensors.ts'
import { fromUtf8 } from '../../../src/lib/bytes.ts'
import { encodeCanonical } from '../../../src/lib/canonical-json.ts'
import type { FileRef } from '../../../src/lib/file-ref.ts'
import { limit } from '../../../src/lib/limits.ts'
import { encodeManifest } from '../../../src/packaging/manifest.ts'
import { packExpert } from '../../../src/packaging/package.ts'
import { expertDataBytes } from '../../../src/packaging/tensor-names.ts'
import { TINY_EXPERT, tinyManifest, tinyTensors } from '../../support/packages.ts'
import { type Case, type Vector, vectorsOf } from '../vector.ts'
import { digest, publisher, VOCABULARY } from './fixtures.ts'

export function manifestVectors(): Vector[] {
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
  return vectorsOf('manifest', 'expert-package Manifest', cases, (payload) => ({
    decoder: 'manifest',
    text: payload,
  }))
}
