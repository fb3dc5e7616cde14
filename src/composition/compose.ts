/**
 * Composition: the public model and the accepted experts as one mixture (FlexOlmo paper, section
 * 3.3.2). Implements protocols/composition. Shared tensors come from our own public model only; nothing is averaged and
 * no weight is copied. Knows no engine, no network and no verdicts: callers pass accepted experts.
 */
import type { AcceptedExpert } from '../acceptance/accepted-experts.ts'
import { type Digest, digestOf } from '../lib/bytes.ts'
import { encodeCanonical } from '../lib/canonical-json.ts'
import type { ModelConfig } from '../model/config.ts'
import { type Gates, gatesOf, type RouterChoice, type RouterKind } from '../model/gates.ts'
import { mixtureParams, type Param, type Params, zeroRows } from '../model/params.ts'
import type { RouterStatistics } from '../model/solved-router.ts'

export interface Composition {
  /** The same for the same public model, experts, top-k and router, in whatever order they came. */
  readonly digest: Digest
  /** Ordered by package id; their index in the mixture is one more. */
  readonly experts: readonly AcceptedExpert[]
  readonly topK: number
  readonly router: RouterKind
  /** Why it does not route by a gate, or who was left out so that it does: a sentence for people. */
  readonly routerNote: string | undefined
  /** With the router `solved`. */
  readonly gates: Gates | undefined
  readonly params: ReadonlyMap<string, Param>
}

export interface ComposeOptions {
  /** Default `auto`. */
  readonly router?: RouterChoice | undefined
  /** Of the public model's own text; without them no gate is solved. */
  readonly publicStatistics?: RouterStatistics | undefined
}

/** As the paper's model of eight experts; rows gate-top-1 to gate-top-7 of scripts/paper/README.md. */
export const DEFAULT_TOP_K = 4

export function compose(
  config: ModelConfig,
  publicModel: { digest: Digest; params: Params },
  accepted: readonly AcceptedExpert[],
  topK: number = DEFAULT_TOP_K,
  options: ComposeOptions = {},
): Composition {
  const { router: choice = 'auto', publicStatistics } = options
  const sorted = [...accepted].sort((a, b) => (a.id < b.id ? -1 : a.id > b.id ? 1 : 0))
  const lacking = sorted.filter(({ expert }) => expert.statistics === undefined)
  const leavesOut = choice === 'solved' && lacking.length < sorted.length && publicStatistics !== undefined
  const experts = leavesOut ? sorted.filter((expert) => !lacking.includes(expert)) : sorted
  for (const [index, expert] of experts.entries()) {
    if (experts[index + 1]?.id === expert.id) throw new RangeError(`expert ${expert.id} is given twice`)
  }
  const k = Math.min(Math.max(1, topK), experts.length + 1)
  const gates =
    choice === 'rows'
      ? undefined
      : gatesOf(
          publicStatistics,
          experts.map(({ expert }) => expert),
        )
  const router = gates === undefined ? 'rows' : 'solved'
  const digest = compositionDigest(
    publicModel.digest,
    experts.map(({ id }) => id),
    k,
    router,
  )
  const params = mixtureParams(
    config,
    publicModel.params,
    zeroRows(config),
    experts.map(({ expert }) => expert),
  )
  const routerNote = choice === 'rows' || sorted.length === 0 ? undefined : noteOf(router, lacking)
  return { digest, experts, topK: k, router, routerNote, gates, params }
}

function noteOf(router: RouterKind, lacking: readonly AcceptedExpert[]): string | undefined {
  const names = lacking.map(({ institution, name }) => `${institution}/${name}`).join(', ')
  if (router === 'solved')
    return lacking.length === 0 ? undefined : `left out without router statistics: ${names}`
  const whose = lacking.length === 0 ? 'the public text' : names
  return `routed by router rows, as router statistics are missing of ${whose}`
}

/**
 * SHA-256 over canonical JSON of the public model's digest, the sorted package ids and top-k, and of the router
 * where it is solved.
 */
export function compositionDigest(
  publicModel: Digest,
  ids: readonly Digest[],
  topK: number,
  router: RouterKind = 'rows',
): Digest {
  const made = { experts: [...ids].sort(), publicModel, topK }
  return digestOf(encodeCanonical(router === 'rows' ? made : { ...made, router }))
}
