/**
 * Baselines without FlexMesh: ensembles and prompt routing, from the nats of the owners' models, and averages of
 * weights (FlexOlmo paper, section 4.3 and appendix A.1). Knows nothing about training.
 */
import type { Param, Params } from '../../src/model/weights.ts'
import type { Scorer } from './scorer.ts'
import { PURE_WINDOW } from './settings.ts'
import { type HeldOutText, PUBLIC_DOMAIN, type Text, type Window } from './text.ts'

/** Nats by model, window and token. */
export type NatsByModel = readonly (readonly Float32Array[])[]

/**
 * BTM: averages probabilities with weights softmax(-L / temperature), where L is a model's sum of nats in the window
 * so far.
 * @returns Nats of every token under the ensemble.
 */
export function ensemble(nats: NatsByModel, temperature: number): Float32Array[] {
  return (nats[0] as readonly Float32Array[]).map((first, w) => {
    const past = new Float64Array(nats.length)
    return first.map((_, t) => {
      const least = Math.min(...past)
      let total = 0
      let probability = 0
      nats.forEach((model, i) => {
        const weight = Math.exp((least - (past[i] as number)) / temperature)
        const value = model[w]?.[t] as number
        total += weight
        probability += weight * Math.exp(-value)
        past[i] = (past[i] as number) + value
      })
      return -Math.log(probability / total)
    })
  })
}

/**
 * Averages the probabilities of the `active` models with the largest weights, the softmax of a gate's logits.
 * @param logits Of every window, (T, models).
 */
export function gatedEnsemble(
  nats: NatsByModel,
  logits: readonly Float32Array[],
  active: number,
): Float32Array[] {
  const E = nats.length
  return (nats[0] as readonly Float32Array[]).map((first, w) => {
    const gate = logits[w] as Float32Array
    return first.map((_, t) => {
      const own = Array.from(gate.subarray(t * E, (t + 1) * E), (logit, e) => ({ logit, e }))
      const chosen = own.sort((a, b) => b.logit - a.logit).slice(0, active)
      const peak = chosen[0]?.logit as number
      let total = 0
      let probability = 0
      for (const { logit, e } of chosen) {
        const weight = Math.exp(logit - peak)
        total += weight
        probability += weight * Math.exp(-(nats[e]?.[w]?.[t] as number))
      }
      return -Math.log(probability / total)
    })
  })
}

/** The mean of two sums of evidence with the same decay: a gate's logits, and each model's log-likelihoods. */
export function withLikelihood(
  nats: NatsByModel,
  logits: readonly Float32Array[],
  decay: number,
): Float32Array[] {
  const E = nats.length
  return logits.map((gate, w) => {
    const past = new Float64Array(E)
    return gate.map((logit, i) => {
      const e = i % E
      const evidence = past[e] as number
      past[e] = decay * evidence + (nats[e]?.[w]?.[Math.floor(i / E)] as number)
      return (logit - evidence) / 2
    })
  })
}

/** The temperature among `candidates` with the fewest nats. */
export function bestTemperature(nats: NatsByModel, candidates: readonly number[]): number {
  const total = (temperature: number): number =>
    ensemble(nats, temperature).reduce((sum, window) => sum + window.reduce((a, b) => a + b, 0), 0)
  return candidates.reduce((best, candidate) => (total(candidate) < total(best) ? candidate : best))
}

/** Added to the number of occurrences of every token, so that an unseen token rules out no domain. */
const SMOOTHING = 0.5

/** Unigram classifier of domains. It needs the text of all owners in one place. */
export class DomainClassifier {
  readonly #domains: readonly string[]
  readonly #logs: readonly Float64Array[]

  constructor(text: Text, vocabSize: number) {
    this.#domains = text.domains
    this.#logs = text.domains.map((domain) => {
      const ids = text.train(domain)
      const counts = new Float64Array(vocabSize).fill(SMOOTHING)
      for (const id of ids) counts[id] = (counts[id] as number) + 1
      const total = ids.length + SMOOTHING * vocabSize
      return counts.map((count) => Math.log(count / total))
    })
  }

  /** Log-likelihood of `ids` in each domain. */
  score(ids: Int32Array): number[] {
    return this.#logs.map((logs) => ids.reduce((sum, id) => sum + (logs[id] as number), 0))
  }

  /** Index of a window's domain, from all of its tokens, while a router sees only those so far. */
  classify(window: Window): number {
    const scores = this.score(window.labels)
    return scores.indexOf(Math.max(...scores))
  }

  get domains(): readonly string[] {
    return this.#domains
  }
}

export function promptRouting(nats: NatsByModel, windows: readonly Window[], classifier: DomainClassifier) {
  return windows.map((window, w) => nats[classifier.classify(window)]?.[w] as Float32Array)
}

/** Number of tokens at the start of a window whose likelihood sets the weights of an average. */
const PROMPT_TOKENS = 64
/** Weight above which the average is replaced by the one model. */
const ALONE = 0.999

/** Averages weights anew for each window, by the softmax of the models' log-likelihoods of its first tokens. */
export async function weightedSoup(
  scorer: Scorer,
  models: readonly Params[],
  nats: NatsByModel,
  { windows }: HeldOutText,
  T: number = PURE_WINDOW,
): Promise<Float32Array[]> {
  const out: Float32Array[] = []
  for (const [w, window] of windows.entries()) {
    const seen = nats.map((model) =>
      (model[w] as Float32Array).subarray(0, PROMPT_TOKENS).reduce((a, b) => a + b, 0),
    )
    const least = Math.min(...seen)
    const raw = seen.map((value) => Math.exp(least - value))
    const total = raw.reduce((a, b) => a + b, 0)
    const weights = raw.map((value) => value / total)
    const alone = weights.findIndex((weight) => weight > ALONE)
    if (alone >= 0) out.push(nats[alone]?.[w] as Float32Array)
    else {
      const params = soup(models, weights)
      const scored = await scorer.score({ params, E: 1, topK: 1 }, [window], T)
      out.push(scored.nats[0] as Float32Array)
    }
  }
  return out
}

/** The weighted mean of every parameter (a model soup). */
export function soup(models: readonly Params[], weights: readonly number[]): Params {
  const mean = new Map<string, Param>()
  for (const [name, { shape, data }] of models[0] as Params) {
    const sum = new Float32Array(data.length)
    models.forEach((model, i) => {
      const weight = weights[i] as number
      if (weight === 0) return
      const values = model.get(name)?.data as Float32Array
      for (let at = 0; at < sum.length; at++) sum[at] = (sum[at] as number) + weight * (values[at] as number)
    })
    mean.set(name, { shape, data: sum })
  }
  return mean
}

/**
 * Public text that resembles an owner's (FlexOlmo paper, section 3.3.3): the `count` windows of `length` public tokens
 * for which the classifier prefers the owner's domain most, in that order, as one array of ids.
 */
export function proxyText(
  text: Text,
  classifier: DomainClassifier,
  domain: string,
  length: number,
  count: number,
): Int32Array {
  const ids = text.train(PUBLIC_DOMAIN)
  const own = classifier.domains.indexOf(domain)
  const shared = classifier.domains.indexOf(PUBLIC_DOMAIN)
  const scored = Array.from({ length: Math.floor(ids.length / length) }, (_, i) => {
    const window = ids.subarray(i * length, (i + 1) * length)
    const scores = classifier.score(window)
    return { window, score: (scores[own] as number) - (scores[shared] as number) }
  })
  scored.sort((a, b) => b.score - a.score)
  const out = new Int32Array(count * length)
  scored.slice(0, count).forEach(({ window }, i) => {
    out.set(window, i * length)
  })
  return out
}
