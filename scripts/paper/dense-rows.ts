/**
 * The rows of the table that combine dense models, each trained apart on one owner's text: averages of weights,
 * ensembles, prompt routing, and mixtures with their FFNs. A row is bits per byte by set, for one seed. Knows nothing
 * about output.
 */
import type { Params } from '../../src/model/weights.ts'
import { bestTemperature, ensemble, promptRouting, soup, weightedSoup } from './baselines.ts'
import { type Experiment, inTurn, type NatsBySet, parted, TUNING } from './experiment.ts'
import { hiddenStateRows, randomRows } from './starts.ts'
import { PUBLIC_DOMAIN } from './text.ts'
import { mixtureOfDense, trainMixture } from './trainings.ts'

/** Number of experts active for a token, as by default in the product. */
export const TOP_K = 4
/** Candidates for the temperature of the BTM ensemble; the best on held-out public text is used. */
export const TEMPERATURES = [0.1, 0.3, 1, 3, 10, 30]

export class DenseRows {
  readonly #experiment: Experiment

  constructor(experiment: Experiment) {
    this.#experiment = experiment
  }

  publicModel(): Promise<NatsBySet> {
    return this.#dense('public', () => Promise.resolve(this.#experiment.publicModel))
  }

  dense(domain: string, seed: number): Promise<NatsBySet> {
    return this.#dense(`dense-${domain}-s${seed}`, () => this.#experiment.dense(domain, seed))
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

  /** @returns Nats, and the temperature tuned on held-out public text. */
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

  /** BTX: dense FFNs as experts, all other weights averaged, then everything trained on public text. */
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

  /** A sparse mixture upcycled from the public model and trained on the text of all owners, which nobody may pool. */
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
        // As many tokens as all owners spend together, in batches twice as large.
        training: {
          ...denseTraining,
          B: 2 * denseTraining.B,
          steps: Math.round((share * owners.length * denseTraining.steps) / 2),
        },
      })
      return { params, E: models.length, topK: TOP_K }
    })
  }

  /** Dense FFNs in the public trunk with router rows at their start values, so that no training is coordinated. */
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

  /** Nats of the public model and every dense expert on one set. */
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
