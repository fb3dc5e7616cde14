import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import type { OpenedManifest } from '../../src/acceptance/accept.ts'
import { MatrixSketch, type WeightSketch } from '../../src/acceptance/weight-sketch.ts'
import { type WithdrawnPackage, WithdrawnWeights } from '../../src/acceptance/withdrawn-weights.ts'
import { type Digest, digestOf, utf8 } from '../../src/lib/bytes.ts'
import { Catalogue } from '../../src/store/catalogue.ts'
import { cleanUp, folder } from '../support/folders.ts'
import { tinyManifest } from '../support/packages.ts'

const OWNER = 'owner'
const OTHER = 'other'
const id = (name: string): Digest => digestOf(utf8(name))

let catalogue: Catalogue
let arrivals: Map<Digest, number>
/** Packages in the log of OTHER. */
let earlier: OpenedManifest[]
let withdrawn: WithdrawnWeights

beforeEach(async () => {
  catalogue = await Catalogue.open(await folder())
  arrivals = new Map()
  earlier = []
  withdrawn = new WithdrawnWeights({
    catalogue,
    arrivedAt: (manifest) => arrivals.get(manifest),
    packagesOf: async function* (publisher) {
      if (publisher === OTHER) yield* earlier
    },
  })
})
afterEach(async () => {
  await catalogue.close()
  await cleanUp()
})

/** A package of OWNER, issued at second 100, withdrawn by statement 5 at second 200, which arrived at 201. */
function forget(change: Partial<WithdrawnPackage> = {}): void {
  withdrawn.add({
    id: id('withdrawn'),
    publisher: OWNER,
    file: id('file'),
    publishedAt: 100,
    reason: 'owner-request',
    by: { publisher: OWNER, seq: 5 },
    issuedAt: 200,
    arrivedAt: 201,
    ...change,
  })
}

interface Candidate {
  readonly publisher?: string
  readonly seq?: number
  readonly issuedAt?: number
  /** Second at which it arrived. */
  readonly arrived?: number
  readonly file?: string
}

function candidate(
  { publisher = OTHER, seq = 1, issuedAt = 300, arrived, file = 'file' }: Candidate,
  name = 'candidate',
): OpenedManifest {
  const manifest = tinyManifest(publisher)
  if (arrived !== undefined) arrivals.set(id(name), arrived)
  const files = [{ ...manifest.files[0], sha256: id(file) }] as const
  return { id: id(name), manifest: { ...manifest, publisher, seq, issuedAt, files } }
}

describe('a withdrawn package', () => {
  it.each<[string, Candidate, Partial<WithdrawnPackage>, boolean]>([
    ['a package of another member that was issued later', {}, {}, true],
    ['one that was issued before and arrived before', { issuedAt: 150, arrived: 150 }, {}, false],
    ['one that states an earlier time and arrives later', { issuedAt: 150, arrived: 250 }, {}, true],
    [
      'one that arrives later, if the withdrawal itself arrived long after it was issued',
      { issuedAt: 150, arrived: 9000 },
      { arrivedAt: 8000 },
      false,
    ],
    ['one whose arrival was not written down', { issuedAt: 150 }, {}, false],
    [
      'a later package of its owner, whatever time it states',
      { publisher: OWNER, seq: 6, issuedAt: 50 },
      {},
      true,
    ],
    ['an earlier package of its owner', { publisher: OWNER, seq: 4, issuedAt: 300 }, {}, false],
    [
      'a later package of the owner that replaced it',
      { publisher: OWNER, seq: 6 },
      { reason: 'superseded' },
      false,
    ],
    ['a later package of another member after its owner replaced it', {}, { reason: 'superseded' }, true],
  ])('counts against %s: %#', async (_title, given, change, counts) => {
    forget(change)
    expect(await withdrawn.against(candidate(given))).toHaveLength(counts ? 1 : 0)
  })

  it('counts against what this node is about to publish, though the clock of the withdrawal is ahead', async () => {
    forget({ publisher: OTHER, by: undefined, issuedAt: 400, arrivedAt: 400 })
    expect(await withdrawn.against({ ...candidate({}), isDraft: true })).toHaveLength(1)
    expect(await withdrawn.against(candidate({}))).toEqual([])
  })

  it('does not count against itself', async () => {
    forget()
    expect(await withdrawn.against({ ...candidate({}), id: id('withdrawn') })).toEqual([])
  })

  it('does not count against a member that published its file first', async () => {
    forget()
    earlier = [candidate({ issuedAt: 50 }, 'original')]
    expect(await withdrawn.against(candidate({}))).toEqual([])
    earlier = [candidate({ issuedAt: 150 }, 'copy')]
    expect(await withdrawn.against(candidate({}))).toHaveLength(1)
  })

  it('does not count against a member that published nearly the same weights first', async () => {
    forget()
    earlier = [candidate({ issuedAt: 50, file: 'first' }, 'original')]
    expect(await withdrawn.against(candidate({}))).toHaveLength(1)
    await withdrawn.keep(candidate({}).manifest, await sketch(1))
    await withdrawn.keep(candidate({ file: 'first' }).manifest, await sketch(1.01))
    expect(await withdrawn.against(candidate({}))).toEqual([])
  })

  it('counts against a member that published its weights first and has withdrawn them', async () => {
    forget()
    earlier = [candidate({ issuedAt: 50 }, 'original')]
    forget({ id: id('original'), publisher: OTHER, publishedAt: 50, by: { publisher: OTHER, seq: 1 } })
    expect(await withdrawn.against(candidate({ seq: 2 }))).toHaveLength(2)
  })

  it('has a sketch only if this node judged it', async () => {
    forget()
    const against = await withdrawn.against(candidate({}))
    expect(await withdrawn.sketchesOf(against)).toEqual([])
    await withdrawn.keep(candidate({}).manifest, await sketch(1))
    expect(await withdrawn.sketchesOf(against)).toEqual([{ id: id('withdrawn'), sketch: await sketch(1) }])
  })
})

/** The sketch of a matrix of ones times a factor. */
async function sketch(factor: number): Promise<WeightSketch> {
  const one = new MatrixSketch(await withdrawn.seed(), 'x', 8, 8)
  one.add(new Float32Array(64).fill(factor), new Float32Array(64), 0)
  return new Map([['x', one.result()]])
}
