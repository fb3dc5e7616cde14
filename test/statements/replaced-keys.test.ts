/** What the log takes from the keys of a seat, before and after they were replaced. */
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { keyDigest } from '../../src/consortium/key-history.ts'
import { type KeysStatement, openKeys, sealKeys } from '../../src/consortium/keys-statement.ts'
import type { Identity } from '../../src/identity/keys.ts'
import { NO_STATEMENT } from '../../src/identity/statement.ts'
import { type Digest, digestOf } from '../../src/lib/bytes.ts'
import { openForkProof } from '../../src/packaging/fork-proof.ts'
import { openStatementOfAnyKind } from '../../src/packaging/open-statement.ts'
import { placeKey } from '../../src/store/catalogue-keys.ts'
import { consortium, identityOf, logged, NOW, type TestConsortium } from '../support/consortium.ts'
import { cleanUp } from '../support/folders.ts'
import { closeLedgers, type Ledger, ledgerOf } from '../support/ledger.ts'
import { codeOf, codeOfAsync } from '../support/packages.ts'

const [founder, first, second, node, otherNode] = [1, 2, 3, 4, 5].map(identityOf) as [
  Identity,
  Identity,
  Identity,
  Identity,
  Identity,
]
const YEAR = 365 * 86_400

let c: TestConsortium
let ledger: Ledger
/** Digests of the statements of the guest's log, by number - 1. */
let ids: Digest[]

/** The guest has named a node key, which has signed one withdrawal. */
beforeEach(async () => {
  c = consortium([founder])
  ledger = await ledgerOf(c)
  await ledger.membership.onRoster(c.admit('Guest', first))
  ids = []
  await state({ next: keyDigest(second.peerId) }, first, node)
  await withdraw(node, 2)
})
afterEach(async () => {
  await closeLedgers()
  await cleanUp()
})

const prev = (seq: number): Digest =>
  seq === 1 ? NO_STATEMENT : (ids[seq - 2] ?? digestOf(Uint8Array.of(seq)))

/** Log the guest's next statement, about its keys. */
async function state(members: Partial<KeysStatement>, institution: Identity, to: Identity): Promise<void> {
  const seq = ids.length + 1
  const keys: KeysStatement = {
    ...{ publisher: first.peerId, seq, prev: prev(seq), consortium: c.id, issuedAt: NOW },
    ...{ key: institution.peerId, ...members },
    node: { key: to.peerId, scopes: ['packages'], expiresAt: NOW + YEAR },
  }
  const envelope = sealKeys(keys, institution, to)
  const { value, id } = openKeys(envelope)
  const changes = [{ table: 'keys' as const, key: placeKey(first.peerId, seq), value: envelope }]
  await ledger.statements.append({
    kind: 'keys',
    link: value,
    consortium: c.id,
    id,
    envelope,
    keys: value,
    changes,
  })
  ids.push(id)
}

/** A withdrawal with this number in the guest's log. */
function withdrawal(signer: Identity, seq: number, byte = seq) {
  return c
    .publisher(first, { signers: [signer] })
    .withdrawal([digestOf(Uint8Array.of(byte))], { seq, prev: prev(seq) })
}

/** Open a withdrawal as a node does, and log it. */
async function withdraw(signer: Identity, seq: number, byte = seq): Promise<void> {
  const statement = withdrawal(signer, seq, byte)
  openStatementOfAnyKind(statement.envelope, ledger.statements.signers)
  await ledger.statements.append(logged(statement))
  ids[seq - 1] = statement.id
}

describe('a statement of a seat', () => {
  it('is opened if a key that rules at its place has signed it, also after a restart', async () => {
    const check = () => ledger.statements.signers
    const opened = (signer: Identity) =>
      codeOf(() => openStatementOfAnyKind(withdrawal(signer, 3).envelope, check()))
    expect([first, node, otherNode, second].map(opened)).toEqual([
      'accept',
      'accept',
      'wrong-signer',
      'wrong-signer',
    ])
    ledger = await ledger.reopen()
    expect([first, node, otherNode].map(opened)).toEqual(['accept', 'accept', 'wrong-signer'])
  })

  it('has arrived too early if the statement that names its signer may be missing', () => {
    const early = withdrawal(otherNode, 5).envelope
    expect(codeOf(() => openStatementOfAnyKind(early, ledger.statements.signers))).toBe('replayed')
  })

  it('is refused outside of the scopes of its node key', () => {
    const vote = c.publisher(first, { signers: [node] }).head({ seq: 2, last: ids[1] as Digest })
    expect(codeOf(() => openStatementOfAnyKind(vote, ledger.statements.signers))).toBe('accept')
    const place = { publisher: first.peerId, seq: 3, issuedAt: NOW, signer: node.peerId }
    const type = 'application/vnd.flexmesh.endorsement.v1+json' as const
    expect(codeOf(() => ledger.statements.signers({ ...place, type }))).toBe('wrong-signer')
  })
})

describe('a key that was replaced', () => {
  it('cannot contradict the log, as the ruling key can', async () => {
    await state({ next: keyDigest(second.peerId) }, first, otherNode)
    const contradiction = logged(withdrawal(node, 2, 99))
    expect(await codeOfAsync(() => ledger.statements.append(contradiction))).toBe('wrong-signer')
    expect(ledger.statements.isForked(first.peerId)).toBe(false)
    await withdraw(otherNode, 4)
    expect(await codeOfAsync(() => withdraw(otherNode, 4, 99))).toBe('forked')
    expect(ledger.statements.isForked(first.peerId)).toBe(true)
  })

  it('cannot prove a fork, nor be heard with a head', async () => {
    const [one, other] = [withdrawal(node, 2), withdrawal(node, 2, 99)]
    await state({ next: keyDigest(second.peerId) }, first, otherNode)
    const { statements } = ledger
    const fork = openForkProof([one.envelope, other.envelope], c.id, statements.signers)
    expect(await codeOfAsync(() => statements.keepFork(fork))).toBe('wrong-signer')
    const head = (signer: Identity): Uint8Array =>
      c.publisher(first, { signers: [signer] }).head({ seq: 3, last: ids[2] as Digest })
    expect(statements.judgeHead(head(node)).judgement).toBe('ignore')
    expect(statements.judgeHead(head(otherNode)).judgement).toBe('accept')
  })

  it('cannot name keys, and its contradiction of the statement that replaced it is refused', async () => {
    await state({ key: second.peerId, next: keyDigest(founder.peerId) }, second, node)
    ids.pop()
    expect(await codeOfAsync(() => state({ next: keyDigest(second.peerId) }, first, otherNode))).toBe(
      'wrong-signer',
    )
    expect(ledger.statements.isForked(first.peerId)).toBe(false)
  })
})
