/** Test vectors of section Keys: statements about keys after others, and who may sign other statements. */
import { KeyHistory, type KeyUse, keyDigest, type Restoration } from '../../../src/consortium/key-history.ts'
import { encodeKeys, type KeysStatement, openKeys } from '../../../src/consortium/keys-statement.ts'
import { createIdentity, type Identity } from '../../../src/identity/keys.ts'
import { MEDIA_TYPES } from '../../../src/identity/media-types.ts'
import { NO_STATEMENT } from '../../../src/identity/statement.ts'
import { type Digest, digestOf, fromUtf8, toBase64, utf8 } from '../../../src/lib/bytes.ts'
import { encodeCanonical, type JsonValue } from '../../../src/lib/canonical-json.ts'
import { limit } from '../../../src/lib/limits.ts'
import { type Case, type Vector, vectorsOf } from '../vector.ts'
import { alice, bob, type Change, changed, consortium, NOW, text } from './fixtures.ts'

const keyOf = (byte: number): Identity => createIdentity(new Uint8Array(32).fill(byte))
/** The institution keys of Alpha Hospital: the first is the id of its seat, each commits the one after it. */
const [second, third, fourth] = [keyOf(0x41), keyOf(0x42), keyOf(0x43)]
const [node, otherNode, thief] = [keyOf(0x51), keyOf(0x52), keyOf(0x53)]
const YEAR = 365 * 86_400

type Stated = Partial<KeysStatement>

const delegated = (to: Identity, more: Partial<NonNullable<KeysStatement['node']>> = {}) => ({
  key: to.peerId,
  scopes: ['governance', 'packages', 'witness'] as const,
  expiresAt: NOW + YEAR,
  ...more,
})

/** Payload of a statement about the keys of Alpha Hospital. */
function stated(seq: number, members: Stated): Uint8Array {
  return encodeKeys({
    publisher: alice.peerId,
    seq,
    prev: seq === 1 ? NO_STATEMENT : digestOf(utf8(`statement ${seq - 1}`)),
    consortium,
    issuedAt: NOW,
    key: alice.peerId,
    ...members,
  })
}

const sealed = (payload: Uint8Array, ...signers: Identity[]): string =>
  text(MEDIA_TYPES.keys, payload, signers)

const FIRST = stated(1, { next: keyDigest(second.peerId), node: delegated(node) })
const first = sealed(FIRST, alice, node)
const ROTATED = stated(5, { key: second.peerId, next: keyDigest(third.peerId), node: delegated(node) })
const rotated = sealed(ROTATED, second, node)
const redelegated = sealed(
  stated(9, {
    key: second.peerId,
    next: keyDigest(third.peerId),
    node: delegated(otherNode),
    validThroughSeq: 6,
  }),
  second,
  otherNode,
)

/** Replaces a stolen node key, whose votes end with version 4 of the roster. */
const ENDS_VOTES = stated(9, {
  key: second.peerId,
  next: keyDigest(third.peerId),
  node: delegated(otherNode),
  validThroughSeq: 6,
  rosterVersion: 4,
})
const endsVotes = (rosterVersion: JsonValue): string =>
  sealed(
    changed(ENDS_VOTES, (value) => {
      value['rosterVersion'] = rosterVersion
    }),
    second,
    otherNode,
  )

const RESTORED: Restoration = { key: fourth.peerId }

/** The first statement with the node key of a thief under the signatures of the genuine one. */
function changedAfterSigning(): string {
  const { signatures } = JSON.parse(first) as { signatures: JsonValue }
  const other = changed(FIRST, (value) => {
    ;(value['node'] as Record<string, unknown>)['key'] = thief.peerId
  })
  const envelope = { payload: toBase64(other), payloadType: MEDIA_TYPES.keys, signatures }
  return fromUtf8(encodeCanonical(envelope))
}

const RESTATED = stated(8, { key: fourth.peerId, next: keyDigest(third.peerId), validThroughSeq: 6 })

interface Input {
  readonly log?: readonly string[]
  readonly restored?: Restoration
}

function keyCases(): [...Case, string, Input?][] {
  const edited = (change: Change, ...signers: Identity[]): string =>
    sealed(changed(FIRST, change), ...signers)
  const nodeOf = (value: Record<string, unknown>): Record<string, unknown> =>
    value['node'] as Record<string, unknown>
  const log = { log: [first] }
  const after = { log: [first, rotated] }
  return [
    ['first', 'accept', 'the first key commits a next one and names a node key', first],
    ['rotation', 'accept', 'the committed key follows', rotated, log],
    ['other-node', 'accept', 'another node after the first was lost', redelegated, after],
    [
      'ends-votes',
      'accept',
      'the votes of a thief end with version 4',
      sealed(ENDS_VOTES, second, otherNode),
      after,
    ],
    ['ends-votes-before-all', 'bad-field', 'versions count from 1', endsVotes(0), after],
    ['ends-votes-text', 'bad-field', 'a version is a number', endsVotes('4'), after],
    [
      'ends-no-votes',
      'bad-field',
      'a version, but no statement that ends',
      edited(
        (value) => {
          value['rosterVersion'] = 4
        },
        alice,
        node,
      ),
    ],
    [
      'restored',
      'accept',
      'the key that the members decided',
      sealed(RESTATED, fourth),
      { ...after, restored: RESTORED },
    ],
    ['without-node-signature', 'unsigned', 'the node has not agreed', sealed(FIRST, alice)],
    ['without-institution', 'unsigned', 'the node authorises itself', sealed(FIRST, node)],
    ['third-signature', 'wrong-signer', 'a stranger signs too', sealed(FIRST, alice, node, thief)],
    ['changed', 'bad-signature', 'another node key after signing', changedAfterSigning()],
    ['as-head', 'wrong-type', 'signed as another kind', text(MEDIA_TYPES.head, FIRST, [alice, node])],
    [
      'stranger',
      'wrong-signer',
      'a stranger takes a seat that has committed nothing',
      sealed(stated(1, { key: thief.peerId, node: delegated(otherNode) }), thief, otherNode),
    ],
    [
      'uncommitted-rotation',
      'wrong-signer',
      'a thief of the first key rotates to a key of its own',
      sealed(stated(2, { key: thief.peerId, next: keyDigest(fourth.peerId) }), thief),
      log,
    ],
    [
      'rotation-signed-by-old-key',
      'unsigned',
      'a thief of the first key knows the next key, but does not have it',
      sealed(stated(5, { key: second.peerId, next: keyDigest(third.peerId) }), alice),
      log,
    ],
    [
      'other-commitment',
      'not-committed',
      'a thief of the first key exchanges the committed key',
      sealed(stated(2, { next: keyDigest(thief.peerId), node: delegated(node) }), alice, node),
      log,
    ],
    [
      'no-commitment',
      'not-committed',
      'a commitment does not end without a rotation',
      sealed(stated(2, { node: delegated(node) }), alice, node),
      log,
    ],
    [
      'rotation-without-next',
      'not-committed',
      'the next rotation would need a vote',
      sealed(stated(5, { key: second.peerId }), second),
      log,
    ],
    [
      'rotation-to-itself',
      'not-committed',
      'the committed key is used up',
      sealed(stated(5, { key: second.peerId, next: keyDigest(second.peerId) }), second),
      log,
    ],
    [
      'replaced-key',
      'wrong-signer',
      'the first key names a node after the rotation',
      sealed(stated(6, { next: keyDigest(second.peerId), node: delegated(otherNode) }), alice, otherNode),
      after,
    ],
    [
      'replaced-node',
      'replayed',
      'a node key that was replaced never returns',
      sealed(
        stated(10, { key: second.peerId, next: keyDigest(third.peerId), node: delegated(node) }),
        second,
        node,
      ),
      { log: [first, rotated, redelegated] },
    ],
    [
      'first-key-as-node',
      'replayed',
      'an institution key that was replaced is no node key',
      sealed(
        stated(6, { key: second.peerId, next: keyDigest(third.peerId), node: delegated(alice) }),
        second,
        alice,
      ),
      after,
    ],
    [
      'restored-to-another',
      'wrong-signer',
      'the members decided another key',
      sealed(stated(8, { key: thief.peerId, next: keyDigest(third.peerId) }), thief),
      { ...after, restored: RESTORED },
    ],
    [
      'restored-other-next',
      'not-committed',
      'the members decided the next key too',
      sealed(RESTATED, fourth),
      { ...after, restored: { ...RESTORED, next: keyDigest(bob.peerId) } },
    ],
    [
      'node-is-institution',
      'bad-field',
      'one key for both needs no node key',
      edited((value) => {
        nodeOf(value)['key'] = alice.peerId
      }, alice),
    ],
    [
      'unknown-scope',
      'bad-field',
      'no other scopes',
      edited(
        (value) => {
          nodeOf(value)['scopes'] = ['everything']
        },
        alice,
        node,
      ),
    ],
    [
      'scope-twice',
      'bad-field',
      'one text, one meaning',
      edited(
        (value) => {
          nodeOf(value)['scopes'] = ['packages', 'packages']
        },
        alice,
        node,
      ),
    ],
    [
      'no-scope',
      'bad-field',
      'a node key that may do nothing',
      edited(
        (value) => {
          nodeOf(value)['scopes'] = []
        },
        alice,
        node,
      ),
    ],
    [
      'lives-too-long',
      'bad-field',
      'one second above delegationLifetime',
      edited(
        (value) => {
          nodeOf(value)['expiresAt'] = NOW + limit('delegationLifetime') + 1
        },
        alice,
        node,
      ),
    ],
    [
      'ended-at-once',
      'bad-field',
      'it ends when it begins',
      edited(
        (value) => {
          nodeOf(value)['expiresAt'] = NOW
        },
        alice,
        node,
      ),
    ],
    [
      'valid-through-itself',
      'bad-field',
      'earlier statements only',
      edited(
        (value) => {
          value['validThroughSeq'] = 1
        },
        alice,
        node,
      ),
    ],
    [
      'small-order-key',
      'weak-key',
      'a key for which anybody can sign',
      edited(
        (value) => {
          nodeOf(value)['key'] = '12D3KooW9tGaPdJo5jmCpadQ971nfiq4kLcQjeBPYTfutBTtckPH'
        },
        alice,
        node,
      ),
    ],
    [
      'unknown-member',
      'bad-field',
      'nothing may hide in it',
      edited(
        (value) => {
          value['note'] = 'temporary'
        },
        alice,
        node,
      ),
    ],
  ]
}

function signerCases(): [...Case, KeyUse, Input?][] {
  const at = (seq: number, signer: Identity, more: Partial<KeyUse> = {}): KeyUse => ({
    seq,
    signer: signer.peerId,
    issuedAt: NOW,
    scope: 'packages',
    ...more,
  })
  const narrow = sealed(stated(1, { node: delegated(node, { scopes: ['packages'] }) }), alice, node)
  const log = { log: [first, rotated, redelegated] }
  return [
    ['only-key', 'accept', 'a seat that has stated nothing', at(1, alice)],
    ['node', 'accept', 'the node key after it was named', at(2, node), log],
    ['node-before', 'wrong-signer', 'the node key before it was named', at(1, node), log],
    ['stranger', 'wrong-signer', 'no key of the seat', at(2, thief), log],
    ['replaced-institution', 'wrong-signer', 'the first key after the rotation', at(6, alice), log],
    ['rotated-too-early', 'wrong-signer', 'the second key before the rotation', at(5, second), log],
    ['replaced-node', 'wrong-signer', 'the first node after it was replaced', at(10, node), log],
    [
      'ended-node',
      'expired',
      'issued a second after its end',
      at(2, node, { issuedAt: NOW + YEAR + 1 }),
      log,
    ],
    [
      'out-of-scope',
      'wrong-signer',
      'a vote by a node key for packages',
      at(2, node, { scope: 'governance' }),
      { log: [narrow] },
    ],
  ]
}

function inputOf({ log = [], restored }: Input): Record<string, unknown> {
  return { seat: alice.peerId, log, ...(restored === undefined ? {} : { restored }) }
}

export function keysVectors(): Vector[] {
  const spec = 'consortium-charter Keys'
  return [
    ...vectorsOf('keys', spec, keyCases(), (envelope, input: Input = {}) => ({
      decoder: 'keys',
      ...inputOf(input),
      envelope,
    })),
    ...vectorsOf('signer', spec, signerCases(), (place, input: Input = {}) => ({
      decoder: 'signer',
      ...inputOf(input),
      place,
    })),
  ]
}

function historyOf(input: Readonly<Record<string, unknown>>): KeyHistory {
  const restored = input['restored'] as Restoration | undefined
  const start = new KeyHistory({ key: String(input['seat']) }, [], restored)
  return (input['log'] as string[]).reduce((history, envelope) => {
    const { value: keys } = openKeys(utf8(envelope))
    history.checkChange(keys)
    return history.with(keys)
  }, start)
}

export function runKeys(input: Readonly<Record<string, unknown>>, envelope: Uint8Array): Digest {
  const { value: keys, id } = openKeys(envelope)
  historyOf(input).checkChange(keys)
  return id
}

export function runSigner(input: Readonly<Record<string, unknown>>): void {
  historyOf(input).checkSigner(input['place'] as KeyUse)
}
