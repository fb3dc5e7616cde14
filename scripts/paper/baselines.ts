/**
 * What owners could do without FlexMesh, from the nats of their models alone: ensembles, prompt routing and
 * soups of weights (FlexOlmo paper, section 4.3 and appendix A.1). Knows no training.
 */
import type { Param, Params } from '../../src/model/params.ts'
import type { Scorer } from './scorer.ts'
import { PURE_WINDOW } from './settings.ts'
import { type HeldOutText, PUBLIC_DOMAIN, type Text, type Window } from './text.ts'

/** Nats of every token of every window, model by model. */
export type NatsByModel = readonly (readonly Float32Array[])[]

/**
 * BTM: probabilities averaged with weights softmax(-L / temperature), L a model's nats of the window so far.
 * @returns nats of every token under the ensemble.
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
 * Probabilities averaged over the `active` models of most weight, weights the softmax of a gate's logits.
 * @param logits (T, models) of every window
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

/** Half of the evidence of tokens, half of how well each model foretold them, both forgetting alike. */
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

/** The temperature among `candidates` that gives the fewest nats. */
export function bestTemperature(nats: NatsByModel, candidates: readonly number[]): number {
  const total = (temperature: number): number =>
    ensemble(nats, temperature).reduce((sum, window) => sum + window.reduce((a, b) => a + b, 0), 0)
  return candidates.reduce((best, candidate) => (total(candidate) < total(best) ? candidate : best))
}

/** Occurrences added to every token, so that an unseen one rules nothing out. */
const SMOOTHING = 0.5

/** Log-probability of every token in every domain's training text. It needs all owners' text in one place. */
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

  /** Index of the domain of a window, by all of its tokens: more than a router that answers may see. */
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

/** Tokens of a window by whose likelihood a soup is weighted: what the models know before they answer. */
const PROMPT_TOKENS = 64
/** A weight so near to one that the soup is that model. */
const ALONE = 0.999

/** Soup weighted per window: softmax of the models' log-likelihoods of its first tokens. */
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

/** Weighted mean of every parameter. */
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
 * Public text that looks like an owner's (FlexOlmo paper, section 3.3.3): the windows of T + 1 public tokens that the
 * classifier prefers the owner's domain for, most first, as one array of ids.
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
