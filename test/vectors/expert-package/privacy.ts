/** Test vectors of section Privacy. */
import { seal } from '../../../src/identity/envelope.ts'
import { MEDIA_TYPES } from '../../../src/identity/media-types.ts'
import { fromUtf8 } from '../../../src/lib/bytes.ts'
import { encodeCanonical } from '../../../src/lib/canonical-json.ts'
import type { Manifest } from '../../../src/packaging/manifest.ts'
import { DP_STATEMENT, privateManifest } from '../../support/packages.ts'
import { type Case, type Vector, vectorsOf } from '../vector.ts'
import { publisher, VOCABULARY } from './fixtures.ts'

/** A manifest with DP_STATEMENT, or of an expert with noised router statistics beside it. */
const base = privateManifest(publisher.peerId)
const noised: Partial<Manifest> = {
  expert: {
    ...base.expert,
    statisticsTokens: VOCABULARY,
    statisticsDocuments: 120,
    statisticsEpsilonMilli: 8000,
  },
  files: [{ ...base.files[0], size: base.files[0].size + 4 * VOCABULARY }],
}

export function privacyVectors(): Vector[] {
  const json = (change: Record<string, unknown>) => fromUtf8(encodeCanonical({ ...base, ...change }))
  const stated = (change: Record<string, unknown>) => json({ privacy: { ...DP_STATEMENT, ...change } })
  const without = (name: string) =>
    json({ privacy: Object.fromEntries(Object.entries(DP_STATEMENT).filter(([key]) => key !== name)) })
  const max = Number.MAX_SAFE_INTEGER
  const cases: [...Case, string][] = [
    ['stated', 'accept', 'a training with a guarantee', stated({})],
    ['none', 'accept', 'no guarantee', json({ privacy: { mechanism: 'none' } })],
    ['source', 'accept', 'a guarantee for sources', stated({ unit: 'source' })],
    [
      'truncated',
      'accept',
      'a part of delta pays for truncated steps',
      stated({ truncationDeltaInverse: max }),
    ],
    [
      'statistics',
      'accept',
      'router statistics with noise inside of the guarantee',
      json({ ...noised, privacy: { ...DP_STATEMENT, statisticsNoiseMicro: 5_000_000 } }),
    ],
    ['empty', 'bad-field', 'an empty object', json({ privacy: {} })],
    ['as-text', 'bad-field', 'text instead of an object', json({ privacy: 'none' })],
    ['other-mechanism', 'bad-field', 'an unknown mechanism', stated({ mechanism: 'dp-ftrl' })],
    [
      'none-with-epsilon',
      'bad-field',
      'no mechanism, but an epsilon',
      json({ privacy: { mechanism: 'none', epsilonMicro: 1 } }),
    ],
    ['unknown-member', 'bad-field', 'a member that the format does not have', stated({ comment: 'x' })],
    ['no-epsilon', 'bad-field', 'a missing epsilon', without('epsilonMicro')],
    ['no-runs', 'bad-field', 'a missing number of runs', without('tunedRuns')],
    ['no-attestation', 'bad-field', 'a missing attestation', without('attestation')],
    ['attested-by-others', 'bad-field', 'an unknown attestation', stated({ attestation: 'audited' })],
    ['other-unit', 'bad-field', 'an unknown unit', stated({ unit: 'person' })],
    ['other-relation', 'bad-field', 'an unknown neighbouring relation', stated({ relation: 'replace-one' })],
    [
      'shuffled',
      'bad-field',
      'a sampler that the accountant does not cover',
      stated({ sampler: 'shuffled' }),
    ],
    ['epsilon-zero', 'bad-field', 'an epsilon of 0', stated({ epsilonMicro: 0 })],
    ['epsilon-text', 'bad-field', 'an epsilon as text', stated({ epsilonMicro: '8000000' })],
    ['delta-one', 'bad-field', 'a delta of 1', stated({ deltaInverse: 1 })],
    [
      'delta-used-up',
      'bad-field',
      'truncated steps use up delta',
      stated({ truncationDeltaInverse: DP_STATEMENT.deltaInverse }),
    ],
    ['no-noise', 'bad-field', 'a training without noise', stated({ noiseMicro: 0 })],
    ['no-clip', 'bad-field', 'a training without a clip', stated({ clipMicro: 0 })],
    ['rate-zero', 'bad-field', 'a sample rate of 0', stated({ sampleRateNano: 0 })],
    ['rate-above-one', 'bad-field', 'a sample rate above 1', stated({ sampleRateNano: 1e9 + 1 })],
    ['steps-zero', 'bad-field', 'a training of no steps', stated({ steps: 0 })],
    ['no-units', 'bad-field', 'a text of no units', stated({ units: 0 })],
    ['no-capacity', 'bad-field', 'steps that hold no unit', stated({ capacity: 0 })],
    ['no-windows', 'bad-field', 'units without windows', stated({ windowsPerUnit: 0 })],
    ['runs-zero', 'bad-field', 'chosen from no training', stated({ tunedRuns: 0 })],
    ['accountant-with-space', 'bad-field', 'a name with a space', stated({ accountant: 'RDP integer' })],
    ['accountant-long', 'bad-field', 'a name that is too long', stated({ accountant: 'a'.repeat(41) })],
    [
      'own-eval',
      'bad-field',
      'an exact score on own text beside a guarantee',
      json({ eval: [{ set: 'own', metric: 'bits-per-byte', before: 2, after: 1 }] }),
    ],
    [
      'documents',
      'bad-field',
      'an exact number of documents beside a guarantee',
      json({ training: { ...base.training, documents: 120 } }),
    ],
    [
      'tokens',
      'bad-field',
      'an exact number of tokens beside a guarantee',
      json({ training: { ...base.training, tokens: 48_000 } }),
    ],
    ['statistics-outside', 'bad-field', 'router statistics that the guarantee does not cover', json(noised)],
    [
      'statistics-exact',
      'bad-field',
      'exact router statistics beside a guarantee',
      json({
        ...noised,
        expert: { ...base.expert, ...noised.expert, statisticsEpsilonMilli: 0 },
        privacy: { ...DP_STATEMENT, statisticsNoiseMicro: 5_000_000 },
      }),
    ],
    [
      'statistics-missing',
      'bad-field',
      'noise of statistics that the package does not have',
      stated({ statisticsNoiseMicro: 5_000_000 }),
    ],
  ]
  return vectorsOf('privacy', 'expert-package Privacy', cases, (text) => ({ decoder: 'manifest', text }))
}

/** Manifests that a receiver refuses before it fetches anything. */
export function judgedPrivacyVectors(): Vector[] {
  const text = (manifest: Partial<Manifest>) =>
    fromUtf8(seal(MEDIA_TYPES.manifest, encodeCanonical({ ...base, ...manifest }), [publisher]))
  const stated = (change: Record<string, unknown>) =>
    text({ privacy: { ...DP_STATEMENT, ...change } as Manifest['privacy'] & object })
  const withStatistics = (epsilonMicro: number) =>
    text({
      ...noised,
      privacy: { ...DP_STATEMENT, epsilonMicro, statisticsNoiseMicro: 5_000_000 },
    })
  const unstated = fromUtf8(
    seal(
      MEDIA_TYPES.manifest,
      encodeCanonical(Object.fromEntries(Object.entries(base).filter(([key]) => key !== 'privacy'))),
      [publisher],
    ),
  )
  const { epsilonMicro } = DP_STATEMENT
  /** Text, and the maximum epsilon of the receiver in micro. */
  const cases: [...Case, string, number | undefined][] = [
    ['computed', 'accept', 'the epsilon that the accountant computes', stated({}), undefined],
    [
      'higher',
      'accept',
      'a higher epsilon than computed',
      stated({ epsilonMicro: epsilonMicro + 9 }),
      undefined,
    ],
    [
      'lower',
      'privacy-statement',
      'a lower epsilon than computed',
      stated({ epsilonMicro: epsilonMicro - 2 }),
      undefined,
    ],
    [
      'less-noise',
      'privacy-statement',
      'less noise',
      stated({ noiseMicro: DP_STATEMENT.noiseMicro - 10_000 }),
      undefined,
    ],
    ['more-steps', 'privacy-statement', 'more steps', stated({ steps: DP_STATEMENT.steps + 10 }), undefined],
    ['larger-rate', 'privacy-statement', 'larger samples', stated({ sampleRateNano: 40_000_000 }), undefined],
    ['smaller-delta', 'privacy-statement', 'a smaller delta', stated({ deltaInverse: 1_000_000 }), undefined],
    [
      'truncation',
      'privacy-statement',
      'half of delta pays for truncated steps',
      stated({ truncationDeltaInverse: 40_000 }),
      undefined,
    ],
    [
      'with-statistics',
      'accept',
      'an epsilon that includes router statistics',
      withStatistics(2_139_999),
      undefined,
    ],
    [
      'statistics-left-out',
      'privacy-statement',
      'the epsilon of the training alone',
      withStatistics(epsilonMicro),
      undefined,
    ],
    [
      'other-accountant',
      'accept',
      'an accountant that the receiver does not know',
      stated({ accountant: 'pld-1', epsilonMicro: 1 }),
      undefined,
    ],
    [
      'not-required',
      'accept',
      'no guarantee, and none is asked for',
      text({ privacy: { mechanism: 'none' } }),
      undefined,
    ],
    ['allowed', 'accept', 'exactly the largest epsilon that the receiver allows', stated({}), epsilonMicro],
    ['above-allowed', 'privacy-required', 'an epsilon above the largest', stated({}), epsilonMicro - 1],
    [
      'none-although-required',
      'privacy-required',
      'no guarantee',
      text({ privacy: { mechanism: 'none' } }),
      8_000_000,
    ],
    ['unstated-although-required', 'privacy-required', 'no statement', unstated, 8_000_000],
    [
      'other-accountant-although-required',
      'privacy-required',
      'an epsilon that cannot be computed',
      stated({ accountant: 'pld-1', epsilonMicro: 1 }),
      8_000_000,
    ],
  ]
  return vectorsOf('judged-privacy', 'expert-package Privacy', cases, (envelope, maxEpsilonMicro) => ({
    decoder: 'judge-manifest',
    vocabulary: VOCABULARY,
    ...(maxEpsilonMicro === undefined ? {} : { maxEpsilonMicro }),
    text: envelope,
  }))
}
