/**
 * Which experts of a composition a request uses: names to a router mask, and the gate solved for exactly those.
 * Implements protocols/composition, section "Selection". Knows no weights.
 */
import type { AcceptedExpert } from '../acceptance/accepted-experts.ts'
import { InputError } from '../lib/errors.ts'
import { LEFT_OUT } from '../model/router.ts'
import type { SequenceRouting } from '../model/routing-plan.ts'
import type { Composition } from './compose.ts'

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
