/**
 * What holds after any history: members publish, withdraw, refuse, restart and run out of disk space, a founder revokes
 * members, a hostile member signs packages that name others' files and forks its log, and all of it arrives in random
 * order. FLEXMESH_SEEDS sets the number of histories, FLEXMESH_SEED the first one.
 */
import { afterEach, describe, expect, it } from 'vitest'
import type { PublicModel } from '../src/checkpoint/public-model.ts'
import type { Identity } from '../src/identity/keys.ts'
import type { Digest } from '../src/lib/bytes.ts'
import { FlexMeshError } from '../src/lib/errors.ts'
import { mulberry32 } from '../src/lib/random.ts'
import { reconsider, refuse } from '../src/node/operator.ts'
import type { Manifest } from '../src/packaging/manifest.ts'
import { spreadNews } from '../src/pipeline/forks.ts'
import { propose } from '../src/pipeline/own-decisions.ts'
import { ingest, withdraw } from '../src/pipeline.ts'
import { loadTinyModel } from './support/compositions.ts'
import { identityOf, type Publisher, type TestConsortium } from './support/consortium.ts'
import { cleanUp } from './support/folders.ts'
import {
  publishExpert,
  pull,
  type SimulatedNode,
  simulatedConsortium,
  simulatedNode,
} from './support/simulation.ts'

const SEEDS = Number(process.env['FLEXMESH_SEEDS'] ?? 300)
const FIRST_SEED = Number(process.env['FLEXMESH_SEED'] ?? 1)
/** Histories of one test, so that a failure names a short range of seeds. */
const BATCH = 25
const STEPS = 30
const NAMES = ['law', 'logic']

let model: Promise<PublicModel> | undefined

afterEach(async () => {
  model = undefined // Its weights are in a folder that is removed.
  await cleanUp()
})

/** One history, from a seed. */
class History {
  readonly #random: () => number
  readonly #consortium: TestConsortium
  readonly nodes: SimulatedNode[] = []
  readonly #hostile: Publisher
  /** Signs another history than `#hostile` once it has begun. */
  #twin: Publisher | undefined
  /** Every envelope of the hostile member, to be given to anybody at any time. */
  readonly #envelopes: Uint8Array[] = []
  #seeds = 0
  /** What happened, for the report of a failure. */
  readonly log: string[] = []

  private constructor(random: () => number, consortium: TestConsortium, hostile: Identity) {
    this.#random = random
    this.#consortium = consortium
    this.#hostile = consortium.publisher(hostile)
  }

  static async begin(seed: number): Promise<History> {
    model ??= loadTinyModel()
    const publicModel = await model
    const identities = [1, 2, 3, 4].map(identityOf) as [Identity, ...Identity[]]
    const hostile = identityOf(5)
    const c = simulatedConsortium(identities[0], publicModel)
    const history = new History(mulberry32(seed), c, hostile)
    const rosters = [...identities.slice(1), hostile].map((identity, i) => c.admit(`Member ${i}`, identity))
    const holders = (of: SimulatedNode) => history.nodes.filter((node) => node !== of)
    for (const identity of identities) {
      const node = await simulatedNode({ consortium: c, publicModel, holders }, identity)
      for (const roster of rosters) await ingest(node.parts, roster)
      history.nodes.push(node)
    }
    return history
  }

  #below(max: number): number {
    return Math.floor(this.#random() * max)
  }

  #pick<T>(items: readonly T[]): T {
    return items[this.#below(items.length)] as T
  }

  async step(): Promise<void> {
    const node = this.#pick(this.nodes)
    const who = this.nodes.indexOf(node)
    const name = this.#pick(NAMES)
    const kind = this.#below(20)
    if (kind < 4) await this.#try(`${who} publishes ${name}`, () => publishExpert(node, name, ++this.#seeds))
    else if (kind < 6) await this.#try(`${who} withdraws ${name}`, () => withdraw(node.parts, name))
    else if (kind < 7) await this.#try(`${who} refuses ${name}`, () => refuse(node.parts, name))
    else if (kind < 8) await this.#try(`${who} restarts`, () => node.restart())
    else if (kind < 9) await this.#revoke()
    else if (kind < 10) await this.#toggleDisk(node, who)
    else if (kind < 13) await this.#sign()
    else if (kind < 15) await this.#hearHostile(node, who)
    else await this.#sync(node, this.#pick(this.nodes))
  }

  async #try(what: string, body: () => Promise<unknown>): Promise<void> {
    try {
      await body()
      this.log.push(what)
    } catch (error) {
      // An honest node signs nothing that does not fit into its own log.
      if (!(error instanceof FlexMeshError) || ['forked', 'replayed'].includes(error.code)) throw error
      this.log.push(`${what}: ${error.code}`)
    }
  }

  /** Not the founder, which is node 0. */
  async #revoke(): Promise<void> {
    const founder = this.nodes[0] as SimulatedNode
    const through = this.#below(4)
    const { peerId } = this.#pick([
      ...this.nodes.slice(2).map(({ identity }) => identity),
      this.#hostile.identity,
    ])
    await this.#try(`0 revokes ${peerId.slice(-4)} after ${through}`, async () => {
      await propose(founder.parts, {
        kind: 'revoke',
        seat: peerId,
        reason: 'other',
        validThroughSeq: through,
      })
    })
  }

  async #toggleDisk(node: SimulatedNode, who: number): Promise<void> {
    node.isDiskFull = !node.isDiskFull
    this.log.push(`the disk of ${who} is ${node.isDiskFull ? 'full' : 'free'}`)
  }

  /** The hostile member signs one more statement. */
  async #sign(): Promise<void> {
    const author = this.#twin !== undefined && this.#random() < 0.5 ? this.#twin : this.#hostile
    const kind = this.#below(8)
    if (kind === 0 && this.#twin === undefined) {
      this.#twin = this.#hostile.twin()
      this.log.push('the hostile member begins a second history')
      return
    }
    const victim = this.#pick(this.nodes).parts
    const manifests = victim.accepted.manifests().map(({ manifest }) => manifest)
    const own = this.#ids.length > 0 ? this.#pick(this.#ids) : undefined
    if (kind < 3 && own !== undefined) {
      this.#envelopes.push(author.withdrawal([own]).envelope)
      this.log.push('the hostile member withdraws')
      return
    }
    const stolen = this.#random() < 0.6 && manifests.length > 0 ? this.#pick(manifests) : undefined
    const changes: Partial<Manifest> = stolen === undefined ? this.#publicFile() : this.#stolenFile(stolen)
    const { id, envelope } = author.manifest(changes)
    this.#ids.push(id)
    this.#envelopes.push(envelope)
    this.log.push(
      `the hostile member signs ${id.slice(7, 15)} that names ${changes.files?.[0].sha256.slice(7, 15)}`,
    )
  }

  readonly #ids: Digest[] = []

  /** Another owner's file, under a manifest that fits it or that does not. */
  #stolenFile({ expert, files }: Manifest): Partial<Manifest> {
    const bias = this.#random() < 0.5 ? expert.bias : !expert.bias
    const size = this.#random() < 0.8 ? files[0].size : files[0].size + 8
    return { expert: { ...expert, name: 'stolen', bias }, files: [{ ...files[0], size }] }
  }

  /** A file of the public model, or one that nobody has. */
  #publicFile(): Partial<Manifest> {
    const { files } = this.#consortium.charter.publicModel
    const { sha256, chunksSha256 } = this.#pick(files)
    return this.#random() < 0.7 ? { files: [{ ...MANIFEST_FILE(this.#hostile), sha256, chunksSha256 }] } : {}
  }

  /** A member hears statements of the hostile member from itself, in any order. */
  async #hearHostile({ parts }: SimulatedNode, who: number): Promise<void> {
    if (this.#envelopes.length === 0) return
    const from = this.#below(this.#envelopes.length)
    this.log.push(`${who} hears statements ${from} to ${this.#envelopes.length - 1} of the hostile member`)
    for (const envelope of this.#envelopes.slice(from)) await ingest(parts, envelope)
  }

  async #sync(to: SimulatedNode, from: SimulatedNode): Promise<void> {
    if (to === from) return
    this.log.push(`${this.nodes.indexOf(to)} asks ${this.nodes.indexOf(from)}`)
    await pull(to, from)
  }

  /** Everybody hears everything, nobody's disk is full, and no operator's refusal is left. */
  async heal(): Promise<void> {
    for (const node of this.nodes) node.isDiskFull = false
    // Statements travel along the longest way, and news of a fork goes round once more.
    for (let round = 0; round < this.nodes.length + 2; round++) {
      for (const to of this.nodes) for (const from of this.nodes) if (to !== from) await pull(to, from)
    }
    for (const { parts } of this.nodes) {
      for (const name of [...NAMES, 'stolen']) await reconsider(parts, name).catch(ignoreNotFound)
      await parts.accepted.flush()
    }
    // A file that one node lacks arrives once another one has it.
    for (let round = 0; round < this.nodes.length; round++) {
      for (const { parts } of this.nodes) {
        parts.queue.retry()
        await parts.queue.settled()
      }
    }
  }

  async close(): Promise<void> {
    await Promise.all(this.nodes.map((node) => node.close()))
  }
}

function MANIFEST_FILE(author: Publisher): Manifest['files'][0] {
  return author.twin().manifest().manifest.files[0]
}

function ignoreNotFound(error: unknown): void {
  if (!(error instanceof FlexMeshError && error.code === 'not-found')) throw error
}

/** Names of the files that a node needs: the public model's and those of the packages in use. */
function needed({ parts }: SimulatedNode): string[] {
  const { files } = parts.membership.charter.publicModel
  const used = parts.accepted.manifests().flatMap(({ manifest }) => manifest.files)
  return [...new Set([...files, ...used].map(({ sha256 }) => sha256.slice('sha256:'.length)))].sort()
}

const digests = (history: History): Digest[] =>
  history.nodes.map(({ parts }) => parts.composer.served.composition.digest)

describe('after any history, once everybody has heard everything', () => {
  const batches = Math.ceil(SEEDS / BATCH)
  it.each(Array.from({ length: batches }, (_, batch) => FIRST_SEED + batch * BATCH))(
    'all nodes compose the same model, and hold the files that they need and no others (seeds from %i)',
    async (first) => {
      const last = Math.min(first + BATCH, FIRST_SEED + SEEDS) - 1
      let composed = 0
      for (let seed = first; seed <= last; seed++) {
        const history = await History.begin(seed)
        for (let step = 0; step < STEPS; step++) await history.step()
        await history.heal()
        const told = `seed ${seed}:\n${history.log.join('\n')}\n`
        expect(new Set(digests(history)).size, told).toBe(1)
        for (const node of history.nodes) expect(await node.files(), told).toEqual(needed(node))
        const before = digests(history)
        composed += (history.nodes[0] as SimulatedNode).parts.accepted.list().length
        for (const node of history.nodes) await node.restart()
        expect(digests(history), told).toEqual(before)
        for (const node of history.nodes) expect(await node.files(), told).toEqual(needed(node))
        await history.close()
      }
      // Nodes that use nothing would agree, too.
      expect(composed).toBeGreaterThan(last - first)
    },
  )
})

describe('news that a member hears from another one', () => {
  /** Two nodes, of which the second one publishes. */
  async function two() {
    model ??= loadTinyModel()
    const publicModel = await model
    const [founder, member] = [identityOf(1), identityOf(2)]
    const c = simulatedConsortium(founder, publicModel)
    const init = { consortium: c, publicModel, holders: () => [] }
    const node = await simulatedNode(init, founder)
    return { c, node, member, admission: c.admit('Member', member) }
  }

  it('such as a roster is announced again, so that it reaches those who ask this member', async () => {
    const { c, node, admission, member } = await two()
    expect(await ingest(node.parts, admission)).toBe(true)
    await spreadNews(node.parts)
    expect(node.announced).toBe(1)
    expect(await ingest(node.parts, admission)).toBe(false)
    await spreadNews(node.parts)
    expect(node.announced).toBe(1)
    expect(await ingest(node.parts, c.revoke(member, 'left', 0))).toBe(true)
    await spreadNews(node.parts)
    expect(node.announced).toBe(2)
    await node.close()
  })

  it('such as a fork is announced once, whether two statements or a head prove it', async () => {
    for (const kind of ['statements', 'head'] as const) {
      const { c, node, admission, member } = await two()
      await ingest(node.parts, admission)
      await spreadNews(node.parts)
      const author = c.publisher(member)
      const twin = author.twin()
      await ingest(node.parts, author.manifest().envelope)
      const other = twin.manifest({ domain: 'another' }).envelope
      const before = node.announced
      await ingest(node.parts, kind === 'head' ? twin.head() : other)
      await spreadNews(node.parts)
      expect(node.parts.statements.isForked(member.peerId)).toBe(true)
      await ingest(node.parts, twin.head())
      await ingest(node.parts, other)
      await spreadNews(node.parts)
      expect(node.announced).toBe(before + 1)
      await node.close()
    }
  })
})
