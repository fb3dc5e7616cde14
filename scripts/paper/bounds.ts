/**
 * Rows that show what limits a composition: every text scored by its own model, models of which only some parameters
 * were trained, pairs combined in the ways of dense models, and one dense model trained on the text of all owners.
 * Knows nothing about output.
 */
import type { Params } from '../../src/model/weights.ts'
import { bestTemperature, ensemble, gatedEnsemble, promptRouting, withLikelihood } from './baselines.ts'
import { type DenseRows, TEMPERATURES } from './dense-rows.ts'
import { type Experiment, inTurn, MIXED, type NatsBySet, TUNING } from './experiment.ts'
import { GATE, type Rows } from './rows.ts'
import { PUBLIC_DOMAIN } from './text.ts'
import { trainDense } from './trainings.ts'

/** The parameters of a dense model that an owner trains; an expert brings FFNs only. */
const PARTS = {
  ffn: /mlp/,
  'ffn-attention': /mlp|self_attn/,
  'ffn-embedding': /mlp|embed_tokens/,
  'ffn-head': /mlp|lm_head/,
}
export type Part = keyof typeof PARTS

export class Bounds {
  readonly #experiment: Experiment
  readonly #rows: Rows
  readonly #dense: DenseRows

  constructor(experiment: Experiment, rows: Rows, dense: DenseRows) {
    this.#experiment = experiment
    this.#rows = rows
    this.#dense = dense
  }

  ownDense(seed: number): Promise<NatsBySet> {
    return this.#own((domain) => this.#dense.dense(domain, seed))
  }

  ownPair(seed: number): Promise<NatsBySet> {
    return this.#own((domain) => this.#rows.pair(domain, seed))
  }

  /** A dense fine-tune on own text that trains only a part of the parameters. */
  ownPart(part: Part, seed: number): Promise<NatsBySet> {
    const { lab, publicModel } = this.#experiment
    const { expertTraining, denseTraining } = lab.settings
    return this.#own((domain) => {
      const name = `part-${part}-${domain}-s${seed}`
      const model = (): Promise<Params> =>
        trainDense(lab, publicModel, {
          name,
          sources: [lab.text.train(domain)],
          seed,
          training: part === 'ffn' ? expertTraining : denseTraining,
          moves: (parameter) => PARTS[part].test(parameter),
        })
      return this.#experiment.nats(name, async () => ({ params: await model(), E: 1, topK: 1 }), undefined, [
        domain,
      ])
    })
  }

  /** The BTM ensemble of the public model and every pair. */
  async btmOfPairs(seed: number): Promise<NatsBySet> {
    const tuning = await this.#pairNats(seed, TUNING)
    const temperature = bestTemperature(tuning, TEMPERATURES)
    return this.#bySet(async (set) => ensemble(await this.#pairNats(seed, set), temperature))
  }

  promptRoutingOfPairs(seed: number): Promise<NatsBySet> {
    const { classifier } = this.#experiment
    return this.#bySet(async (set) =>
      promptRouting(await this.#pairNats(seed, set), this.#experiment.heldOut(set).windows, classifier),
    )
  }

  /**
   * Dense models behind the product's gate: those of `active` owners predict each token together. The gate uses the
   * tokens, or also every model's likelihoods, for which all models have to run.
   */
  gatedDense(seed: number, active: number, by: 'tokens' | 'likelihood' = 'tokens'): Promise<NatsBySet> {
    const { owners } = this.#experiment
    const present = [0, ...owners.map((_, i) => i + 1)]
    return this.#bySet(async (set) => {
      const all = [
        await this.#dense.publicModel(),
        ...(await inTurn(owners, (owner) => this.#dense.dense(owner, seed))),
      ]
      const nats = all.map((bySet) => bySet.get(set) as readonly Float32Array[])
      const logitsOf = await this.#experiment.gate(GATE, set, present)
      const logits = this.#experiment.heldOut(set).windows.map(logitsOf)
      return gatedEnsemble(nats, by === 'tokens' ? logits : withLikelihood(nats, logits, GATE.decay), active)
    })
  }

  /** The public model trained further on the text of all owners, for as many tokens as they spend together. */
  continued(seed: number): Promise<NatsBySet> {
    const { lab, publicModel, owners } = this.#experiment
    const { denseTraining } = lab.settings
    return this.#experiment.nats(`continued-s${seed}`, async () => {
      const params = await trainDense(lab, publicModel, {
        name: `continued-s${seed}`,
        sources: lab.text.domains.map((domain) => lab.text.train(domain)),
        seed,
        training: {
          ...denseTraining,
          B: 2 * denseTraining.B,
          steps: Math.round((owners.length * denseTraining.steps) / 2),
        },
      })
      return { params, E: 1, topK: 1 }
    })
  }

  async #own(answers: (owner: string) => Promise<NatsBySet>): Promise<NatsBySet> {
    return this.#bySet(
      async (set) => {
        const nats = set === PUBLIC_DOMAIN ? await this.#dense.publicModel() : await answers(set)
        return nats.get(set) as readonly Float32Array[]
      },
      this.#experiment.sets.filter((set) => set !== MIXED),
    )
  }

  async #pairNats(seed: number, set: string): Promise<(readonly Float32Array[])[]> {
    const { owners } = this.#experiment
    const all = [
      await this.#dense.publicModel(),
      ...(await inTurn(owners, (owner) =>
        set === TUNING ? this.#rows.pairOnTuning(owner, seed) : this.#rows.pair(owner, seed),
      )),
    ]
    return all.map((nats) => nats.get(set) as readonly Float32Array[])
  }

  async #bySet(
    answer: (set: string) => Promise<readonly Float32Array[]>,
    sets: readonly string[] = this.#experiment.sets,
  ): Promise<NatsBySet> {
    const out = new Map<string, readonly Float32Array[]>()
    for (const set of sets) out.set(set, await answer(set))
    return out
  }
}
