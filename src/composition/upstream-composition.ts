/**
 * The composition that another server computes for this node, if it stands in front of one. Knows nothing about that
 * server.
 */
import type { Digest } from '../lib/bytes.ts'
import type { CompositionFile } from './composition-file.ts'

export class UpstreamComposition {
  #served: CompositionFile | undefined

  /** The other server computes answers with this composition from now on. */
  set(served: CompositionFile): void {
    this.#served = served
  }

  /**
   * The digest of the composition if it contains one of these packages and answers now, which it does while this node
   * uses all of its experts.
   */
  answersWith(ids: readonly Digest[], isInUse: (id: Digest) => boolean): Digest | undefined {
    const experts = this.#served?.experts ?? []
    const contains = experts.some(({ id }) => ids.includes(id))
    return contains && experts.every(({ id }) => isInUse(id)) ? this.#served?.composition : undefined
  }
}
