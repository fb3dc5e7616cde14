/** Rules of the specifications that no vector can state, because they concern the order of checks. */
import { describe, expect, it } from 'vitest'
import { seal } from '../../src/identity/envelope.ts'
import { createIdentity } from '../../src/identity/keys.ts'
import { MEDIA_TYPES } from '../../src/identity/media-types.ts'
import { openStatement } from '../../src/identity/statement.ts'
import { concatBytes, digestOf, fromUtf8, utf8 } from '../../src/lib/bytes.ts'
import { encodeCanonical } from '../../src/lib/canonical-json.ts'
import { limit } from '../../src/lib/limits.ts'
import { encodeManifest, openManifest } from '../../src/packaging/manifest.ts'
import { codeOf, tinyManifest } from '../support/packages.ts'

const publisher = createIdentity(new Uint8Array(32).fill(0x11))
const payload = encodeManifest(tinyManifest(publisher.peerId))

describe('the checks of a statement', () => {
  /** In the order of the specification; each code is that of the fault alone. */
  const FAULTS = [
    ['envelope size', 'too-large'],
    ['envelope schema', 'bad-field'],
    ['payload type', 'wrong-type'],
    ['signature', 'bad-signature'],
    ['payload size', 'too-large'],
    ['canonical form', 'not-canonical'],
    ['member', 'bad-field'],
  ] as const
  type Fault = (typeof FAULTS)[number][0]

  function statementWith(...faults: readonly Fault[]): Uint8Array {
    const has = (fault: Fault): boolean => faults.includes(fault)
    const { license, ...withoutLicense } = JSON.parse(fromUtf8(payload)) as Record<string, unknown>
    const spaces = has('payload size') ? limit('statementBytes') : has('canonical form') ? 1 : 0
    const body = encodeCanonical(has('member') ? withoutLicense : { ...withoutLicense, license })
    const type = has('payload type') ? MEDIA_TYPES.head : MEDIA_TYPES.manifest
    let text = fromUtf8(seal(type, concatBytes(utf8(' '.repeat(spaces)), body), [publisher]))
    if (has('signature')) text = text.replace(/"sig":"(.)/, (_, c) => `"sig":"${c === 'A' ? 'B' : 'A'}`)
    if (has('envelope schema')) text = text.replace(/}$/, ',"zone":"x"}')
    return utf8(has('envelope size') ? text.padEnd(limit('envelopeBytes') + 1) : text)
  }

  const pairs = FAULTS.flatMap(([first, code], index) =>
    FAULTS.slice(index).map(([second]) => [first, second, code] as const),
  )

  it.each(pairs)('find the %s before the %s', (first, second, code) => {
    expect(codeOf(() => openManifest(statementWith(first, second)))).toBe(code)
  })

  it('find nothing in a statement without faults', () => {
    expect(codeOf(() => openManifest(statementWith()))).toBe('accept')
  })

  it('parse the bytes whose signature was verified, and no others', () => {
    const decoded: Uint8Array[] = []
    const openEnvelope = (envelope: Uint8Array) =>
      openStatement(envelope, MEDIA_TYPES.manifest, (bytes) => {
        decoded.push(bytes)
        return { publisher: publisher.peerId, seq: 1, issuedAt: 0 }
      })
    openEnvelope(seal(MEDIA_TYPES.manifest, payload, [publisher]))
    expect(codeOf(() => openEnvelope(statementWith('signature')))).toBe('bad-signature')
    expect(decoded.map((bytes) => digestOf(bytes))).toEqual([digestOf(payload)])
  })
})
