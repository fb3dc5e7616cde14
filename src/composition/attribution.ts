/**
 * Who carried an answer: labels of the experts of a mixture, and their shares of the routing weight. An answer is
 * attributed with the composition that computed it, which may no longer be the one that is served. Knows nothing about
 * HTTP.
 */
import type { Digest } from '../lib/bytes.ts'
import type { PrivacyStatement } from '../packaging/manifest-privacy.ts'

export interface ExpertLabel {
  readonly institution: string
  readonly expert: string
}

/** A label with the package, and with what its publisher states about privacy; undefined if it states nothing. */
export interface StatedExpert extends ExpertLabel {
  /** Package id; undefined for the public model. */
  readonly package?: Digest
  readonly privacy?: PrivacyStatement
}

/** Label of expert 0 of every mixture. */
export const PUBLIC_LABEL: ExpertLabel = { institution: 'public model', expert: 'public' }

/** An expert of a composition, or of a composition file. */
interface NamedExpert {
  readonly id: Digest
  readonly institution: string
  readonly name: string
  readonly privacy?: PrivacyStatement
}

/** Labels in the order of the mixture, public model first. @param experts those of the composition, in its order */
export function expertLabels({
  experts,
}: {
  readonly experts: readonly Pick<NamedExpert, 'institution' | 'name'>[]
}): ExpertLabel[] {
  return [PUBLIC_LABEL, ...experts.map(({ institution, name }) => ({ institution, expert: name }))]
}

/** Names for people: the institution, with the expert if the institution has several of these. */
export function shortNames(experts: readonly ExpertLabel[]): string[] {
  return experts.map(({ institution, expert }) =>
    experts.filter((other) => other.institution === institution).length > 1
      ? `${institution}/${expert}`
      : institution,
  )
}

/** `expertLabels` with what each publisher states about privacy. */
export function statedExperts({ experts }: { readonly experts: readonly NamedExpert[] }): StatedExpert[] {
  return [
    PUBLIC_LABEL,
    ...experts.map(({ id, institution, name, privacy }) => ({
      institution,
      expert: name,
      package: id,
      ...(privacy === undefined ? {} : { privacy }),
    })),
  ]
}

/** Sum of the routing weights of an answer's tokens, for each expert of the mixture. */
export class ShareTally {
  readonly #sums: Float64Array

  /** @param experts number of experts of the mixture (E), the public one included */
  constructor(experts: number) {
    this.#sums = new Float64Array(experts)
  }

  /** @param weights routing weights [E] of one token */
  add(weights: Float32Array): void {
    weights.forEach((weight, e) => {
      this.#sums[e] = (this.#sums[e] as number) + weight
    })
  }

  /** Shares [E] of the whole answer. They sum to 1, but are all 0 before the first token. */
  shares(): number[] {
    const total = this.#sums.reduce((a, b) => a + b, 0)
    return Array.from(this.#sums, (sum) => (total === 0 ? 0 : sum / total))
  }
}
