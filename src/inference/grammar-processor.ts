/** Keeps an answer within a grammar: forbids every token that the grammar does not allow next. Knows nothing about JSON. */
import type { Grammar } from '../grammar/grammar.ts'
import type { LogitProcessor } from './logit-processor.ts'

/** A new processor for one answer. The last of its processors, so that no bias of the others allows a token again. */
export function followGrammar(grammar: Grammar): LogitProcessor {
  let state = grammar.start()
  return {
    apply: (logits) => {
      const mask = grammar.mask(state)
      for (let from = 0; from < logits.length; from += 32) {
        const word = mask[from >>> 5] ?? 0
        const end = Math.min(from + 32, logits.length)
        if (word === 0) logits.fill(Number.NEGATIVE_INFINITY, from, end)
        else
          for (let token = from; token < end; token++)
            if (((word >>> (token & 31)) & 1) === 0) logits[token] = Number.NEGATIVE_INFINITY
      }
    },
    observe: (token) => {
      // After the end of the text there is nothing to follow.
      state = grammar.after(state, token) ?? state
    },
  }
}
