/** Logit processors of the OpenAI API: a bias for single tokens, and penalties for tokens that an answer already has. */
import type { LogitProcessor } from './logit-processor.ts'

/** The changes of logits that a request asks for. */
export interface LogitChanges extends Penalties {
  /** Added to the logits of some tokens, by id. */
  readonly bias: ReadonlyMap<number, number>
}

export interface Penalties {
  /** Subtracted once from the logit of every token that the answer has. */
  readonly presence: number
  /** Subtracted from the logit of a token as many times as the answer has it. */
  readonly frequency: number
}

/** New processors for one answer; none if nothing changes. */
export function logitProcessors({ bias, presence, frequency }: LogitChanges): LogitProcessor[] {
  const processors: LogitProcessor[] = []
  if (presence !== 0 || frequency !== 0) processors.push(penalizeRepetition({ presence, frequency }))
  if (bias.size > 0) processors.push(biasTokens(bias))
  return processors
}

/** Adds a fixed number to the logits of some tokens. @param bias by token id, each less than the vocabulary */
export function biasTokens(bias: ReadonlyMap<number, number>): LogitProcessor {
  return {
    apply: (logits) => {
      for (const [token, added] of bias) logits[token] = (logits[token] as number) + added
    },
    observe: () => undefined,
  }
}

/** Penalizes the tokens of the answer so far; tokens of the prompt do not count. Negative penalties favour repetition. */
export function penalizeRepetition({ presence, frequency }: Penalties): LogitProcessor {
  const counts = new Map<number, number>()
  return {
    apply: (logits) => {
      for (const [token, count] of counts)
        logits[token] = (logits[token] as number) - presence - frequency * count
    },
    observe: (token) => void counts.set(token, (counts.get(token) ?? 0) + 1),
  }
}
