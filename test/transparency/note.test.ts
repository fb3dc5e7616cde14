import { describe, expect, it } from 'vitest'
import { createIdentity } from '../../src/identity/keys.ts'
import { fromUtf8, utf8 } from '../../src/lib/bytes.ts'
import { cosign, cosignedAt, timeOf } from '../../src/transparency/cosignature.ts'
import {
  COSIGNATURE,
  decodeNote,
  decodeVerifierKey,
  ED25519,
  encodeNote,
  encodeVerifierKey,
  isSignedBy,
  signText,
  type VerifierKey,
} from '../../src/transparency/note.ts'
import { cosignaturesNeeded, cosignersOf } from '../../src/transparency/quorum.ts'
import { decodeTrustPolicy, isQuorate } from '../../src/transparency/trust-policy.ts'
import { codeOf } from '../support/packages.ts'

/** C2SP signed-note, section "Example". */
const KEY = 'example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k'
const NOTE = `This is an example message.

— example.com/foo Uw2QOkn8srV1yJGh2VYRlL1Tnagv1YEq6TfXppzi2ONncAlTgK7Ztg1ERYNZXsYjOBH3mFXmRKuwHjG1Yu72IneyaQM=
`
/** C2SP tlog-cosignature, introduction. */
const COSIGNED = `example.com/behind-the-sofa
20852163
CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=

— example.com/behind-the-sofa Az3grlgtzPICa5OS8npVmf1Myq/5IZniMp+ZJurmRDeOoRDe4URYN7u5/Zhcyv2q1gGzGku9nTo+zyWE+xeMcTOAYQ8=
— witness.example.com/w1 jWbPPwAAAABkGFDLEZMHwSRaJNiIDoe9DYn/zXcrtPHeolMI5OWXEhZCB9dlrDJsX3b2oyin1nPZqhf5nNo0xUe+mbIUBkBIfZ+qnA==
`
const TEXT = 'log\n0\n47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=\n'
const identities = [1, 2, 3, 4, 5, 6].map((number) => createIdentity(new Uint8Array(32).fill(number)))
const witness = (i: number): VerifierKey => ({
  name: `w${i}.example`,
  type: COSIGNATURE,
  publicKey: identities[i]?.publicKey ?? new Uint8Array(),
})

describe('a signed note', () => {
  it('of C2SP is verified by its key, and no other text is', () => {
    const key = decodeVerifierKey(KEY)
    expect(encodeVerifierKey(key)).toBe(KEY)
    expect(isSignedBy(decodeNote(utf8(NOTE)), key)).toBe(true)
    expect(fromUtf8(encodeNote(decodeNote(utf8(NOTE))))).toBe(NOTE)
    const changed = decodeNote(utf8(NOTE.replace('an example', 'no example')))
    expect(codeOf(() => isSignedBy(changed, key))).toBe('bad-signature')
  })

  it('is not signed by a key of another name or type, whatever its line says', () => {
    const { publicKey } = decodeVerifierKey(KEY)
    const note = decodeNote(utf8(NOTE))
    expect(isSignedBy(note, { name: 'example.com/bar', type: ED25519, publicKey })).toBe(false)
    expect(cosignedAt(note, { name: 'example.com/foo', type: COSIGNATURE, publicKey })).toBeUndefined()
  })
})

describe('a cosignature', () => {
  it('of C2SP states its key and its time', () => {
    const line = decodeNote(utf8(COSIGNED)).signatures[1]
    expect([line?.name, line?.keyId, line && timeOf(line)]).toEqual([
      'witness.example.com/w1',
      '8d66cf3f',
      1_679_315_147,
    ])
  })

  it('counts for its text and its time only, and once for each member', () => {
    const [first, second] = identities as [(typeof identities)[0] & object, (typeof identities)[0] & object]
    const lines = [5, 9].map((time) => cosign('w0.example', first, TEXT, time))
    const witnesses = [
      { peerId: 'a', key: witness(0) },
      { peerId: 'b', key: witness(1) },
    ]
    const stolen = { ...cosign('w0.example', first, TEXT, 7), name: 'w1.example' }
    const other = cosign('w1.example', second, TEXT.replace('log', 'other'), 7)
    const found = cosignersOf({ text: TEXT, signatures: [...lines, stolen, other] }, witnesses)
    expect(found.map(({ peerId, at }) => [peerId, at])).toEqual([['a', 9]])
  })

  it('is no signature of a log, and a signature of a log is no cosignature', () => {
    const [first] = identities as [(typeof identities)[0] & object]
    const asLog = { name: 'w0.example', type: ED25519, publicKey: first.publicKey }
    const cosigned = { text: TEXT, signatures: [cosign('w0.example', first, TEXT, 5)] }
    const signed = { text: TEXT, signatures: [signText('w0.example', first, TEXT)] }
    expect(isSignedBy(cosigned, asLog)).toBe(false)
    expect(cosignedAt(signed, witness(0))).toBeUndefined()
  })
})

describe('a quorum', () => {
  it('is more than half of the other members', () => {
    expect([1, 2, 3, 4, 5, 6, 64].map(cosignaturesNeeded)).toEqual([0, 1, 2, 2, 3, 3, 32])
  })

  it('by a policy is what its groups say', () => {
    const keys = identities.map((_, i) => encodeVerifierKey(witness(i)))
    const { quorum } = decodeTrustPolicy(
      [
        ...keys.slice(0, 3).map((key, i) => `witness X${i} ${key}`),
        'group X 2 X0 X1 X2',
        ...keys.slice(3).map((key, i) => `witness Y${i} ${key}`),
        'group Y any Y0 Y1 Y2',
        'group XY all X Y',
        'quorum XY',
      ].join('\n'),
    )
    const by = (...which: number[]): boolean =>
      isQuorate(quorum, ({ name }) => which.some((i) => name === `w${i}.example`))
    expect([by(0, 1, 3), by(1, 2, 5), by(0, 1), by(0, 3, 4, 5), by()]).toEqual([
      true,
      true,
      false,
      false,
      false,
    ])
    expect(isQuorate(decodeTrustPolicy('quorum none\n').quorum, () => false)).toBe(true)
  })
})
