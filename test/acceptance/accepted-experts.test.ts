import { afterEach, describe, expect, it, vi } from 'vitest'
import type { Verdict } from '../../src/acceptance/accept.ts'
import { AcceptedExperts } from '../../src/acceptance/accepted-experts.ts'
import { Verdicts } from '../../src/acceptance/verdicts.ts'
import type { Identity } from '../../src/identity/keys.ts'
import { type Digest, digestOf, utf8 } from '../../src/lib/bytes.ts'
import { limit } from '../../src/lib/limits.ts'
import type { ManifestStatement } from '../../src/packaging/open-statement.ts'
import { BlobStore } from '../../src/store/blob-store.ts'
import { Catalogue } from '../../src/store/catalogue.ts'
import { consortium, identityOf, NOW, type Publisher } from '../support/consortium.ts'
import { cleanUp, folder } from '../support/folders.ts'
import { packTensors } from '../support/package-bytes.ts'
import { TINY_EXPERT, tinyTensors } from '../support/packages.ts'
import { TINY } from '../support/tiny-model.ts'

const c = consortium()
const [owner, other] = [2, 3].map(identityOf) as [Identity, Identity]
/** A file of the public model. */
const PUBLIC_FILE = utf8('a file of the public model')

const open: Catalogue[] = []
afterEach(async () => {
  for (const catalogue of open.splice(0)) await catalogue.close()
  await cleanUp()
})

interface Package {
  readonly statement: ManifestStatement
  readonly accepted: Verdict
  readonly refused: Verdict
  readonly file: Digest
}

/** Experts in use, on a disk of their own. */
async function empty() {
  const dir = await folder()
  const catalogue = await Catalogue.open(dir)
  open.push(catalogue)
  const blobs = await BlobStore.open(dir)
  const clock = { now: NOW }
  const institutionOf = (publisher: string): string => (publisher === owner.peerId ? 'Owner' : 'Other')
  /** What the roster covers; tests may change it. */
  const roster = { covers: (_publisher: string, _seq: number): boolean => true }
  /** Publishers that have forked. */
  const forked = new Set<string>()
  const events: Verdict['outcome'][] = []
  const verdicts = new Verdicts({
    catalogue,
    institutionOf,
    onVerdict: ({ outcome }) => events.push(outcome),
  })
  const experts = new AcceptedExperts({
    config: { ...TINY, numHiddenLayers: 2 },
    catalogue,
    blobs,
    verdicts,
    keep: new Set([digestOf(PUBLIC_FILE)]),
    institutionOf,
    mayPublish: (publisher, seq) => roster.covers(publisher, seq),
    isForked: (publisher) => forked.has(publisher),
    now: () => clock.now,
  })
  /** A package that has arrived: its manifest is in the log and its file on disk. */
  const arrived = async (publisher: Publisher, seed: number, bytes?: Uint8Array): Promise<Package> => {
    const { parts, file, shape } = packTensors(tinyTensors(TINY_EXPERT, seed), 'F32')
    const sha256 = await blobs.put(bytes ?? parts)
    const statement = publisher.manifest({
      files: [{ role: 'expert', ...file, sha256 }],
      expert: {
        ...shape,
        name: `expert-${seed}`,
        dtype: 'F32',
        statisticsDocuments: 0,
        statisticsEpsilonMilli: 0,
      },
    })
    const { publisher: peerId, seq } = statement.manifest
    await catalogue.append({ publisher: peerId, seq, digest: statement.id, envelope: statement.envelope })
    const common = { id: statement.id, publisher: peerId, passed: [], at: NOW }
    return {
      statement,
      file: sha256,
      accepted: { ...common, outcome: 'accepted' },
      refused: { ...common, outcome: 'refused', check: 'norms', code: 'norm-bound', reason: 'too large' },
    }
  }
  const accept = async (publisher: Publisher, seed: number, bytes?: Uint8Array): Promise<Package> => {
    const arrival = await arrived(publisher, seed, bytes)
    expect(await experts.decide(arrival.statement, arrival.accepted)).toBe(true)
    return arrival
  }
  /** What disk and memory say about a package. */
  const stateOf = async ({ statement: { id }, file }: Package) => {
    const verdict = await verdicts.get(id)
    return {
      verdict: verdict?.outcome === 'refused' ? verdict.code : verdict?.outcome,
      inUse: experts.has(id),
      onDisk: await blobs.has(file),
    }
  }
  return { experts, verdicts, events, blobs, clock, roster, forked, arrived, accept, stateOf }
}

const publisher = (): Publisher => c.publisher(owner)
const IN_USE = { verdict: 'accepted', inUse: true, onDisk: true }
const idOf = ({ statement }: Package): Digest => statement.id

describe('a decision', () => {
  it('for a package leaves verdict, expert and file', async () => {
    const { experts, accept, stateOf } = await empty()
    const arrival = await accept(publisher(), 1)
    expect(await stateOf(arrival)).toEqual(IN_USE)
    expect(experts.list()).toMatchObject([
      { id: idOf(arrival), name: 'expert-1', institution: 'Owner', peerId: owner.peerId },
    ])
    expect(experts.manifests()).toEqual([{ id: idOf(arrival), manifest: arrival.statement.manifest }])
    expect(await experts.manifestOf(idOf(arrival))).toEqual(arrival.statement.manifest)
  })

  it('against a package leaves the verdict only', async () => {
    const { experts, arrived, stateOf } = await empty()
    const arrival = await arrived(publisher(), 1)
    expect(await experts.decide(arrival.statement, arrival.refused, undefined)).toBe(false)
    expect(await stateOf(arrival)).toEqual({ verdict: 'norm-bound', inUse: false, onDisk: false })
  })

  it('against a package leaves its file if an expert in use has the same', async () => {
    const { experts, accept, arrived, stateOf } = await empty()
    const first = await accept(publisher(), 1)
    const same = await arrived(c.publisher(other), 1)
    await experts.decide(same.statement, same.refused, undefined)
    expect(await stateOf(same)).toEqual({ verdict: 'norm-bound', inUse: false, onDisk: true })
    expect(await stateOf(first)).toEqual(IN_USE)
  })

  it('against a package leaves its file if the public model has the same', async () => {
    const { experts, arrived, stateOf } = await empty()
    const arrival = await arrived(publisher(), 1, PUBLIC_FILE)
    await experts.decide(arrival.statement, arrival.refused, undefined)
    expect(await stateOf(arrival)).toEqual({ verdict: 'norm-bound', inUse: false, onDisk: true })
  })
})

describe('a withdrawal', () => {
  const WITHDRAWN = { verdict: 'withdrawn', inUse: false, onDisk: false }

  it('of an expert in use removes the expert and its file, and turns the verdict', async () => {
    const { experts, accept, stateOf } = await empty()
    const arrival = await accept(publisher(), 1)
    const left = await experts.withdraw(owner.peerId, [idOf(arrival)])
    expect(left.map(({ id }) => id)).toEqual([idOf(arrival)])
    expect(await stateOf(arrival)).toEqual(WITHDRAWN)
    expect(experts.isWithdrawn(owner.peerId, idOf(arrival))).toBe(true)
  })

  it('that arrives before the decision turns it, and the acceptance is never reported', async () => {
    const { experts, events, arrived, stateOf } = await empty()
    const arrival = await arrived(publisher(), 1)
    expect(await experts.withdraw(owner.peerId, [idOf(arrival)])).toEqual([])
    expect(await experts.decide(arrival.statement, arrival.accepted)).toBe(false)
    expect(events).toEqual(['refused'])
    expect(await stateOf(arrival)).toEqual(WITHDRAWN)
  })

  it('that arrives between the verdict and the use of the expert turns both', async () => {
    const { experts, verdicts, arrived, stateOf } = await empty()
    const arrival = await arrived(publisher(), 1)
    const put = verdicts.put.bind(verdicts)
    vi.spyOn(verdicts, 'put').mockImplementationOnce(async (verdict) => {
      await put(verdict)
      await experts.withdraw(owner.peerId, [idOf(arrival)])
    })
    expect(await experts.decide(arrival.statement, arrival.accepted)).toBe(false)
    expect(await stateOf(arrival)).toEqual(WITHDRAWN)
  })

  it('that arrives while the verdict is written turns it', async () => {
    const { experts, verdicts, arrived, stateOf } = await empty()
    const arrival = await arrived(publisher(), 1)
    const put = verdicts.put.bind(verdicts)
    vi.spyOn(verdicts, 'put').mockImplementationOnce(async (verdict) => {
      await experts.withdraw(owner.peerId, [idOf(arrival)])
      await put(verdict)
    })
    expect(await experts.decide(arrival.statement, arrival.accepted)).toBe(false)
    expect(await stateOf(arrival)).toEqual(WITHDRAWN)
  })

  it('does not turn the code of a package that was refused for another reason', async () => {
    const { experts, arrived, stateOf } = await empty()
    const arrival = await arrived(publisher(), 1)
    await experts.decide(arrival.statement, arrival.refused, undefined)
    await experts.withdraw(owner.peerId, [idOf(arrival)])
    expect(await stateOf(arrival)).toEqual({ ...WITHDRAWN, verdict: 'norm-bound' })
  })

  it('of a package that somebody else published has no effect', async () => {
    const { experts, accept, stateOf } = await empty()
    const arrival = await accept(publisher(), 1)
    expect(await experts.withdraw(other.peerId, [idOf(arrival)])).toEqual([])
    expect(await stateOf(arrival)).toEqual(IN_USE)
    expect(experts.isWithdrawn(owner.peerId, idOf(arrival))).toBe(false)
  })

  it('that arrives before its package is remembered', async () => {
    const { experts, arrived, stateOf } = await empty()
    const elsewhere = await (await empty()).arrived(publisher(), 1)
    expect(await experts.withdraw(owner.peerId, [idOf(elsewhere)])).toEqual([])
    const arrival = await arrived(publisher(), 1)
    expect(idOf(arrival)).toBe(idOf(elsewhere))
    expect(await experts.decide(arrival.statement, arrival.accepted)).toBe(false)
    expect(await stateOf(arrival)).toEqual(WITHDRAWN)
  })

  it('leaves a file that another expert in use needs', async () => {
    const { experts, accept, stateOf } = await empty()
    const first = await accept(publisher(), 1)
    const same = await accept(c.publisher(other), 1)
    await experts.withdraw(owner.peerId, [idOf(first)])
    expect(await stateOf(first)).toEqual({ ...WITHDRAWN, onDisk: true })
    expect(await stateOf(same)).toEqual(IN_USE)
    await experts.withdraw(other.peerId, [idOf(same)])
    expect(await stateOf(same)).toEqual(WITHDRAWN)
  })
})

describe('a refusal by the operator', () => {
  it('ends the use of an expert and turns its verdict, and leaves the file for a change of mind', async () => {
    const { experts, accept, stateOf } = await empty()
    const arrival = await accept(publisher(), 1)
    expect(await experts.refuse([idOf(arrival)])).toMatchObject([{ id: idOf(arrival) }])
    expect(await stateOf(arrival)).toEqual({ verdict: 'refused-by-operator', inUse: false, onDisk: true })
  })

  it('has no effect on a package that is not in use', async () => {
    const { experts, arrived, stateOf } = await empty()
    const arrival = await arrived(publisher(), 1)
    await experts.decide(arrival.statement, arrival.refused, undefined)
    expect(await experts.refuse([idOf(arrival)])).toEqual([])
    expect((await stateOf(arrival)).verdict).toBe('norm-bound')
  })
})

describe('a decision while something else happens', () => {
  it('does not use an expert that the roster stops to cover while its verdict is written', async () => {
    const { experts, arrived, roster, stateOf, verdicts } = await empty()
    const arrival = await arrived(publisher(), 1)
    const put = verdicts.put.bind(verdicts)
    vi.spyOn(verdicts, 'put').mockImplementationOnce(async (verdict) => {
      await put(verdict)
      roster.covers = () => false
    })
    expect(await experts.decide(arrival.statement, arrival.accepted)).toBe(false)
    expect(await stateOf(arrival)).toEqual({ verdict: 'not-a-member', inUse: false, onDisk: false })
  })

  it('does not undo a refusal by the operator, until the operator lifts it', async () => {
    const { experts, accept, stateOf } = await empty()
    const arrival = await accept(publisher(), 1)
    await experts.refuse([idOf(arrival)])
    expect(await experts.decide(arrival.statement, arrival.accepted)).toBe(false)
    expect((await stateOf(arrival)).verdict).toBe('refused-by-operator')
    experts.liftRefusal(idOf(arrival))
    expect(await experts.decide(arrival.statement, arrival.accepted)).toBe(true)
    expect(await stateOf(arrival)).toEqual(IN_USE)
  })

  it('keeps a file that is held for another package, and deletes it after that', async () => {
    const { experts, arrived, stateOf } = await empty()
    const arrival = await arrived(publisher(), 1)
    const end = experts.files.hold(arrival.statement.manifest)
    await experts.decide(arrival.statement, arrival.refused, undefined)
    expect((await stateOf(arrival)).onDisk).toBe(true)
    end()
    await experts.files.delete(arrival.statement.manifest)
    expect((await stateOf(arrival)).onDisk).toBe(false)
  })
})

describe('experts whose time is over', () => {
  it('are dropped once their consent has ended, with some minutes for clocks that differ', async () => {
    const { experts, accept, clock, stateOf } = await empty()
    const arrival = await accept(publisher(), 1)
    clock.now = arrival.statement.manifest.expiresAt + limit('clockSkew')
    expect(await experts.dropExpired()).toEqual([])
    expect(await stateOf(arrival)).toEqual(IN_USE)
    clock.now += 1
    expect(await experts.dropExpired()).toMatchObject([{ id: idOf(arrival) }])
    expect(await stateOf(arrival)).toEqual({ verdict: 'expired', inUse: false, onDisk: true })
    expect(await experts.dropExpired()).toEqual([])
  })

  it('are dropped once the roster does not cover their statement', async () => {
    const { experts, accept, stateOf, roster } = await empty()
    const author = publisher()
    const [first, second] = [await accept(author, 1), await accept(author, 2)]
    const { seq } = first.statement.manifest
    roster.covers = (peer, n) => peer === owner.peerId && n <= seq
    const dropped = await experts.dropUncovered()
    expect(dropped.map(({ id }) => id)).toEqual([idOf(second)])
    expect(await stateOf(first)).toEqual(IN_USE)
    expect(await stateOf(second)).toEqual({ verdict: 'not-a-member', inUse: false, onDisk: false })
  })

  it('are dropped, all of them, once their publisher has forked', async () => {
    const { experts, accept, stateOf, forked } = await empty()
    const author = publisher()
    const [first, second] = [await accept(author, 1), await accept(author, 2)]
    expect(await experts.dropUncovered()).toEqual([])
    forked.add(owner.peerId)
    expect((await experts.dropUncovered()).map(({ id }) => id)).toEqual([idOf(first), idOf(second)])
    for (const arrival of [first, second]) {
      expect(await stateOf(arrival)).toEqual({ verdict: 'forked', inUse: false, onDisk: false })
    }
  })
})

describe('the manifest of a package', () => {
  it('that is not in use is read from the log', async () => {
    const { experts, arrived } = await empty()
    const { statement } = await arrived(publisher(), 1)
    expect(await experts.manifestOf(statement.id)).toEqual(statement.manifest)
  })

  it('that the log does not hold is missing', async () => {
    const { experts } = await empty()
    const { id } = publisher().manifest()
    await expect(experts.manifestOf(id)).rejects.toMatchObject({ code: 'not-found' })
  })
})
