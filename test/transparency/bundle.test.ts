import { spawnSync } from 'node:child_process'
import { beforeAll, describe, expect, it } from 'vitest'
import { attackBundles, type Refuses, refusesHere, withPython } from '../../scripts/parity/bundle-attacks.ts'
import { readEnvelope } from '../../src/identity/envelope.ts'
import { createIdentity, type Identity, type PeerIdString } from '../../src/identity/keys.ts'
import { fromUtf8, utf8 } from '../../src/lib/bytes.ts'
import type { BundleRecord } from '../../src/transparency/bundle.ts'
import { originOf } from '../../src/transparency/checkpoint.ts'
import {
  COSIGNATURE,
  decodeNote,
  encodeNote,
  encodeVerifierKey,
  signText,
} from '../../src/transparency/note.ts'
import { decodeTrustPolicy } from '../../src/transparency/trust-policy.ts'
import { verifyBundle } from '../../src/transparency/verify-bundle.ts'
import {
  ARCHIVE,
  type Audited,
  auditedConsortium,
  KEYS_FAULTS,
  resealed,
  resigned,
  votedBundle,
} from '../support/audited.ts'
import { codeOf } from '../support/packages.ts'

/** A witness that no member has. */
const VKEY = encodeVerifierKey({
  name: 'witness.example/other',
  type: COSIGNATURE,
  publicKey: createIdentity(new Uint8Array(32).fill(99)).publicKey,
})

let audited: Audited
beforeAll(async () => {
  audited = await auditedConsortium()
})

describe('an audit bundle', () => {
  it('proves what each member has logged and who has cosigned it', () => {
    const { name, exporter, rosterVersion, logs, verdicts } = verifyBundle(audited.bytes)
    expect({ name, exporter, rosterVersion, verdicts }).toEqual({
      name: 'Test consortium',
      exporter: 'Court',
      rosterVersion: 3,
      verdicts: 1,
    })
    expect(
      logs.map(({ institution, statements, final, cosigners }) => [
        institution,
        statements,
        final,
        cosigners,
      ]),
    ).toEqual([
      ['A', 5, 4, ['Archive', 'Court']],
      ['Archive', 5, 3, ['A', 'Court']],
      ['Court', 0, 0, ['A', 'Archive']],
    ])
  })

  it('is refused by an auditor who expects another consortium, or other cosigners', () => {
    const id = `sha256:${'0'.repeat(64)}` as const
    expect(codeOf(() => verifyBundle(audited.bytes, { consortium: id }))).toBe('wrong-consortium')
    const policy = decodeTrustPolicy(`witness W ${VKEY}\nquorum W\n`)
    expect(codeOf(() => verifyBundle(audited.bytes, { policy }))).toBe('not-final')
  })
})

/** The bundle with one record replaced, sealed again. */
function replaced(
  type: BundleRecord['type'],
  of: PeerIdString,
  change: (record: BundleRecord) => BundleRecord,
): Uint8Array {
  const publisherOf = (record: BundleRecord): unknown =>
    'envelope' in record && record.type !== 'charter' && record.type !== 'roster'
      ? JSON.parse(fromUtf8(readEnvelope(utf8(record.envelope)).payload)).publisher
      : 'publisher' in record && record.publisher
  const at = audited.records.findLastIndex((one) => one.type === type && publisherOf(one) === of)
  return resealed(
    audited,
    audited.records.map((record, i) => (i === at ? change(record) : record)),
  )
}

const by =
  (signer: Identity) =>
  (record: BundleRecord): BundleRecord =>
    'envelope' in record ? { ...record, envelope: fromUtf8(resigned(utf8(record.envelope), signer)) } : record

/** A log whose checkpoint in one state is signed by another key of its seat. */
const noteBy =
  (state: 'checkpoint' | 'final', signer: Identity) =>
  (record: BundleRecord): BundleRecord => {
    if (record.type !== 'log') return record
    const { text, signatures } = decodeNote(utf8(record[state] ?? ''))
    const own = signText(originOf(audited.group.id, record.publisher), signer, text)
    return { ...record, [state]: fromUtf8(encodeNote({ text, signatures: [own, ...signatures.slice(1)] })) }
  }

const SEAT = ARCHIVE.institution.peerId

/** Bundles in which a key signs that did not rule its seat at that place, and the code of the refusal. */
const KEY_ATTACKS: Readonly<Record<string, readonly [code: string, bundle: () => Uint8Array]>> = {
  'a checkpoint by a node key that was replaced before it': [
    'unsigned',
    () => replaced('log', SEAT, noteBy('checkpoint', ARCHIVE.replaced)),
  ],
  'a checkpoint by an institution key that was rotated before it': [
    'unsigned',
    () => replaced('log', SEAT, noteBy('checkpoint', ARCHIVE.institution)),
  ],
  'an earlier checkpoint by a node key that was named after it': [
    'unsigned',
    () => replaced('log', SEAT, noteBy('final', ARCHIVE.node)),
  ],
  'a statement by a node key that was replaced before it': [
    'wrong-signer',
    () => replaced('statement', SEAT, by(ARCHIVE.replaced)),
  ],
  'a statement by the next institution key, which is only committed': [
    'wrong-signer',
    () => replaced('statement', SEAT, by(ARCHIVE.next)),
  ],
  'a head by a node key that was replaced before it': [
    'wrong-signer',
    () => replaced('head', SEAT, by(ARCHIVE.replaced)),
  ],
  'a witness key that a replaced node key has signed': [
    'wrong-signer',
    () => replaced('witness-key', SEAT, by(ARCHIVE.replaced)),
  ],
  'a seal by a key of another member': [
    'wrong-signer',
    () => resealed(audited, audited.records, ARCHIVE.node),
  ],
}

type Using = <T>(use: (refuses: typeof refusesHere | Refuses) => Promise<T>) => Promise<T>

const VERIFIERS: readonly (readonly [string, Using])[] = [
  ['typescript', (use) => use(refusesHere)],
  // Where there is a Python, its verifier must find the same.
  ...(spawnSync('python3', ['--version']).status === 0
    ? ([['python', (use) => withPython('python3', use)]] satisfies (readonly [string, Using])[])
    : []),
]

describe('a bundle with a key that does not rule its seat', () => {
  let attacked: readonly (readonly [what: string, code: string, bundle: Uint8Array])[]
  beforeAll(async () => {
    const faults = await Promise.all(
      KEYS_FAULTS.map(
        async ([fault, code]) => [fault, code, (await auditedConsortium(fault)).bytes] as const,
      ),
    )
    const signed = Object.entries(KEY_ATTACKS).map(
      ([what, [code, bundle]]) => [what, code, bundle()] as const,
    )
    attacked = [...faults, ...signed]
  })

  it('is refused, whatever the key has signed', () => {
    const found = attacked.map(([what, , bundle]) => [what, codeOf(() => verifyBundle(bundle))])
    expect(found).toEqual(attacked.map(([what, code]) => [what, code]))
  })

  it.each(VERIFIERS.slice(1))('is refused by the verifier in %s, too', async (_, using) => {
    const accepted = await using(async (refuses) => {
      const found: string[] = []
      for (const [what, , bundle] of attacked) if (!(await refuses(bundle))) found.push(what)
      return found
    })
    expect(accepted).toEqual([])
  })
})

describe('a bundle with votes of a key that was replaced', () => {
  it.each(VERIFIERS)('is verified in %s by the version from which on they do not count', async (_, using) => {
    const claims = [
      [1, false],
      [1, true],
      [2, true],
      [undefined, true],
    ] as const
    const refused = await using(async (refuses) => {
      const found: boolean[] = []
      for (const [version, isAdmitted] of claims)
        found.push(await refuses(await votedBundle(version, isAdmitted)))
      return found
    })
    // Only the exporter that claims an admission without the vote that it needs.
    expect(refused).toEqual([false, true, false, false])
  })
})

describe('attacks on an audit bundle', () => {
  it.each(VERIFIERS)('are all found by the verifier in %s', async (_, using) => {
    const missed: string[] = []
    const counts = { edits: 160, truncations: 60, forks: 8 }
    const result = await using((refuses) =>
      attackBundles(counts, refuses, (kind, seed) => missed.push(`${kind} ${seed}`)),
    )
    expect(missed).toEqual([])
    expect(result).toEqual({ ...counts, found: 160, foundTruncations: 60, foundForks: 8 })
  })
})
