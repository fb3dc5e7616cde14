/**
 * The experts of a composition that a request uses: turns names into a router mask and the gate of the selected
 * experts. Implements protocols/composition, section "Selection". Knows nothing about weights.
 */
import type { AcceptedExpert } from '../acceptance/accepted-experts.ts'
import { InputError } from '../lib/errors.ts'
import type { SequenceRouting } from '../model/routing-plan.ts'
import { LEFT_OUT } from '../model/routing-plan.ts'
import type { Composition } from './compose.ts'

/** Minimum number of hexadecimal digits of a package id that names the package. */
const MIN_PREFIX = 8

export interface Selection {
  /**
   * Use only these experts and the public one. Each name is a package id, a prefix of one, an expert's name or an
   * institution.
   */
  readonly include?: readonly string[] | undefined
  /** Use none of these; wins over `include`. */
  readonly exclude?: readonly string[] | undefined
}

/**
 * Router mask [E] of a selection: 0 for experts in use, LEFT_OUT for the others. The public expert is always in use.
 * @throws InputError `not-found` for a name that matches no expert of the composition.
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
 * Mask and gate of a selection. The gate is solved for the experts in use only, as if the others had not been composed.
 * @throws InputError `not-found` for a name that matches no expert of the composition.
 */
export function selectionRouting(composition: Composition, selection: Selection): SequenceRouting {
  const mask = selectionMask(composition, selection)
  return { mask, gate: composition.gates?.gate(mask) }
}

/** Whether a name in a selection matches an expert. */
export function isNamed(expert: Pick<AcceptedExpert, 'id' | 'name' | 'institution'>, name: string): boolean {
  const hex = name.startsWith('sha256:') ? name : `sha256:${name}`
  return (
    expert.institution === name ||
    expert.name === name ||
    (hex.length >= 'sha256:'.length + MIN_PREFIX && expert.id.startsWith(hex))
  )
}
