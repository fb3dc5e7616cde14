/**
 * Composition: the public model and the accepted experts as one mixture (flexolmo 4). Implements
 * protocols/composition. Shared tensors come from our own public model only; nothing is averaged and
 * no weight is copied. Knows no engine, no network and no verdicts: callers pass accepted experts.
 */
import { type Digest, digestOf } from '../lib/bytes.ts'
import { encodeCanonical } from '../lib/canonical-json.ts'
import { InputError } from '../lib/errors.ts'
import type { ModelConfig } from '../model/config.ts'
import { type Expert, mixtureParams, type Param, type Params, zeroRows } from '../model/params.ts'
import { LEFT_OUT } from '../model/router.ts'

export interface AcceptedExpert {
  /** Package id. */
  readonly id: Digest
  readonly name: string
  readonly institution: string
  readonly peerId: string
  readonly expert: Expert
}

export interface Composition {
  /** The same for the same public model, experts and top-k, in whatever order they came. */
  readonly digest: Digest
  /** Ordered by package id; their index in the mixture is one more. */
  readonly experts: readonly AcceptedExpert[]
  readonly topK: number
  readonly params: ReadonlyMap<string, Param>
}

/** As the paper's model of eight experts. */
export const DEFAULT_TOP_K = 4

export function compose(
  config: ModelConfig,
  publicModel: { digest: Digest; params: Params },
  accepted: readonly AcceptedExpert[],
  topK: number = DEFAULT_TOP_K,
): Composition {
  const experts = [...accepted].sort((a, b) => (a.id < b.id ? -1 : a.id > b.id ? 1 : 0))
  for (const [index, expert] of experts.entries()) {
    if (experts[index + 1]?.id === expert.id) throw new RangeError(`expert ${expert.id} is given twice`)
  }
  const k = Math.min(Math.max(1, topK), experts.length + 1)
  const digest = compositionDigest(
    publicModel.digest,
    experts.map(({ id }) => id),
    k,
  )
  const params = mixtureParams(
    config,
    publicModel.params,
    zeroRows(config),
    experts.map(({ expert }) => expert),
  )
  return { digest, experts, topK: k, params }
}

/** SHA-256 over canonical JSON of the public model's digest, the sorted package ids and top-k. */
export function compositionDigest(publicModel: Digest, ids: readonly Digest[], topK: number): Digest {
  return digestOf(encodeCanonical({ experts: [...ids].sort(), publicModel: publicModel, topK }))
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
export function selectionMask(composition: Composition, selection: Selection): Float32Array {
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

/** Whether a name of a selection means this expert. */
export function isNamed(expert: Pick<AcceptedExpert, 'id' | 'name' | 'institution'>, name: string): boolean {
  const hex = name.startsWith('sha256:') ? name : `sha256:${name}`
  return (
    expert.institution === name ||
    expert.name === name ||
    (hex.length >= 'sha256:'.length + 8 && expert.id.startsWith(hex))
  )
}
