/**
 * Log-probabilities of tokens, from the logits of the model before any processor, temperature or nucleus changes them.
 * Does not know tokens beyond their ids.
 */

export interface LikelyToken {
  readonly id: number
  /** Natural logarithm of its probability. */
  readonly logprob: number
}

/** A token, and the most likely tokens in its place. */
export interface TokenScore extends LikelyToken {
  /** Most likely first. Among equally likely tokens, the lower id comes first. */
  readonly top: readonly LikelyToken[]
}

/** What is known of a prompt when it has been read. */
export interface PromptReport {
  /** Number of its tokens whose keys and values were still known from earlier prompts. */
  readonly cachedTokens: number
  /** Log-probabilities of the tokens after the first, if the request asks for them. */
  readonly scores?: readonly TokenScore[]
}

/** @param logits (V) in the place of the token. @param top number of the most likely tokens to list */
export function scoreToken(logits: Float32Array, id: number, top: number): TokenScore {
  const total = logTotal(logits)
  const scored = (token: number): LikelyToken => ({
    id: token,
    logprob: (logits[token] as number) - total,
  })
  return { ...scored(id), top: mostLikely(logits, top).map(scored) }
}

/** Negative log-likelihood of a token, in nats. @param logits (V) in its place */
export function negativeLogLikelihood(logits: Float32Array, token: number): number {
  return logTotal(logits) - (logits[token] as number)
}

/** Logarithm of the sum of the exponentials, without overflow. */
function logTotal(logits: Float32Array): number {
  let peak = Number.NEGATIVE_INFINITY
  for (let i = 0; i < logits.length; i++) peak = Math.max(peak, logits[i] as number)
  let total = 0
  for (let i = 0; i < logits.length; i++) total += Math.exp((logits[i] as number) - peak)
  return peak + Math.log(total)
}

/** Ids of the `count` largest logits, the largest first. */
function mostLikely(logits: Float32Array, count: number): number[] {
  const best: number[] = []
  if (count === 0) return best
  const logitOf = (id: number | undefined): number =>
    id === undefined ? Number.NEGATIVE_INFINITY : (logits[id] as number)
  for (let id = 0; id < logits.length; id++) {
    if (best.length === count && logitOf(id) <= logitOf(best[count - 1])) continue
    let at = best.length
    while (at > 0 && logitOf(best[at - 1]) < logitOf(id)) at--
    best.splice(at, 0, id)
    if (best.length > count) best.pop()
  }
  return best
}
