/** Test vectors of protocols/composition: digests, selections and files of compositions. */

import type { AcceptedExpert } from '../../src/acceptance/accepted-experts.ts'
import { compositionDigest } from '../../src/composition/compose.ts'
import { decodeCompositionFile } from '../../src/composition/composition-file.ts'
import { selectionMask } from '../../src/composition/selection.ts'
import { digestOf, parseDigest, utf8 } from '../../src/lib/bytes.ts'
import { encodeCanonical } from '../../src/lib/canonical-json.ts'
import { VerificationError } from '../../src/lib/errors.ts'
import { Fields } from '../../src/lib/fields.ts'
import { DP_STATEMENT } from '../support/packages.ts'
import { byFileName, type Case, type Place, type Vector, type VectorSuite, vectorsOf } from './vector.ts'

const publicModel = digestOf(Uint8Array.of(1))
const ids = [2, 3, 4].map((byte) => digestOf(Uint8Array.of(byte)))
const [a, b, c] = ids as [string, string, string]
const EXPERTS = [
  { id: a, name: 'case-law', institution: 'Alpha Court' },
  { id: b, name: 'biomedicine', institution: 'Beta Hospital' },
  { id: c, name: 'theorems', institution: 'Gamma University' },
]

function digestVectors(): Vector[] {
  const right = compositionDigest(publicModel, ids as never, 2)
  const solved = compositionDigest(publicModel, ids as never, 2, 'solved')
  const named = digestOf(encodeCanonical({ experts: [...ids].sort(), publicModel, router: 'rows', topK: 2 }))
  const cases: [...Case, string[], number, string, string?][] = [
    ['sorted', 'accept', 'three experts, top-2', [...ids].sort(), 2, right],
    ['any-order', 'accept', 'the order of arrival does not matter', [c, a, b], 2, right],
    ['other-top-k', 'wrong-digest', 'the digest is that of another top-k', ids, 3, right],
    ['one-missing', 'wrong-digest', 'the digest is that of another set of experts', [a, b], 2, right],
    [
      'one-more',
      'wrong-digest',
      'the digest is that of another set of experts',
      [...ids, digestOf(Uint8Array.of(5))],
      2,
      right,
    ],
    [
      'other-expert',
      'wrong-digest',
      'the digest is that of another set of experts',
      [a, b, digestOf(Uint8Array.of(5))],
      2,
      right,
    ],
    ['no-experts', 'wrong-digest', 'the digest of three experts, given for none', [], 1, right],
    ['solved', 'accept', 'a composition that routes by a gate', ids, 2, solved, 'solved'],
    [
      'solved-for-rows',
      'wrong-digest',
      'the digest of a gated composition, given for one with router rows',
      ids,
      2,
      solved,
    ],
    [
      'rows-for-solved',
      'wrong-digest',
      'the digest of a composition with router rows, given for a gated one',
      ids,
      2,
      right,
      'solved',
    ],
    ['rows-named', 'wrong-digest', 'a digest with the member router for router rows', ids, 2, named],
    ['other-router', 'bad-field', 'a router other than rows and solved', ids, 2, right, 'trained'],
    ['not-a-digest', 'bad-field', 'a digest in upper-case digits', [a.toUpperCase(), b, c], 2, right],
  ]
  return vectorsOf('digest', 'composition Digest', cases, (experts, topK, digest, router = 'rows') => ({
    decoder: 'digest',
    publicModel,
    experts,
    topK,
    router,
    digest,
  }))
}

function selectionVectors(): Vector[] {
  const cases: [...Case, Record<string, string[]>, number[]][] = [
    ['all', 'accept', 'an empty selection uses all experts', {}, [1, 1, 1, 1]],
    [
      'exclude-wins',
      'accept',
      'exclude wins over include',
      { include: ['case-law', 'theorems'], exclude: ['theorems'] },
      [1, 1, 0, 0],
    ],
    ['unknown-name', 'not-found', 'a name that no expert has', { include: ['chemistry'] }, []],
    [
      'unknown-exclude',
      'not-found',
      'exclude names no expert of the composition',
      { exclude: ['chemistry'] },
      [],
    ],
    [
      'short-prefix',
      'not-found',
      'a prefix of an id with fewer than eight digits',
      { include: [a.slice(7, 13)] },
      [],
    ],
    ['case', 'not-found', 'a name in other letter case', { include: ['CASE-LAW'] }, []],
    [
      'public',
      'not-found',
      'the public expert is always in use and has no name',
      { exclude: ['public'] },
      [],
    ],
    ['empty-name', 'not-found', 'an empty name', { include: [''] }, []],
  ]
  return vectorsOf('selection', 'composition Selection', cases, (selection, inUse) => ({
    decoder: 'selection',
    experts: EXPERTS,
    selection,
    inUse,
  }))
}

function fileVectors(): Vector[] {
  const sorted = [...ids].sort()
  const entry = { license: 'CC-BY-4.0', expiresAt: 1_800_000_000 }
  const experts = sorted.map((id) => ({ ...EXPERTS.find((expert) => expert.id === id), ...entry }))
  const file = {
    version: 1,
    consortium: digestOf(Uint8Array.of(9)),
    publicModel,
    composition: compositionDigest(publicModel, ids as never, 2),
    topK: 2,
    experts,
  }
  const { topK: _, ...withoutTopK } = file
  const withPrivacy = (privacy: unknown) => ({
    ...file,
    experts: experts.map((expert) => ({ ...expert, privacy })),
  })
  const cases: [...Case, unknown][] = [
    ['three-experts', 'accept', 'a file as a node writes it', file],
    [
      'other-digest',
      'wrong-digest',
      'the digest differs from that of the other members',
      { ...file, topK: 3 },
    ],
    [
      'one-missing',
      'wrong-digest',
      'the digest counts an expert that the list lacks',
      { ...file, experts: experts.slice(1) },
    ],
    [
      'unordered',
      'bad-field',
      'experts in another order than that of their ids',
      { ...file, experts: experts.toReversed() },
    ],
    ['twice', 'bad-field', 'the same expert twice', { ...file, experts: [experts[0], ...experts] }],
    ['no-top-k', 'bad-field', 'the member topK is missing', withoutTopK],
    ['top-k-too-large', 'bad-field', 'top-k is larger than the number of experts', { ...file, topK: 5 }],
    ['unknown-member', 'bad-field', 'a member that the format does not have', { ...file, signature: 'x' }],
    [
      'entry-without-institution',
      'bad-field',
      'an entry without the member institution',
      { ...file, experts: experts.map(({ institution: _, ...rest }) => rest) },
    ],
    ['privacy', 'accept', 'what manifests state about privacy', withPrivacy(DP_STATEMENT)],
    ['privacy-none', 'accept', 'a manifest that states no guarantee', withPrivacy({ mechanism: 'none' })],
    ['privacy-text', 'bad-field', 'privacy as text', withPrivacy('none')],
    ['privacy-empty', 'bad-field', 'privacy without a mechanism', withPrivacy({})],
    ['privacy-other', 'bad-field', 'an unknown mechanism', withPrivacy({ mechanism: 'dp-ftrl' })],
    [
      'privacy-no-epsilon',
      'bad-field',
      'a guarantee without an epsilon',
      withPrivacy({ ...DP_STATEMENT, epsilonMicro: 0 }),
    ],
    ['version-2', 'bad-field', 'a version other than 1', { ...file, version: 2 }],
    [
      'solved',
      'wrong-digest',
      'the digest of a gated composition, which no export can be',
      { ...file, composition: compositionDigest(publicModel, ids as never, 2, 'solved') },
    ],
    [
      'with-router',
      'bad-field',
      'the member router, which the format does not have',
      { ...file, router: 'solved' },
    ],
    ['text', 'not-json', 'text that is not JSON', 'composition: three experts'],
  ]
  return vectorsOf('file', 'composition Composition file', cases, (value) => ({
    decoder: 'file',
    text: typeof value === 'string' ? value : JSON.stringify(value),
  }))
}

function makeVectors(): Record<string, Vector> {
  return byFileName([...digestVectors(), ...selectionVectors(), ...fileVectors()])
}

function runVector(input: Readonly<Record<string, unknown>>, place: Place): unknown {
  const fields = new Fields(input, 'input')
  const decoder = fields.literal('decoder', 'digest', 'selection', 'file')
  if (decoder === 'file') return decodeCompositionFile(place(utf8(String(input['text']))))
  if (decoder === 'digest') {
    const experts = fields.list('experts', 64, (item) => parseDigest(String(item)))
    const digest = compositionDigest(
      fields.digest('publicModel'),
      experts,
      fields.uint('topK'),
      fields.literal('router', 'rows', 'solved'),
    )
    if (digest !== input['digest']) throw new VerificationError('wrong-digest', `composition is ${digest}`)
    return digest
  }
  const experts = input['experts'] as AcceptedExpert[]
  const mask = selectionMask({ experts }, input['selection'] as Record<string, string[]>)
  const inUse = Array.from(mask, (value) => (value === 0 ? 1 : 0))
  if (JSON.stringify(inUse) !== JSON.stringify(input['inUse'])) throw new Error(`in use: ${inUse.join(' ')}`)
  return inUse
}

export const composition: VectorSuite = { makeVectors, runVector }
