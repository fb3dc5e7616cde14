import { afterAll, beforeEach, describe, expect, it } from 'vitest'
import { Membership } from '../../src/consortium/membership.ts'
import { createIdentity, type Identity } from '../../src/identity/keys.ts'
import { utf8 } from '../../src/lib/bytes.ts'
import { Catalogue } from '../../src/store/catalogue.ts'
import { encodeCheckpoint, originOf } from '../../src/transparency/checkpoint.ts'
import { LogTrees } from '../../src/transparency/log-trees.ts'
import { EMPTY_ROOT } from '../../src/transparency/merkle.ts'
import { decodeSignatureLine, type NoteSignature, signText } from '../../src/transparency/note.ts'
import { Witness, type WitnessAnswer } from '../../src/transparency/witness.ts'
import { deriveWitness } from '../../src/transparency/witness-key.ts'
import { encodeAddCheckpoint } from '../../src/transparency/witness-rules.ts'
import { consortium, identityOf, logged, NOW, type TestConsortium } from '../support/consortium.ts'
import { cleanUp, folder } from '../support/folders.ts'

const self = identityOf(51)
const owner = identityOf(52)
const stranger = identityOf(53)
let group: TestConsortium
let dir: string
let catalogue: Catalogue
let trees: LogTrees
let witness: Witness
/** Another home that holds the log of the owner, as the owner does. */
let source: LogTrees
afterAll(cleanUp)

beforeEach(async () => {
  group = consortium([self, owner])
  dir = await folder()
  await open()
  const home = await Catalogue.open(await folder())
  source = new LogTrees(home)
  await fill(home, 5)
  await source.extend(owner.peerId)
  return async () => {
    await home.close()
    await catalogue.close()
  }
})

async function open(maySign = true): Promise<void> {
  catalogue = await Catalogue.open(dir)
  trees = new LogTrees(catalogue)
  const membership = await Membership.open({
    identity: self,
    catalogue,
    charterEnvelope: group.charterEnvelope,
    now: () => NOW,
    onEvent: () => undefined,
  })
  witness = new Witness({
    witness: deriveWitness(self, group.id),
    catalogue,
    membership,
    trees,
    maySign: () => maySign,
    now: () => NOW,
  })
}

/** Put statements of the owner into a catalogue; another history from statement `fork` on. */
async function fill(into: Catalogue, count: number, fork = count): Promise<void> {
  const publisher = group.publisher(owner)
  for (let i = 0; i < count; i++) {
    const { link, id, envelope } = logged(publisher.manifest(i < fork ? {} : { license: 'other' }))
    await into.append({ publisher: owner.peerId, seq: link.seq, digest: id, envelope })
  }
}

interface Changes {
  readonly origin?: string
  readonly root?: Uint8Array
  readonly proof?: readonly Uint8Array[]
  readonly signatures?: (text: string) => NoteSignature[]
}

/** Ask for a cosignature of the owner's log. */
async function ask(oldSize: number, size: number, changes: Changes = {}): Promise<WitnessAnswer> {
  const origin = changes.origin ?? originOf(group.id, owner.peerId)
  const text = encodeCheckpoint({
    origin,
    size,
    root: changes.root ?? (await source.root(owner.peerId, size)),
  })
  const signatures = changes.signatures?.(text) ?? [signText(origin, owner, text)]
  const proof = changes.proof ?? (oldSize > size ? [] : await source.consistency(owner.peerId, oldSize, size))
  return witness.answer(encodeAddCheckpoint({ oldSize, proof, note: { text, signatures } }))
}

describe('a witness', () => {
  it('cosigns each larger checkpoint that is consistent, and the same one again', async () => {
    const statuses: number[] = []
    for (const [oldSize, size] of [
      [0, 0],
      [0, 2],
      [2, 5],
      [5, 5],
    ] as const) {
      statuses.push((await ask(oldSize, size)).status)
    }
    expect(statuses).toEqual([200, 200, 200, 200])
    const { name } = decodeSignatureLine((await ask(5, 5)).body.trimEnd())
    expect(name).toBe(`${originOf(group.id, self.peerId)}/witness`)
  })

  it('answers as tlog-witness demands', async () => {
    await ask(0, 3)
    const wrong = (identity: Identity) => (text: string) => [
      signText(originOf(group.id, owner.peerId), identity, text),
    ]
    const answers = {
      malformed: await witness.answer(utf8('old 3\n\nnothing')),
      'old size above the size': await ask(3, 2),
      'an origin that is nobody': await ask(3, 5, { origin: 'flexmesh/nobody' }),
      'a stranger': await ask(3, 5, { origin: originOf(group.id, stranger.peerId) }),
      'its own log': await ask(3, 5, { origin: originOf(group.id, self.peerId) }),
      'signed by somebody else': await ask(3, 5, { signatures: wrong(stranger) }),
      'a wrong signature beside the right one': await ask(3, 5, {
        signatures: (text) => [...wrong(owner)(text), ...wrong(owner)(`${text}x`)],
      }),
      'an old size of another checkpoint': await ask(2, 5),
      'nothing cosigned before': await ask(0, 5),
      'no proof': await ask(3, 5, { proof: [] }),
      'a proof for another size': await ask(3, 5, { proof: await source.consistency(owner.peerId, 2, 5) }),
      'another root of the same size': await ask(3, 3, { root: EMPTY_ROOT }),
    }
    expect(Object.entries(answers).map(([name, { status }]) => [name, status])).toEqual([
      ['malformed', 400],
      ['old size above the size', 400],
      ['an origin that is nobody', 404],
      ['a stranger', 404],
      ['its own log', 404],
      ['signed by somebody else', 403],
      ['a wrong signature beside the right one', 403],
      ['an old size of another checkpoint', 409],
      ['nothing cosigned before', 409],
      ['no proof', 422],
      ['a proof for another size', 422],
      ['another root of the same size', 422],
    ])
    expect(answers['nothing cosigned before'].body).toBe('3\n')
  })

  it('refuses a proof where none can be, and another root of the empty tree', async () => {
    const [hash = EMPTY_ROOT] = await source.consistency(owner.peerId, 2, 5)
    expect((await ask(0, 3, { proof: [hash] })).status).toBe(422)
    expect((await ask(0, 0, { root: hash })).status).toBe(422)
  })

  it('cosigns only one of two checkpoints that follow the same one', async () => {
    await ask(0, 2)
    const answers = await Promise.all([ask(2, 3), ask(2, 5)])
    expect(answers.map(({ status }) => status)).toEqual([200, 409])
  })

  it('remembers after a restart what it has cosigned', async () => {
    await ask(0, 3)
    await catalogue.close()
    await open()
    expect(await ask(0, 5)).toMatchObject({ status: 409, body: '3\n' })
    expect((await ask(3, 5)).status).toBe(200)
  })

  it('refuses a log that is not the one whose statements it holds', async () => {
    await fill(catalogue, 4, 1)
    expect((await ask(0, 3)).status).toBe(422)
    expect((await ask(0, 1)).status).toBe(200)
  })

  it('signs nothing in a home that was restored, and takes over what it has cosigned before', async () => {
    await catalogue.close()
    await open(false)
    expect((await ask(0, 3)).status).toBe(403)
    const root = await source.root(owner.peerId, 4)
    await witness.learn(owner.peerId, { origin: originOf(group.id, owner.peerId), size: 4, root })
    expect(await witness.last(owner.peerId)).toEqual({ size: 4, root })
  })

  it('has a key of its own for each consortium, other than the key of its statements', () => {
    const other = consortium([self], { name: 'Another' })
    const keys = [self, deriveWitness(self, group.id), deriveWitness(self, other.id), createIdentity()]
    expect(new Set(keys.map(({ peerId }) => peerId)).size).toBe(4)
    expect(deriveWitness(self, group.id).peerId).toBe(deriveWitness(self, group.id).peerId)
  })
})
