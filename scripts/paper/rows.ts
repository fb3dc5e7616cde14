/**
 * The rows of the table: what each trains and how it answers. A row is bits per byte by set, one seed. Knows no
 * output.
 */
import { routerName } from '../../src/lib/tensor-names.ts'
import type { Params } from '../../src/model/params.ts'
import { GATE_CALIBRATION, GATE_DECAY, solveGate } from '../../src/model/solved-router.ts'
import type { Trainables } from '../../src/training/pair.ts'
import { STATISTICS_DOCUMENTS } from '../../src/training/router-statistics.ts'
import type { Audited } from './audited.ts'
import { bestTemperature, ensemble, promptRouting, proxyText, soup, weightedSoup } from './baselines.ts'
import { composePairs, type RowsInit } from './compositions.ts'
import { rowsByEmbedder } from './embedder.ts'
import { type Experiment, inTurn, type NatsBySet, parted, TUNING } from './experiment.ts'
import type { GateKind, TokenGateKind } from './routers.ts'
import { hiddenStateRows, randomRows } from './starts.ts'
import { PUBLIC_DOMAIN } from './text.ts'
import { mixtureOfDense, trainMixture } from './trainings.ts'

/** Experts active for a token, as the product's default. */
export const TOP_K = 4
/** The product's gate. */
export const GATE: TokenGateKind = {
  solver: 'tokens',
  decay: GATE_DECAY,
  documents: STATISTICS_DOCUMENTS,
  ...GATE_CALIBRATION,
}
/** Candidates for the temperature of the BTM ensemble; the best on held-out public text is taken. */
export const TEMPERATURES = [0.1, 0.3, 1, 3, 10, 30]

/** Rows carried as trained, bias and all. */
const ROWS: Omit<RowsInit, 'publicRows'> = { scale: 1, bias: 'carried', shift: 0 }
/** As the product publishes rows: two below (RELEASE_BIAS in training/pair.ts). */
const RELEASED = { ...ROWS, shift: -2 }

export class Rows {
  readonly #experiment: Experiment

  /** Whether the sentence embedder is installed. */
  readonly hasEmbedder: boolean

  constructor(experiment: Experiment, hasEmbedder: boolean) {
    this.#experiment = experiment
    this.hasEmbedder = hasEmbedder
  }

  publicModel(): Promise<NatsBySet> {
    return this.#dense('public', () => Promise.resolve(this.#experiment.publicModel))
  }

  dense(domain: string, seed: number): Promise<NatsBySet> {
    return this.#dense(`dense-${domain}-s${seed}`, () => this.#experiment.dense(domain, seed))
  }

  /** An expert and the public model alone, both always active. */
  pair(domain: string, seed: number): Promise<NatsBySet> {
    return this.#experiment.nats(`pair-${domain}-s${seed}`, () => this.#pairModel(domain, seed))
  }

  /** The same on the text that tunes. */
  pairOnTuning(domain: string, seed: number): Promise<NatsBySet> {
    const name = `pair-tuning-${domain}-s${seed}`
    return this.#experiment.nats(name, () => this.#pairModel(domain, seed), undefined, [TUNING])
  }

  async #pairModel(domain: string, seed: number) {
    const { config } = this.#experiment.lab.settings
    const pair = await this.#experiment.pair(domain, seed, 'pair')
    const { publicModel, zeroRows } = this.#experiment
    const params = composePairs(config, publicModel, [pair], { ...ROWS, publicRows: zeroRows })
    return { params, E: 2, topK: 2 }
  }

  async uniformSoup(seed: number): Promise<NatsBySet> {
    return this.#dense(`soup-s${seed}`, async () => {
      const models = await this.#denseModels(seed)
      return soup(
        models,
        models.map(() => 1 / models.length),
      )
    })
  }

  async weightedSoup(seed: number): Promise<NatsBySet> {
    const { lab, scorer, sets } = this.#experiment
    const arrays = await lab.cells.arrays(`nats-weighted-soup-s${seed}`, async () => {
      const models = await this.#denseModels(seed)
      const out = new Map<string, Float32Array>()
      for (const set of sets) {
        const text = this.#experiment.heldOut(set)
        const nats = await this.#denseNats(seed, set)
        const soups = await weightedSoup(scorer, models, nats, text, this.#experiment.windowOf(set))
        out.set(set, Float32Array.from(soups.flatMap((window) => Array.from(window))))
      }
      return out
    })
    return new Map(
      sets.map((set) => [set, parted(arrays.get(set) as Float32Array, this.#experiment.heldOut(set))]),
    )
  }

  /** @returns nats and the temperature tuned on held-out public text. */
  async btm(seed: number): Promise<{ nats: NatsBySet; temperature: number }> {
    const tuning = await this.#denseNats(seed, TUNING)
    const temperature = bestTemperature(tuning, TEMPERATURES)
    return { nats: await this.#ofDense(seed, (nats) => ensemble(nats, temperature)), temperature }
  }

  promptRouting(seed: number): Promise<NatsBySet> {
    const { classifier } = this.#experiment
    return this.#ofDense(seed, (nats, set) =>
      promptRouting(nats, this.#experiment.heldOut(set).windows, classifier),
    )
  }

  /** Dense FFNs as experts, the rest averaged, all trained on public text (BTX). */
  btx(seed: number): Promise<NatsBySet> {
    const { lab } = this.#experiment
    return this.#experiment.nats(`btx-s${seed}`, async () => {
      const models = await this.#denseModels(seed)
      const trunk = soup(
        models,
        models.map(() => 1 / models.length),
      )
      const rows = models.map((_, i) => randomRows(lab, seed * 100 + i))
      const start = mixtureOfDense(lab.settings, trunk, models, rows)
      const params = await trainMixture(lab, {
        name: `btx-s${seed}`,
        start,
        E: models.length,
        topK: TOP_K,
        trained: 'all',
        sources: [lab.text.train(PUBLIC_DOMAIN)],
        seed,
        training: lab.settings.denseTraining,
      })
      return { params, E: models.length, topK: TOP_K }
    })
  }

  /** Sparse mixture upcycled from the public model and trained on everybody's text: what nobody here may do. */
  joint(seed: number, data: 'half' | 'all'): Promise<NatsBySet> {
    const { lab, publicModel, owners } = this.#experiment
    return this.#experiment.nats(`joint-${data}-s${seed}`, async () => {
      const models = lab.text.domains.map(() => publicModel)
      const rows = models.map((_, i) => randomRows(lab, seed * 100 + i))
      const { denseTraining } = lab.settings
      const share = data === 'all' ? 1 : 0.5
      const params = await trainMixture(lab, {
        name: `joint-${data}-s${seed}`,
        start: mixtureOfDense(lab.settings, publicModel, models, rows),
        E: models.length,
        topK: TOP_K,
        trained: 'all',
        sources: lab.text.domains.map((domain) => lab.text.train(domain)),
        seed,
        // As many tokens as all owners together spend, in batches twice as large.
        training: {
          ...denseTraining,
          B: 2 * denseTraining.B,
          steps: Math.round((share * owners.length * denseTraining.steps) / 2),
        },
      })
      return { params, E: models.length, topK: TOP_K }
    })
  }

  /** Pairs of one recipe side by side. */
  composition(
    name: string,
    seed: number,
    options: {
      readonly pairs?: { readonly name: string; readonly variant: (domain: string) => Promise<object> }
      readonly rows?: Omit<RowsInit, 'publicRows'>
      readonly publicRows?: () => Promise<readonly Float32Array[]>
      readonly gate?: GateKind
      readonly topK?: number
      /** Indexes of the mixture that are in use, public first. */
      readonly present?: readonly number[]
    },
  ): Promise<NatsBySet> {
    const { publicModel, lab, owners, zeroRows } = this.#experiment
    const E = owners.length + 1
    const { gate, pairs: recipe } = options
    const present = options.present ?? Array.from({ length: E }, (_, i) => i)
    return this.#experiment.nats(
      `${name}-s${seed}`,
      async () => {
        const pairs =
          recipe === undefined
            ? await this.#experiment.pairs(seed)
            : await inTurn(owners, async (domain) =>
                this.#experiment.pair(domain, seed, recipe.name, await recipe.variant(domain)),
              )
        const publicRows = (await options.publicRows?.()) ?? zeroRows
        const rows = options.rows ?? RELEASED
        return {
          params: composePairs(lab.settings.config, publicModel, pairs, { ...rows, publicRows }),
          E,
          topK: options.topK ?? TOP_K,
        }
      },
      gate && ((set) => this.#experiment.gate(gate, set, present)),
    )
  }

  /** The paper's recipe: own text alone, embeddings as rows, learned bias carried, no statistics. */
  plain(seed: number): Promise<NatsBySet> {
    const { lab, publicModel } = this.#experiment
    const publicRows = () => hiddenStateRows(lab, publicModel, PUBLIC_DOMAIN, seed)
    return this.composition('plain', seed, {
      pairs: {
        name: 'plain',
        variant: async (domain) => ({
          replayShare: 0,
          rows: await hiddenStateRows(lab, publicModel, domain, seed),
          publicRows: await publicRows(),
        }),
      },
      rows: ROWS,
      publicRows,
    })
  }

  /** The paper's recipe with its kind of rows: those of an embedder that was made for telling texts apart. */
  plainByEmbedder(seed: number): Promise<NatsBySet> {
    const { lab } = this.#experiment
    const publicRows = () => rowsByEmbedder(lab, PUBLIC_DOMAIN)
    return this.composition('plain-embedder', seed, {
      pairs: {
        name: 'plain-embedder',
        variant: async (domain) => ({
          replayShare: 0,
          rows: await rowsByEmbedder(lab, domain),
          publicRows: await publicRows(),
        }),
      },
      rows: ROWS,
      publicRows,
    })
  }

  /** Router rows tuned on public text that looks like the owners' (FlexOlmo paper 3.3.3); the gate beside them or not. */
  routerTuned(seed: number, gate?: GateKind): Promise<NatsBySet> {
    const { lab, publicModel, owners, zeroRows, classifier } = this.#experiment
    const { config, expertTraining } = lab.settings
    const E = owners.length + 1
    return this.#experiment.nats(
      `router-tuned${gate === undefined ? '' : '-gate'}-s${seed}`,
      async () => {
        const pairs = await this.#experiment.pairs(seed)
        const start = withoutBias(composePairs(config, publicModel, pairs, { ...ROWS, publicRows: zeroRows }))
        const { T } = expertTraining
        const count = Math.round(expertTraining.steps * 0.1 * expertTraining.B)
        const proxies = owners.map((domain) => proxyText(lab.text, classifier, domain, T + 1, count))
        const params = await trainMixture(lab, {
          name: `router-tuned-s${seed}`,
          start,
          E,
          topK: E,
          trained: 'router',
          sources: [...proxies, lab.text.train(PUBLIC_DOMAIN)],
          seed,
          training: { ...expertTraining, steps: Math.round(expertTraining.steps / 2) },
        })
        return { params, E, topK: TOP_K }
      },
      gate &&
        ((set) =>
          this.#experiment.gate(
            gate,
            set,
            Array.from({ length: E }, (_, i) => i),
          )),
    )
  }

  /** Dense FFNs in the public trunk, rows as they would have started: no training to coordinate. */
  noCoordination(seed: number): Promise<NatsBySet> {
    const { lab, publicModel, owners } = this.#experiment
    return this.#experiment.nats(`no-coordination-s${seed}`, async () => {
      const models = [
        publicModel,
        ...(await inTurn(owners, (domain) => this.#experiment.dense(domain, seed))),
      ]
      const rows = await inTurn(lab.text.domains, (domain) => hiddenStateRows(lab, publicModel, domain, seed))
      return {
        params: mixtureOfDense(lab.settings, publicModel, models, rows),
        E: models.length,
        topK: TOP_K,
      }
    })
  }

  /** The default composition with every expert cut to a rank. */
  cut(rank: number, seed: number): Promise<NatsBySet> {
    return this.composition(`svd-rank-${rank}`, seed, { gate: GATE, rows: { ...RELEASED, svdRank: rank } })
  }

  /** Variant of the default recipe, routed by rows as trained and by the gate. */
  recipe(name: string, seed: number, variant: (domain: string) => Promise<object>, gate?: GateKind) {
    return this.composition(`${name}${gate === undefined ? '-rows' : '-gate'}`, seed, {
      pairs: { name, variant },
      ...(gate === undefined ? {} : { gate }),
    })
  }

  /** The default composition as serving runs it. */
  async composed(seed: number): Promise<Audited> {
    const { publicModel, lab, owners, zeroRows } = this.#experiment
    const { config } = lab.settings
    const pairs = await this.#experiment.pairs(seed)
    const params = composePairs(config, publicModel, pairs, { ...RELEASED, publicRows: zeroRows })
    const all = await inTurn(lab.text.domains, (domain) => this.#experiment.statistics(domain, GATE))
    return { params, E: owners.length + 1, topK: TOP_K, gate: solveGate(all) }
  }

  /** Mean cosine between learned router rows of two owners, over layers and pairs of owners, by how rows started. */
  async rowCosines(seed: number): Promise<Record<'whitened' | 'random', number>> {
    const random = await inTurn(this.#experiment.owners, async (domain) =>
      this.#experiment.pair(domain, seed, 'random-start', await this.starts.random(domain, seed)),
    )
    const { numHiddenLayers } = this.#experiment.lab.settings.config
    return {
      whitened: meanCosine(await this.#experiment.pairs(seed), numHiddenLayers),
      random: meanCosine(random, numHiddenLayers),
    }
  }

  /** (layers x experts) by set: share of each expert among the chosen. */
  async routing(seed: number, gate: GateKind): Promise<Record<string, number[][]>> {
    const nats = await this.composition('gate', seed, { gate })
    const E = this.#experiment.owners.length + 1
    const { numHiddenLayers } = this.#experiment.lab.settings.config
    return Object.fromEntries(
      this.#experiment.sets.map((set) => {
        const shares = nats.get(`shares ${set}`)?.[0] as Float32Array
        const layers = Array.from({ length: numHiddenLayers }, (_, layer) =>
          Array.from(shares.subarray(layer * E, (layer + 1) * E)),
        )
        return [set, layers]
      }),
    )
  }

  /** Starts of router rows that the ablations compare. */
  get starts() {
    const { lab, publicModel } = this.#experiment
    return {
      random: async (domain: string, seed: number) => ({
        rows: randomRows(lab, seed * 1000 + lab.text.domains.indexOf(domain)),
      }),
      embedder: async (domain: string) => {
        const own = await rowsByEmbedder(lab, domain)
        const shared = await rowsByEmbedder(lab, PUBLIC_DOMAIN)
        return { rows: lessPublic(own, shared) }
      },
      hiddenState: async (domain: string, seed: number) => {
        const own = await hiddenStateRows(lab, publicModel, domain, seed)
        const shared = await hiddenStateRows(lab, publicModel, PUBLIC_DOMAIN, seed)
        return { rows: lessPublic(own, shared) }
      },
    }
  }

  async #denseModels(seed: number): Promise<Params[]> {
    const { publicModel, owners } = this.#experiment
    return [publicModel, ...(await inTurn(owners, (domain) => this.#experiment.dense(domain, seed)))]
  }

  #dense(name: string, model: () => Promise<Params>): Promise<NatsBySet> {
    return this.#experiment.nats(name, async () => ({ params: await model(), E: 1, topK: 1 }), undefined, [
      ...this.#experiment.sets,
      TUNING,
    ])
  }

  /** Of the public model and every dense expert, on one set. */
  async #denseNats(seed: number, set: string): Promise<(readonly Float32Array[])[]> {
    const all = [
      await this.publicModel(),
      ...(await inTurn(this.#experiment.owners, (domain) => this.dense(domain, seed))),
    ]
    return all.map((nats) => nats.get(set) as readonly Float32Array[])
  }

  async #ofDense(
    seed: number,
    combine: (nats: (readonly Float32Array[])[], set: string) => Float32Array[],
  ): Promise<NatsBySet> {
    const out = new Map<string, readonly Float32Array[]>()
    for (const set of this.#experiment.sets) out.set(set, combine(await this.#denseNats(seed, set), set))
    return out
  }
}

/** Softmax sees differences alone, so a public row is taken off instead of carried. */
function lessPublic(own: readonly Float32Array[], shared: readonly Float32Array[]): Float32Array[] {
  return own.map((row, layer) => row.map((x, i) => x - (shared[layer]?.[i] as number)))
}

function meanCosine(pairs: readonly Trainables[], layers: number): number {
  const cosines: number[] = []
  for (let layer = 0; layer < layers; layer++) {
    const rows = pairs.map((pair) => pair.get(routerName(layer)) as Float32Array)
    rows.forEach((a, i) => {
      for (const b of rows.slice(i + 1)) cosines.push(dot(a, b) / Math.sqrt(dot(a, a) * dot(b, b)))
    })
  }
  return cosines.reduce((sum, x) => sum + x, 0) / cosines.length
}

function dot(a: Float32Array, b: Float32Array): number {
  return a.reduce((sum, x, i) => sum + x * (b[i] as number), 0)
}

function withoutBias(params: Params): Params {
  return new Map([...params].filter(([name]) => !name.endsWith('expert_bias')))
}
