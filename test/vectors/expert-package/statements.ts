/** Test vectors of section Statements: envelopes and their signatures. */
import { seal } from '../../../src/identity/envelope.ts'
import { MEDIA_TYPES } from '../../../src/identity/media-types.ts'
import { fromUtf8 } from '../../../src/lib/bytes.ts'
import { encodeManifest } from '../../../src/packaging/manifest.ts'
import { tinyManifest } from '../../support/packages.ts'
import { type Case, type Vector, vectorsOf } from '../vector.ts'
import { publisher, stranger } from './fixtures.ts'

export function envelopeVectors(): Vector[] {
  const payload = encodeManifest(tinyManifest(publisher.peerId))
  const sealed = (
    signers: (typeof publisher)[],
    type: (typeof MEDIA_TYPES)['manifest' | 'head'] = MEDIA_TYPES.manifest,
  ) => fromUtf8(seal(type, payload, signers))
  const good = sealed([publisher])
  const flipped = good.replace(/"sig":"(.)/, (_all, first: string) => `"sig":"${first === 'A' ? 'B' : 'A'}`)
  const cases: [...Case, string][] = [
    ['signed', 'accept', 'one signature, by the publisher', good],
    ['other-signer', 'wrong-signer', "another member's manifest published as one's own", sealed([stranger])],
    ['two-signers', 'wrong-signer', 'two signatures', sealed([publisher, stranger])],
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
      'an envelope whose type was changed after it was signed',
      good.replace('vnd.flexmesh.manifest', 'vnd.flexmesh.verdict'),
    ],
    ['bad-signature', 'bad-signature', 'one character of the signature differs', flipped],
  ]
  return vectorsOf('envelope', 'expert-package Statements', cases, (text) => ({
    decoder: 'open-manifest',
    text,
  }))
}
