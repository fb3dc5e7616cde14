/**
 * The rows of the table that combine pairs: what each trains and how it routes. A row is bits per byte by set, for one
 * seed. Knows nothing about output.
 */
import { routerName } from '../../src/lib/tensor-names.ts'
import { GATE_CALIBRATION, GATE_DECAY, solveGate } from '../../src/model/solved-router.ts'
import type { Params } from '../../src/model/weights.ts'
import type { Trainables } from '../../src/training/pair.ts'
import { STATISTICS_DOCUMENTS } from '../../src/training/router-statistics.ts'
import type { Audited } from './audited.ts'
import { proxyText } from './baselines.ts'
import { composePairs, type RowsInit } from './compositions.ts'
import { TOP_K } from './dense-rows.ts'
import { rowsByEmbedder } from './embedder.ts'
import { type Experiment, inTurn, type NatsBySet, TUNING } from './experiment.ts'
import type { GateKind, TokenGateKind } from './routers.ts'
import { hiddenStateRows, randomRows } from './starts.ts'
import { PUBLIC_DOMAIN } from './text.ts'
import { trainMixture } from './trainings.ts'

/** The product's gate. */
export const GATE: TokenGateKind = {
  solver: 'tokens',
  decay: GATE_DECAY,
  documents: STATISTICS_DOCUMENTS,
  ...GATE_CALIBRATION,
}
/** Rows as trained, with their bias. */
const ROWS: Omit<RowsInit, 'publicRows'> = { scale: 1, bias: 'carried', shift: 0 }
/** Rows as the product publishes them: lowered by two (RELEASE_BIAS in training/pair.ts). */
const RELEASED = { ...ROWS, shift: -2 }

export class Rows {
  readonly #experiment: Experiment

  /** Whether the sentence embedder is installed. */
  readonly hasEmbedder: boolean

  constructor(experiment: Experiment, hasEmbedder: boolean) {
    this.#experiment = experiment
    this.hasEmbedder = hasEmbedder
  }

  /** One expert and the public model, both always active. */
  pair(domain: string, seed: number): Promise<NatsBySet> {
    return this.#experiment.nats(`pair-${domain}-s${seed}`, () => this.#pairModel(domain, seed))
  }

  /** The same pair on the tuning set. */
  pairOnTuning(domain: string, seed: number): Promise<NatsBySet> {
    const name = `pair-tuning-${domain}-s${seed}`
    return this.#experiment.nats(name, () => this.#pairModel(domain, seed), undefined, [TUNING])
  }

  async #pairModel(domain: string, seed: number) {
    const { config } = this.#experiment.lab.settings
    const pair = await this.#experiment.pair(domain, seed, 'pair')
    const { publicModel, zeroRows } = this.#experiment
    const params = await composePairs(config, publicModel, [pair], { ...ROWS, publicRows: zeroRows })
    return { params, E: 2, topK: 2 }
  }

  /** The composition of all owners' pairs of one recipe. */
  composition(
    name: string,
    seed: number,
    options: {
      readonly pairs?: { readonly name: string; readonly variant: (domain: string) => Promise<object> }
      readonly rows?: Omit<RowsInit, 'publicRows'>
      readonly publicRows?: () => Promise<readonly Float32Array[]>
      readonly gate?: GateKind
      readonly topK?: number
      /** Indexes of the experts in use, public first; all by default. */
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
          params: await composePairs(lab.settings.config, publicModel, pairs, { ...rows, publicRows }),
          E,
          topK: options.topK ?? TOP_K,
        }
      },
      gate && ((set) => this.#experiment.gate(gate, set, present)),
    )
  }

  /** The paper's recipe: trained on own text only, embeddings as rows, with the learned bias, without statistics. */
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

  /** The paper's recipe with its kind of rows, by an embedder that was trained to distinguish texts. */
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

  /** Router rows tuned on public text that looks like the owners' (FlexOlmo paper 3.3.3); with or without the gate. */
  routerTuned(seed: number, gate?: GateKind): Promise<NatsBySet> {
    const { lab, publicModel, owners, zeroRows, classifier } = this.#experiment
    const { config, expertTraining } = lab.settings
    const E = owners.length + 1
    return this.#experiment.nats(
      `router-tuned${gate === undefined ? '' : '-gate'}-s${seed}`,
      async () => {
        const pairs = await this.#experiment.pairs(seed)
        const start = withoutBias(
          await composePairs(config, publicModel, pairs, { ...ROWS, publicRows: zeroRows }),
        )
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

  /** The default composition, with every expert cut to a rank. */
  cut(rank: number, seed: number): Promise<NatsBySet> {
    return this.composition(`svd-rank-${rank}`, seed, { gate: GATE, rows: { ...RELEASED, svdRank: rank } })
  }

  /** The composition of a variant of the default recipe, routed by rows, or also by a gate. */
  recipe(name: string, seed: number, variant: (domain: string) => Promise<object>, gate?: GateKind) {
    return this.composition(`${name}${gate === undefined ? '-rows' : '-gate'}`, seed, {
      pairs: { name, variant },
      ...(gate === undefined ? {} : { gate }),
    })
  }

  /** The default composition, as serving runs it. */
  async composed(seed: number): Promise<Audited> {
    const { publicModel, lab, owners, zeroRows } = this.#experiment
    const { config } = lab.settings
    const pairs = await this.#experiment.pairs(seed)
    const params = await composePairs(config, publicModel, pairs, { ...RELEASED, publicRows: zeroRows })
    const all = await inTurn(lab.text.domains, (domain) => this.#experiment.statistics(domain, GATE))
    return { params, E: owners.length + 1, topK: TOP_K, gate: solveGate(all) }
  }

  /** Mean cosine between the learned router rows of two owners, over layers and pairs of owners, by kind of start. */
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

  /** Share of each expert among the chosen ones, (layers, experts) by set. */
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

  /** The starts of router rows that the ablations compare. */
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
}

/** Subtracts the public row, which is equivalent to keeping it, since softmax depends only on differences. */
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
