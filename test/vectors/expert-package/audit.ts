/** Test vectors of section Audit. */
import { fromUtf8 } from '../../../src/lib/bytes.ts'
import { encodeCanonical } from '../../../src/lib/canonical-json.ts'
import { privateManifest, tinyManifest } from '../../support/packages.ts'
import { type Case, type Vector, vectorsOf } from '../vector.ts'
import { digest, publisher } from './fixtures.ts'

export function auditVectors(): Vector[] {
  const base = tinyManifest(publisher.peerId)
  const report = digest(9)
  const canaries = { count: 100, seed: 7, guesses: 50, right: 27, epsilonLowMicro: 0 }
  const extraction = { texts: 500, extracted: 3, extractedPublic: 1, heldOutTexts: 90, heldOutExtracted: 0 }
  const membership = { members: 500, others: 90, byLossRatio: 12, byMinK: 9 }
  const whole = { report, canaries, extraction, membership }
  const json = (audit: unknown) => fromUtf8(encodeCanonical({ ...base, audit } as never))
  const guaranteed = (audit: unknown) =>
    fromUtf8(encodeCanonical({ ...privateManifest(publisher.peerId), audit } as never))
  const without = (name: string, from: object) =>
    Object.fromEntries(Object.entries(from).filter(([key]) => key !== name))
  const changed = (part: 'canaries' | 'extraction' | 'membership', change: object) =>
    json({ ...whole, [part]: { ...whole[part], ...change } })
  const cases: [...Case, string][] = [
    ['stated', 'accept', 'all attacks, and what they found', json(whole)],
    ['without-canaries', 'accept', 'no canaries were hidden', json(without('canaries', whole))],
    ['canaries-alone', 'accept', 'figures of private text are left out', json({ report, canaries })],
    ['report-alone', 'accept', 'an audit without any figures', json({ report })],
    [
      'accepted-risk',
      'accept',
      'a risk that the publisher accepted',
      json({ ...whole, acceptedRisk: 'all authors have consented' }),
    ],
    [
      'everything-found',
      'accept',
      'the largest numbers',
      changed('canaries', { right: 50, epsilonLowMicro: 64_000_000 }),
    ],
    ['of-a-guarantee', 'accept', 'an audit of a training with a guarantee', guaranteed({ report, canaries })],
    [
      'figures-outside-of-a-guarantee',
      'bad-field',
      'exact figures of the text of a training with a guarantee',
      guaranteed(whole),
    ],
    ['empty', 'bad-field', 'an empty object', json({})],
    ['as-text', 'bad-field', 'text instead of an object', json('passed')],
    ['no-report', 'bad-field', 'figures without a report', json(without('report', whole))],
    ['report-as-text', 'bad-field', 'a report that is no digest', json({ ...whole, report: 'audit.json' })],
    ['outcome', 'bad-field', 'a member that the format does not have', json({ ...whole, outcome: 'pass' })],
    [
      'inclusion-bits',
      'bad-field',
      'which canaries were in the text',
      changed('canaries', { included: 'AAAA' }),
    ],
    [
      'no-seed',
      'bad-field',
      'canaries without a seed',
      json({ ...whole, canaries: without('seed', canaries) }),
    ],
    ['large-seed', 'bad-field', 'a seed above 2^32 - 1', changed('canaries', { seed: 2 ** 32 })],
    [
      'no-canaries',
      'bad-field',
      'a number of 0 canaries',
      changed('canaries', { count: 0, guesses: 0, right: 0 }),
    ],
    ['many-canaries', 'bad-field', 'more canaries than the limit', changed('canaries', { count: 10_001 })],
    ['more-guesses', 'bad-field', 'more guesses than canaries', changed('canaries', { guesses: 101 })],
    ['more-right', 'bad-field', 'more right guesses than guesses', changed('canaries', { right: 51 })],
    [
      'large-epsilon',
      'bad-field',
      'a bound that no number of guesses proves',
      changed('canaries', { epsilonLowMicro: 64_000_001 }),
    ],
    [
      'more-extracted',
      'bad-field',
      'more extracted pieces than pieces',
      changed('extraction', { extracted: 501 }),
    ],
    [
      'more-extracted-publicly',
      'bad-field',
      'more pieces extracted from the public model than pieces',
      changed('extraction', { extractedPublic: 501 }),
    ],
    [
      'more-held-out-extracted',
      'bad-field',
      'more extracted held-out pieces than held-out pieces',
      changed('extraction', { heldOutExtracted: 91 }),
    ],
    [
      'no-public-extraction',
      'bad-field',
      'extraction without the public model',
      json({ ...whole, extraction: without('extractedPublic', extraction) }),
    ],
    [
      'more-recognised',
      'bad-field',
      'more recognised members than members',
      changed('membership', { byMinK: 501 }),
    ],
    [
      'more-recognised-by-loss',
      'bad-field',
      'more members recognised by their loss than members',
      changed('membership', { byLossRatio: 501 }),
    ],
    [
      'no-others',
      'bad-field',
      'membership without other texts',
      json({ ...whole, membership: without('others', membership) }),
    ],
    ['extraction-alone', 'bad-field', 'extraction without membership', json({ report, extraction })],
    ['membership-alone', 'bad-field', 'membership without extraction', json({ report, membership })],
    ['no-reason', 'bad-field', 'an accepted risk without a reason', json({ ...whole, acceptedRisk: '' })],
    [
      'long-reason',
      'bad-field',
      'a reason of 201 characters',
      json({ ...whole, acceptedRisk: 'x'.repeat(201) }),
    ],
    [
      'reason-control',
      'bad-field',
      'a reason with a control character',
      json({ ...whole, acceptedRisk: 'all\u001b[31m' }),
    ],
  ]
  return vectorsOf('audit', 'expert-package Audit', cases, (payload) => ({
    decoder: 'manifest',
    text: payload,
  }))
}
