import { afterAll, afterEach, beforeEach, describe, expect, it } from 'vitest'
import { NODE_SCOPES } from '../../src/consortium/key-history.ts'
import { Membership } from '../../src/consortium/membership.ts'
import type { Identity } from '../../src/identity/keys.ts'
import { fromUtf8, utf8 } from '../../src/lib/bytes.ts'
import { Catalogue } from '../../src/store/catalogue.ts'
import { encodeCheckpoint, originOf } from '../../src/transparency/checkpoint.ts'
import { CheckpointNotes } from '../../src/transparency/checkpoint-notes.ts'
import { CosignedLogs } from '../../src/transparency/cosigned-logs.ts'
import { LogTrees } from '../../src/transparency/log-trees.ts'
import { EMPTY_ROOT } from '../../src/transparency/merkle.ts'
import { encodeNote, signText } from '../../src/transparency/note.ts'
import { Witness } from '../../src/transparency/witness.ts'
import { deriveWitness, sealWitnessKey } from '../../src/transparency/witness-key.ts'
import { consortium, identityOf, logged, NOW, type TestConsortium } from '../support/consortium.ts'
import { cleanUp, folder } from '../support/folders.ts'

interface Member {
  readonly identity: Identity
  readonly dir: string
  readonly catalogue: Catalogue
  readonly membership: Membership
  readonly logs: CosignedLogs
  readonly witness: Witness
  /** `PEER SIZE` for each log that has become final, in order. */
  readonly final: string[]
}

const [alice, bob, carol] = [61, 62, 63].map(identityOf) as [Identity, Identity, Identity]
let group: TestConsortium
const opened: Catalogue[] = []

beforeEach(() => {
  group = consortium([alice, bob, carol])
})
afterEach(async () => {
  for (const catalogue of opened.splice(0)) await catalogue.close()
})
afterAll(cleanUp)

async function member(
  identity: Identity,
  options: { dir?: string; isSetBack?: boolean } = {},
): Promise<Member> {
  const dir = options.dir ?? (await folder())
  const catalogue = await Catalogue.open(dir)
  opened.push(catalogue)
  const init = { identity, catalogue, charterEnvelope: group.charterEnvelope }
  const membership = await Membership.open({ ...init, now: () => NOW, onEvent: () => undefined })
  const trees = new LogTrees(catalogue)
  const shared = { catalogue, membership, trees, maySign: () => options.isSetBack !== true, now: () => NOW }
  const witness = new Witness({ ...shared, witness: deriveWitness(identity, group.id) })
  const notes = await CheckpointNotes.open(catalogue, membership)
  await notes.stateWitnessKey(identity, NOW)
  const final: string[] = []
  const logs = new CosignedLogs({
    ...shared,
    identity,
    notes,
    witness,
    onFinal: (publisher, size) => final.push(`${publisher} ${size}`),
    onContradiction: () => undefined,
  })
  return { identity, dir, catalogue, membership, logs, witness, final }
}

/** The node key of Alice, and the one that replaces it. */
const [replaced, node] = [66, 67].map(identityOf) as [Identity, Identity]

/** Alice states two node keys, one after the other; members log both statements. */
async function nameNodeKeys(at: readonly Member[]): Promise<void> {
  const publisher = group.publisher(alice)
  for (const { peerId } of [replaced, node]) {
    const named = { key: peerId, scopes: NODE_SCOPES, expiresAt: NOW + 1000 }
    const { value, id, envelope } = publisher.chained('keys', { key: alice.peerId, node: named })
    for (const { catalogue, membership } of at) {
      await catalogue.append({ publisher: alice.peerId, seq: value.seq, digest: id, envelope })
      membership.keys.record(alice.peerId, value, envelope)
    }
  }
}

/** A checkpoint of Alice's log that a key has signed. */
function checkpointBy(signer: Identity, size: number, root: Uint8Array) {
  const origin = originOf(group.id, alice.peerId)
  const text = encodeCheckpoint({ origin, size, root })
  const note = encodeNote({ text, signatures: [signText(origin, signer, text)] })
  return { publisher: alice.peerId, note }
}

/** Log the first statements of a member at some members. */
async function log(owner: Identity, count: number, at: readonly Member[], license?: string): Promise<void> {
  const publisher = group.publisher(owner)
  for (let i = 0; i < count; i++) {
    const { link, id, envelope } = logged(publisher.manifest(license === undefined ? {} : { license }))
    for (const { catalogue } of at) {
      await catalogue.append({ publisher: owner.peerId, seq: link.seq, digest: id, envelope })
    }
  }
}

/** Everybody tells everybody what they know. */
async function spread(members: readonly Member[]): Promise<void> {
  for (const from of members) {
    for (const to of members) {
      for (const news of from.logs.notes.newsFor(to.logs.notes.known())) await to.logs.onNews(news)
    }
  }
}

/** The owner signs its checkpoint and asks a witness that has cosigned `oldSize` statements. @returns the status */
async function askFor(owner: Member, witness: Member, oldSize = 0): Promise<number> {
  await owner.logs.sign()
  const body = await owner.logs.requestFor(witness.identity.peerId, oldSize)
  if (body === undefined) return 0
  const answer = await witness.witness.answer(body)
  if (answer.status === 200) await owner.logs.addCosignature(witness.identity.peerId, answer.body)
  return answer.status
}

describe('a statement', () => {
  it('is final where it is held, once more than half of the others have cosigned it', async () => {
    const members = await Promise.all([member(alice), member(bob), member(carol)])
    const [a, b, c] = members
    await spread(members)
    await log(alice, 2, [a, b])
    expect(await askFor(a, b)).toBe(200)
    expect(a.logs.finalSize(alice.peerId)).toBe(0)
    expect(await askFor(a, c)).toBe(200)
    expect(await askFor(a, c)).toBe(0) // It has cosigned already.
    await spread(members)
    expect(members.map(({ logs }) => logs.finalSize(alice.peerId))).toEqual([2, 2, 0])
    await log(alice, 2, [c])
    await c.logs.settle()
    expect(c.logs.finalSize(alice.peerId)).toBe(2)
    expect(c.final).toEqual([`${alice.peerId} 2`])
  })

  it('has all cosignatures at every member in the end, also those after it became final', async () => {
    group = consortium([alice, bob, carol, identityOf(64), identityOf(65)])
    const members = await Promise.all([alice, bob, carol, identityOf(64)].map((one) => member(one)))
    const [a, ...others] = members as [Member, ...Member[]]
    await spread(members)
    for (const other of others) {
      await askFor(a, other)
      await spread(members)
    }
    expect(members.map(({ logs }) => logs.notes.cosigned(alice.peerId, 'final')?.cosigners.length)).toEqual([
      3, 3, 3, 3,
    ])
    expect(members.map(({ final }) => final)).toEqual(members.map(() => [`${alice.peerId} 0`]))
  })

  it('is not final by a checkpoint of a key that was replaced, which contradicts nothing either', async () => {
    const members = await Promise.all([member(node), member(bob), member(carol)])
    const [a, b, c] = members
    await nameNodeKeys([a, b])
    await spread(members)
    expect(await askFor(a, b)).toBe(200)
    const { logs } = b
    await logs.onNews(checkpointBy(replaced, 2, EMPTY_ROOT))
    await logs.onNews(checkpointBy(replaced, 3, EMPTY_ROOT))
    await logs.onNews(checkpointBy(replaced, 1, EMPTY_ROOT))
    expect(logs.isContradicted(alice.peerId)).toBe(false)
    await expect(logs.onNews(checkpointBy(carol, 2, EMPTY_ROOT))).rejects.toThrow(/has not signed/)
    await spread(members)
    const latest = b.logs.notes.cosigned(alice.peerId, 'latest')
    expect([latest?.checkpoint.size, latest?.cosigners.length]).toEqual([2, 1])
    // Carol holds no statement of Alice, and so does not know the node key yet.
    expect(c.logs.notes.cosigned(alice.peerId, 'latest')).toBeUndefined()
    expect(await askFor(a, c)).toBe(403)
    await nameNodeKeys([c])
    expect(await askFor(a, c)).toBe(200)
    await spread(members)
    expect(members.map((one) => one.logs.finalSize(alice.peerId))).toEqual([2, 2, 2])
  })

  it('stays final after a restart', async () => {
    const members = await Promise.all([member(alice), member(bob), member(carol)])
    const [a, b, c] = members
    await spread(members)
    await log(alice, 3, [a])
    await askFor(a, b)
    await askFor(a, c)
    await a.catalogue.close()
    opened.splice(opened.indexOf(a.catalogue), 1)
    const again = await member(alice, { dir: a.dir })
    expect(again.logs.finalSize(alice.peerId)).toBe(3)
    expect((await again.logs.states())[0]?.latest?.cosigners).toHaveLength(2)
  })
})

describe('a member', () => {
  it('signs nothing in a home that was set back, neither before nor after its own checkpoint has come back', async () => {
    const members = await Promise.all([member(alice), member(bob)])
    const [a, b] = members
    await spread(members)
    await log(alice, 3, [a])
    await askFor(a, b)
    await spread(members)
    const restored = await member(alice, { isSetBack: true })
    await log(alice, 1, [restored])
    await restored.logs.sign()
    expect(restored.logs.notes.get(alice.peerId, 'latest')).toBeUndefined()
    const caughtUp = await member(alice)
    await log(alice, 1, [caughtUp])
    await spread([b, caughtUp])
    await caughtUp.logs.sign()
    expect(caughtUp.logs.notes.cosigned(alice.peerId, 'latest')?.checkpoint.size).toBe(3)
  })

  it('takes no witness key from anybody else, and no older one', async () => {
    const a = await member(alice)
    const news = (publisher: Identity, envelope: Uint8Array) => ({
      publisher: publisher.peerId,
      witnessKey: envelope,
    })
    const bobs = sealWitnessKey(bob, group.id, NOW)
    await expect(a.logs.onNews(news(carol, bobs))).rejects.toThrow(/witness key: expected/)
    const forged = utf8(fromUtf8(bobs).replace(/"sig":"(.)/, (_, c) => `"sig":"${c === 'A' ? 'B' : 'A'}`))
    await expect(a.logs.onNews(news(bob, forged))).rejects.toThrow(/does not verify/)
    const elsewhere = sealWitnessKey(bob, consortium([bob]).id, NOW)
    await expect(a.logs.onNews(news(bob, elsewhere))).rejects.toThrow(/for consortium/)
    await a.logs.onNews(news(bob, bobs))
    await a.logs.onNews(news(bob, sealWitnessKey(bob, group.id, NOW - 1)))
    expect(a.logs.notes.witnessKeyEnvelope(bob.peerId)).toEqual(bobs)
  })

  it('counts no cosignature of a witness key that a replaced key has stated', async () => {
    const members = await Promise.all([member(bob), member(carol), member(replaced)])
    const [b, c, thief] = members
    await nameNodeKeys([b, c])
    const stolen = sealWitnessKey(replaced, group.id, NOW + 100, alice.peerId)
    await b.logs.onNews({ publisher: alice.peerId, witnessKey: stolen })
    expect(b.logs.notes.witnessKey(alice.peerId)).toBeUndefined()
    await nameNodeKeys([thief])
    await thief.logs.notes.stateWitnessKey(replaced, NOW)
    expect(thief.logs.notes.isStated(replaced)).toBe(false)
    const renewed = sealWitnessKey(node, group.id, NOW, alice.peerId)
    await b.logs.onNews({ publisher: alice.peerId, witnessKey: renewed })
    expect(b.logs.notes.witnessKeyEnvelope(alice.peerId)).toEqual(renewed)
  })

  it('takes no cosignature that does not verify', async () => {
    const members = await Promise.all([member(alice), member(bob)])
    const [a, b] = members
    await spread(members)
    await a.logs.sign()
    const body = await a.logs.requestFor(bob.peerId, 0)
    const { body: line } = await b.witness.answer(body ?? new Uint8Array())
    await log(alice, 1, [a])
    await a.logs.sign()
    await expect(a.logs.addCosignature(bob.peerId, line)).rejects.toThrow(/does not verify/)
  })

  it('takes nothing more for final of a log that contradicts itself', async () => {
    const members = await Promise.all([member(alice), member(bob), member(carol)])
    const [a, b, c] = members
    await spread(members)
    await log(alice, 2, [a, b])
    await log(alice, 2, [c], 'other')
    await askFor(a, b)
    // Carol holds other statements of the same numbers.
    expect(await askFor(a, c)).toBe(422)
    await spread(members)
    expect(c.logs.isContradicted(alice.peerId)).toBe(true)
    const origin = originOf(group.id, alice.peerId)
    const text = encodeCheckpoint({ origin, size: 2, root: EMPTY_ROOT })
    const note = encodeNote({ text, signatures: [signText(origin, alice, text)] })
    await b.logs.onNews({ publisher: alice.peerId, note })
    expect(b.logs.isContradicted(alice.peerId)).toBe(true)
    await askFor(a, c)
    await spread(members)
    expect(b.logs.finalSize(alice.peerId)).toBe(0)
  })
})
