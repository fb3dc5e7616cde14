/**
 * Composition: the public model and the accepted experts as one mixture (flexolmo 4). Implements
 * protocols/composition. Shared tensors come from our own public model only; nothing is averaged and
 * no weight is copied. Knows no engine, no network and no verdicts: callers pass accepted experts.
 */
import { type Digest, digestOf } from '../lib/bytes.ts'
import { encodeCanonical } from '../lib/canonical-json.ts'
import { InputError } from '../lib/errors.ts'
import type { ModelConfig } from '../model/config.ts'
import { type Gates, gatesOf, type RouterChoice, type RouterKind } from '../model/gates.ts'
import { type Expert, mixtureParams, type Param, type Params, zeroRows } from '../model/params.ts'
import { LEFT_OUT } from '../model/router.ts'
import type { SequenceRouting } from '../model/routing-plan.ts'
import type { RouterStatistics } from '../model/solved-router.ts'

export interface AcceptedExpert {
  /** Package id. */
  readonly id: Digest
  readonly name: string
  readonly institution: string
  readonly peerId: string
  readonly expert: Expert
}

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

export interface Selection {
  /** Only these guests, by package id, package id prefix, expert name or institution. */
  readonly include?: readonly string[] | undefined
  /** Never these; wins over include. */
  readonly exclude?: readonly string[] | undefined
}

/**
 * Router mask [E] of a selection: 0 in use, LEFT_OUT not. The public expert is always in use.
 * @throws InputError `not-found` when a name matches no expert of the composition.
 */
export function selectionMask(composition: Pick<Composition, 'experts'>, selection: Selection): Float32Array {
  const mask = new Float32Array(composition.experts.length + 1)
  const find = (name: string): number[] => {
    const found = composition.experts.flatMap((expert, index) => (isNamed(expert, name) ? [index + 1] : []))
    if (found.length === 0) {
      const known = composition.experts.map((expert) => expert.institution).join(', ')
      throw new InputError(
        'not-found',
        `experts: "${name}" matches no expert of this composition; it has: ${known || 'none'}`,
      )
    }
    return found
  }
  if (selection.include !== undefined) {
    mask.fill(LEFT_OUT, 1)
    for (const name of selection.include) for (const index of find(name)) mask[index] = 0
  }
  for (const name of selection.exclude ?? []) for (const index of find(name)) mask[index] = LEFT_OUT
  return mask
}

/**
 * What a request with this selection routes by: an expert left out is as one that was never composed.
 * @throws InputError `not-found` as `selectionMask`.
 */
export function selectionRouting(composition: Composition, selection: Selection): SequenceRouting {
  const mask = selectionMask(composition, selection)
  return { mask, gate: composition.gates?.gate(mask) }
}

/** Whether a name of a selection means this expert. */
export function isNamed(expert: Pick<AcceptedExpert, 'id' | 'name' | 'institution'>, name: string): boolean {
  const hex = name.startsWith('sha256:') ? name : `sha256:${name}`
  return (
    expert.institution === name ||
    expert.name === name ||
    (hex.length >= 'sha256:'.length + 8 && expert.id.startsWith(hex))
  )
}
