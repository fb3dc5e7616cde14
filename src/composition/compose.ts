/**
 * Composes the public model and accepted experts into one mixture (FlexOlmo paper, section 3.3.2). Implements
 * protocols/composition. Shared tensors come from this node's copy of the public model only. Nothing is averaged and no
 * weight is copied. Knows nothing about engines, the network and verdicts: callers pass experts that were accepted.
 */
import type { AcceptedExpert } from '../acceptance/accepted-experts.ts'
import { type Digest, digestOf } from '../lib/bytes.ts'
import { encodeCanonical } from '../lib/canonical-json.ts'
import type { ModelConfig } from '../model/config.ts'
import { Gates, type RouterChoice, type RouterKind, routingOf, statisticsOf } from '../model/gates.ts'
import { mixtureWeights, zeroRows } from '../model/params.ts'
import type { RouterStatistics } from '../model/solved-router.ts'
import type { WeightMap } from '../model/weights.ts'

export interface Composition {
  /** Equal for equal public model, experts, top-k and router, whatever the order of the experts was. */
  readonly digest: Digest
  /** In ascending order of package ids. The expert at index i is expert i + 1 of the mixture. */
  readonly experts: readonly AcceptedExpert[]
  readonly topK: number
  readonly router: RouterKind
  /** For people: why it routes by rows although a gate was asked for, or which experts have no part in the gate. */
  readonly routerNote: string | undefined
  /** Set if the router is `solved`. */
  readonly gates: Gates | undefined
  /** Weights of the mixture; see `mixtureWeights`. */
  readonly weights: WeightMap
}

export interface ComposeOptions {
  /** Default `auto`. */
  readonly router?: RouterChoice | undefined
  /** Router statistics of the public model's text. Without them no gate is solved. */
  readonly publicStatistics?: RouterStatistics | undefined
}

/**
 * The top-k of the paper's model of eight experts. Rows gate-top-1 to gate-top-7 of scripts/paper/README.md compare
 * others.
 */
export const DEFAULT_TOP_K = 4

/**
 * @param accepted in any order
 * @param topK maximum number of experts that are active for a token; reduced to the size of the mixture
 * @throws RangeError for an expert that is given twice: a bug of the caller.
 */
export function compose(
  config: ModelConfig,
  publicModel: { digest: Digest; weights: WeightMap },
  accepted: readonly AcceptedExpert[],
  topK: number = DEFAULT_TOP_K,
  options: ComposeOptions = {},
): Composition {
  const { router: choice = 'auto', publicStatistics } = options
  const sorted = [...accepted].sort((a, b) => (a.id < b.id ? -1 : a.id > b.id ? 1 : 0))
  const { router, used } = routingOf(
    choice,
    publicStatistics,
    sorted.map(({ expert }) => expert),
  )
  const experts = sorted.filter((_, i) => used[i])
  for (const [index, expert] of experts.entries()) {
    if (experts[index + 1]?.id === expert.id) throw new RangeError(`expert ${expert.id} is given twice`)
  }
  const k = Math.min(Math.max(1, topK), experts.length + 1)
  const members = experts.map(({ expert }) => expert)
  const gates = router === 'rows' ? undefined : new Gates(statisticsOf(publicStatistics, members))
  const digest = compositionDigest(
    publicModel.digest,
    experts.map(({ id }) => id),
    k,
    router,
  )
  const weights = mixtureWeights(config, publicModel.weights, zeroRows(config), members)
  const routerNote = noteOf(choice, router, sorted)
  return { digest, experts, topK: k, router, routerNote, gates, weights }
}

function noteOf(
  choice: RouterChoice,
  router: RouterKind,
  accepted: readonly AcceptedExpert[],
): string | undefined {
  if (choice === 'rows' || accepted.length === 0) return undefined
  const lacking = accepted.filter(({ expert }) => expert.statistics === undefined)
  const names = lacking.map(({ institution, name }) => `${institution}/${name}`).join(', ')
  if (router === 'rows') {
    const whose = lacking.length === accepted.length ? names : 'the public text'
    return `routed by router rows, because there are no router statistics of ${whose}`
  }
  if (lacking.length === 0) return undefined
  return choice === 'solved'
    ? `left out because they have no router statistics: ${names}`
    : `routed by their router rows alone, because they have no router statistics: ${names}; --router solved leaves them out`
}

/**
 * SHA-256 of the canonical JSON of the public model's digest, the sorted package ids, top-k and, if it is `solved`, the
 * router. Implements protocols/composition, section "Digest".
 */
export function compositionDigest(
  publicModel: Digest,
  ids: readonly Digest[],
  topK: number,
  router: RouterKind = 'rows',
): Digest {
  const parts = { experts: [...ids].sort(), publicModel, topK }
  return digestOf(encodeCanonical(router === 'rows' ? parts : { ...parts, router }))
}
