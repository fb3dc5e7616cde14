import { describe, expect, it } from 'vitest'
import { encodeCharter, openCharter } from '../../src/consortium/charter.ts'
import { seal } from '../../src/identity/envelope.ts'
import type { Identity } from '../../src/identity/keys.ts'
import { MEDIA_TYPES } from '../../src/identity/media-types.ts'
import { charterOf, consortium, identityOf } from '../support/consortium.ts'
import { codeOf } from '../support/packages.ts'

const [first, second, stranger] = [1, 2, 3].map(identityOf) as [Identity, Identity, Identity]
const { charter, charterEnvelope, id } = consortium([first, second])
const signedBy = (...signers: Identity[]): Uint8Array =>
  seal(MEDIA_TYPES.charter, encodeCharter(charter), signers)

describe('a charter', () => {
  it('opens if every founder has signed it, and its digest is the id of the consortium', () => {
    const opened = openCharter(charterEnvelope)
    expect(opened.consortium).toBe(id)
    expect(opened.charter).toEqual(charter)
  })

  it('is refused if a founder has not signed it, or somebody else has', () => {
    expect(codeOf(() => openCharter(signedBy(first)))).toBe('unsigned')
    expect(codeOf(() => openCharter(signedBy(first, second, stranger)))).toBe('wrong-signer')
  })

  it('is refused under the media type of a roster', () => {
    const envelope = seal(MEDIA_TYPES.roster, encodeCharter(charter), [first, second])
    expect(codeOf(() => openCharter(envelope))).toBe('wrong-type')
  })

  it.each([0, 3])('of two founders is refused with the threshold %d', (threshold) => {
    const bytes = encodeCharter(charterOf([first, second], { threshold }))
    expect(codeOf(() => openCharter(seal(MEDIA_TYPES.charter, bytes, [first, second])))).toBe('bad-field')
  })
})
