/**
 * Who carried an answer: the labels of a mixture's experts, and their shares of the routing weight. An answer is
 * attributed by the composition that made it, never by the one in use when somebody asks. Knows no HTTP.
 */
import type { Composition } from './compose.ts'

export interface ExpertLabel {
  readonly institution: string
  readonly expert: string
}

/** Label of expert 0 of every mixture. */
export const PUBLIC_LABEL: ExpertLabel = { institution: 'public model', expert: 'public' }

/** Labels in the order of the mixture, public model first. */
export function expertLabels({ experts }: Pick<Composition, 'experts'>): ExpertLabel[] {
  return [PUBLIC_LABEL, ...experts.map(({ institution, name }) => ({ institution, expert: name }))]
}

/** Routing weights of an answer's tokens, added up: one sum for each expert of the mixture. */
export class ShareTally {
  readonly #sums: Float64Array

  /** @param experts experts of the mixture, the public one included. */
  constructor(experts: number) {
    this.#sums = new Float64Array(experts)
  }

  /** @param weights [experts], of one token. */
  add(weights: Float32Array): void {
    weights.forEach((weight, e) => {
      this.#sums[e] = (this.#sums[e] as number) + weight
    })
  }

  /** Shares of the whole answer; they sum to 1, or are all 0 before the first token. */
  shares(): number[] {
    const total = this.#sums.reduce((a, b) => a + b, 0)
    return Array.from(this.#sums, (sum) => (total === 0 ? 0 : sum / total))
  }
}
