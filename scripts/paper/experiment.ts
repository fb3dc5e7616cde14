/**
 * The parts from which the table's rows are made: the public model, the separately trained models, and their scores on
 * the held-out sets. Each is computed once and stored. Knows nothing about rows.
 */

import { zeroRows } from '../../src/model/params.ts'
import { LEFT_OUT } from '../../src/model/routing-plan.ts'
import { type RouterStatistics, STATISTICS_WINDOW, solveGate } from '../../src/model/solved-router.ts'
import type { Params } from '../../src/model/weights.ts'
import { noisedStatistics } from '../../src/privacy/noise.ts'
import type { Trainables } from '../../src/training/pair.ts'
import { routerStatistics } from '../../src/training/router-statistics.ts'
import { DomainClassifier } from './baselines.ts'
import { type GateKind, repeatable, type TokenGateKind, tokenGateOf } from './routers.ts'
import { bitsPerByte, type Model, Scorer } from './scorer.ts'
import { MIXED_WINDOW, PURE_WINDOW } from './settings.ts'
import { whitenedStart } from './starts.ts'
import { type Moments, moments, type StreamGateKind, solveStreamGate, streamGateOf } from './stream-gates.ts'
import { type HeldOutText, sampler } from './text.ts'
import { type Laboratory, type PairInit, trainDense, trainPair, trainPublic } from './trainings.ts'

/** The set of documents that mix domains; the other sets are the domains. */
export const MIXED = 'mixed'
/** The set of held-out public text for tuning; never reported. */
export const TUNING = 'tuning'

/** Nats by set, window and token. */
export type NatsBySet = ReadonlyMap<string, readonly Float32Array[]>

/** Bits per byte by set. */
export type Bits = Readonly<Record<string, number>>

/** Share of public text in the batches of the default recipe. */
export const DEFAULT_REPLAY = 0.25

/** Windows of training text from which moments of streams are computed: number, and length in tokens. */
const MOMENTS = { windows: 512, T: 128 }
/** Seed for the windows of all statistics, and for noise. */
const STATISTICS_SEED = 99

export class Experiment {
  readonly lab: Laboratory
  readonly publicModel: Params
  readonly scorer: Scorer
  /** Domains of the owners, in the order of the mixture's experts. */
  readonly owners: readonly string[]
  readonly #streams = new Map<string, Promise<Float32Array[]>>()
  readonly #statistics = new Map<string, Promise<RouterStatistics>>()
  readonly #moments = new Map<string, Promise<Moments>>()
  #classifier: DomainClassifier | undefined

  private constructor(lab: Laboratory, publicModel: Params) {
    this.lab = lab
    this.publicModel = publicModel
    this.scorer = new Scorer(lab.engine, lab.settings.config)
    this.owners = lab.text.domains.slice(1)
  }

  static async begin(lab: Laboratory): Promise<Experiment> {
    return new Experiment(lab, await trainPublic(lab))
  }

  get classifier(): DomainClassifier {
    this.#classifier ??= new DomainClassifier(this.lab.text, this.lab.settings.config.vocabSize)
    return this.#classifier
  }

  /** The sets in the order of the table's columns. */
  get sets(): readonly string[] {
    return [...this.lab.text.domains, MIXED]
  }

  heldOut(set: string): HeldOutText {
    if (set === TUNING) return this.lab.text.publicVal
    return set === MIXED ? this.lab.text.mixed : this.lab.text.test(set)
  }

  windowOf(set: string): number {
    return set === MIXED ? MIXED_WINDOW : PURE_WINDOW
  }

  dense(domain: string, seed: number): Promise<Params> {
    const sources = [this.lab.text.train(domain)]
    return trainDense(this.lab, this.publicModel, { name: `dense-${domain}-s${seed}`, sources, seed })
  }

  /** Trains a pair by the default recipe with the changes in `variant`; `name` identifies its cell. */
  async pair(
    domain: string,
    seed: number,
    name: string,
    variant: Partial<PairInit> = {},
  ): Promise<Trainables> {
    const rows = variant.rows ?? (await whitenedStart(this.lab, this.publicModel, domain, seed)).rows
    return trainPair(this.lab, this.publicModel, {
      replayShare: DEFAULT_REPLAY,
      bias: true,
      ...variant,
      rows,
      name: `${name}-${domain}-s${seed}`,
      domain,
      seed,
    })
  }

  pairs(seed: number, name = 'pair', variant: Partial<PairInit> = {}): Promise<Trainables[]> {
    return inTurn(this.owners, (domain) => this.pair(domain, seed, name, variant))
  }

  get zeroRows(): Float32Array[] {
    return zeroRows(this.lab.settings.config)
  }

  /** The stream before the first router, for every window of a set. */
  streams(set: string): Promise<Float32Array[]> {
    return kept(this.#streams, set, () =>
      this.scorer.streams(this.publicModel, this.heldOut(set).windows, this.windowOf(set)),
    )
  }

  /** Router statistics of a domain's training text; those of owners with noise if `epsilon` is given. */
  statistics(
    domain: string,
    { documents, epsilon }: Pick<TokenGateKind, 'documents' | 'epsilon'>,
  ): Promise<RouterStatistics> {
    const key = `${domain} ${documents} ${epsilon}`
    return kept(this.#statistics, key, () => this.#count(domain, documents, epsilon))
  }

  async #count(domain: string, documents: number, epsilon: number | undefined): Promise<RouterStatistics> {
    const source = sampler(this.lab.text.train(domain), STATISTICS_WINDOW - 1, STATISTICS_SEED)
    const all = await Promise.all(Array.from({ length: documents }, (_, i) => source(i)))
    const exact = routerStatistics(this.lab.settings.config.vocabSize, all)
    const index = this.lab.text.domains.indexOf(domain)
    return epsilon === undefined || index === 0
      ? exact
      : noisedStatistics(exact, documents, epsilon, repeatable(STATISTICS_SEED + index))
  }

  /** Moments of the first layer's stream in a domain's training text. */
  #momentsOf(domain: string, decays: readonly number[]): Promise<Moments> {
    return kept(this.#moments, `${domain} ${decays}`, async () => {
      const source = sampler(this.lab.text.train(domain), MOMENTS.T - 1, STATISTICS_SEED)
      const all = await Promise.all(Array.from({ length: MOMENTS.windows }, (_, i) => source(i)))
      const rows = all.map((ids) => ({ document: 0, ids, labels: ids }))
      const streams = await this.scorer.streams(this.publicModel, rows, MOMENTS.T)
      return moments(streams, this.lab.settings.config.hiddenSize, decays)
    })
  }

  /**
   * The router logits of a solved gate for a set. Experts not in `present` (indexes of the mixture, public first) have
   * no part in the gate and are masked out.
   */
  async gate(kind: GateKind, set: string, present: readonly number[]): Promise<NonNullable<Model['gate']>> {
    const { domains } = this.lab.text
    const owners = present.map((index) => domains[index] as string)
    const of =
      kind.solver === 'tokens'
        ? tokenGateOf(
            solveGate(await inTurn(owners, (owner) => this.statistics(owner, kind)), kind),
            kind.decay,
          )
        : await this.#streamGate(kind, set, owners)
    if (present.length === domains.length) return of
    return (window, index) => spread(of(window, index), present, domains.length)
  }

  async #streamGate(kind: StreamGateKind, set: string, owners: readonly string[]) {
    const { hiddenSize: C } = this.lab.settings.config
    const all = await inTurn(owners, (owner) => this.#momentsOf(owner, kind.decays))
    const gate = solveStreamGate(kind, C * kind.decays.length, all)
    return streamGateOf(kind, gate, await this.streams(set), C)
  }

  /** Nats of a model on every set, stored under `name`. The gate is built for each set. */
  async nats(
    name: string,
    model: () => Promise<Omit<Model, 'gate'>>,
    gate?: (set: string) => Promise<NonNullable<Model['gate']>>,
    sets: readonly string[] = this.sets,
  ): Promise<NatsBySet> {
    const arrays = await this.lab.cells.arrays(`nats-${name}`, async () => {
      const given = await model()
      const out = new Map<string, Float32Array>()
      for (const set of sets) {
        this.lab.signal.throwIfAborted()
        const own = gate === undefined ? given : { ...given, gate: await gate(set) }
        const { nats, shares } = await this.scorer.score(own, this.heldOut(set).windows, this.windowOf(set))
        out.set(set, joined(nats))
        if (given.E > 1) out.set(`shares ${set}`, Float32Array.from(shares.flat()))
      }
      return out
    })
    const bySet = new Map<string, readonly Float32Array[]>()
    for (const set of sets) bySet.set(set, parted(arrays.get(set) as Float32Array, this.heldOut(set)))
    for (const [key, values] of arrays) if (key.startsWith('shares ')) bySet.set(key, [values])
    return bySet
  }

  bits(nats: NatsBySet): Bits {
    const own = this.sets.filter((set) => nats.has(set))
    return Object.fromEntries(
      own.map((set) => [set, bitsPerByte(nats.get(set) as readonly Float32Array[], this.heldOut(set).bytes)]),
    )
  }
}

/** Runs one after the other, since a training uses the whole machine. */
export async function inTurn<A, B>(items: readonly A[], each: (item: A) => Promise<B>): Promise<B[]> {
  const out: B[] = []
  for (const item of items) out.push(await each(item))
  return out
}

/** Mean over the domains, without mixed documents. */
export function macro(bits: Bits): number {
  const values = Object.entries(bits).flatMap(([set, value]) => (set === MIXED ? [] : [value]))
  return values.reduce((a, b) => a + b, 0) / values.length
}

function spread(logits: Float32Array, present: readonly number[], E: number): Float32Array {
  const T = logits.length / present.length
  const out = new Float32Array(T * E).fill(LEFT_OUT)
  for (let t = 0; t < T; t++) {
    present.forEach((index, i) => {
      out[t * E + index] = logits[t * present.length + i] as number
    })
  }
  return out
}

function joined(windows: readonly Float32Array[]): Float32Array {
  const out = new Float32Array(windows.reduce((sum, { length }) => sum + length, 0))
  let at = 0
  for (const window of windows) {
    out.set(window, at)
    at += window.length
  }
  return out
}

/** The inverse of `joined`. */
export function parted(values: Float32Array, { windows }: HeldOutText): Float32Array[] {
  let at = 0
  return windows.map(({ labels }) => {
    const from = at
    at += labels.length
    return values.subarray(from, at)
  })
}

function kept<T>(map: Map<string, Promise<T>>, key: string, make: () => Promise<T>): Promise<T> {
  let value = map.get(key)
  if (value === undefined) {
    value = make()
    map.set(key, value)
  }
  return value
}
