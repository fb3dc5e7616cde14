/** Test vectors of section Router statistics: the tensor, its values, and what a manifest declares about it. */
import { fromFloat32 } from '../../../src/checkpoint/safetensors.ts'
import { seal } from '../../../src/identity/envelope.ts'
import { MEDIA_TYPES } from '../../../src/identity/media-types.ts'
import { fromUtf8, toHex } from '../../../src/lib/bytes.ts'
import { limit } from '../../../src/lib/limits.ts'
import { encodeManifest } from '../../../src/packaging/manifest.ts'
import { TINY_EXPERT, tinyManifest } from '../../support/packages.ts'
import { type Case, type Vector, vectorsOf } from '../vector.ts'
import { fileEditor, packageVectors, publisher, VOCABULARY, zeros } from './fixtures.ts'

export function statisticsVectors(): Vector[] {
  const tokens = 'router_statistics.tokens'
  const announced = { statisticsTokens: VOCABULARY }
  const file = fileEditor({ ...TINY_EXPERT, ...announced })
  const cases: [...Case, Uint8Array][] = [
    ['statistics', 'accept', 'a share for each of eight tokens', file()],
    ['statistics-missing', 'tensor-name', 'the manifest says that there are some', file(undefined, tokens)],
    [
      'statistics-of-a-layer',
      'tensor-name',
      'router statistics under the name of a layer',
      file(zeros(`model.layers.0.${tokens}`, 'F32', VOCABULARY)),
    ],
    [
      'statistics-mean',
      'tensor-name',
      'statistics of another kind instead of shares',
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
      'router statistics in BF16',
      file(zeros(tokens, 'BF16', VOCABULARY)),
    ],
    [
      'statistics-counts',
      'tensor-dtype',
      'router statistics as integers',
      file(zeros(tokens, 'I32', VOCABULARY)),
    ],
  ]
  const unasked: [...Case, Uint8Array][] = [
    ['statistics-unasked', 'tensor-name', 'the manifest says that there are none', file()],
  ]
  return packageVectors('Router statistics', [
    ...cases.map((entry) => [...entry, announced] as const),
    ...unasked.map((entry) => [...entry, {}] as const),
  ])
}

/** Values of the tensor in a package whose structure is right. */
export function sharesVectors(): Vector[] {
  const cases: [...Case, number[]][] = [
    ['whole', 'accept', 'two tokens in equal parts', [0.5, 0.5, 0, 0]],
    ['rounded', 'accept', 'a sum that differs from 1 by rounding', [0.5, 0.4999, 0, 0]],
    ['negative', 'statistics-shares', 'a sum of 1 with a share below 0', [0.6, 0.5, -0.1, 0]],
    ['too-little', 'statistics-shares', 'a sum of 0.9', [0.5, 0.4, 0, 0]],
    ['too-much', 'statistics-shares', 'a sum of 2', [1, 0.5, 0.5, 0]],
    ['of-nothing', 'statistics-shares', 'a sum of 0', [0, 0, 0, 0]],
    ['counts', 'statistics-shares', 'counts instead of shares', [12, 30, 1, 0]],
    ['not-a-number', 'not-finite', 'a share that is not a number', [0.5, Number.NaN, 0.5, 0]],
    ['infinite', 'not-finite', 'an infinite share', [Number.POSITIVE_INFINITY, 0, 0, 0]],
  ]
  return vectorsOf('shares', 'expert-package Router statistics', cases, (shares) => ({
    decoder: 'shares',
    hex: toHex(fromFloat32(Float32Array.from(shares), 'F32')),
  }))
}

/** Manifests that a receiver refuses before it fetches anything. */
export function declaredStatisticsVectors(): Vector[] {
  const enough = limit('statisticsDocuments')
  const cases: [...Case, number, number][] = [
    ['enough', 'accept', 'the minimum number of documents', VOCABULARY, enough],
    ['few-documents', 'statistics-documents', 'one document fewer than the minimum', VOCABULARY, enough - 1],
    ['one-document', 'statistics-documents', 'statistics of a single document', VOCABULARY, 1],
    ['smaller-vocabulary', 'tensor-shape', 'seven of eight tokens', VOCABULARY - 1, enough],
    ['larger-vocabulary', 'tensor-shape', 'more tokens than the vocabulary has', VOCABULARY + 1, enough],
  ]
  const { expert, files } = tinyManifest(publisher.peerId)
  return vectorsOf(
    'declared',
    'expert-package Router statistics',
    cases,
    (statisticsTokens, statisticsDocuments) => {
      const manifest = tinyManifest(publisher.peerId, {
        expert: { ...expert, statisticsTokens, statisticsDocuments },
        files: [{ ...files[0], size: files[0].size + 4 * statisticsTokens }],
      })
      const text = fromUtf8(seal(MEDIA_TYPES.manifest, encodeManifest(manifest), [publisher]))
      return { decoder: 'judge-manifest', vocabulary: VOCABULARY, text }
    },
  )
}
