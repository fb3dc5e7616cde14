/** Turns the windows of units into the inputs of the private pair's step. Does not know how units are sampled. */
import type { UnitShape } from './private-pair.ts'

/**
 * Windows of a unit, each at least 2 and at most T + 1 token ids: a window of n ids predicts its last n - 1 ids. A unit
 * without windows has gradient zero.
 */
export type UnitWindows = readonly Int32Array[]

export interface UnitBatch {
  readonly ids: Int32Array
  readonly labels: Int32Array
  readonly labelWeights: Float32Array
  readonly isFree: Float32Array
}

/**
 * The inputs of a step for at most `shape.units` units. The loss of a unit is the mean over all labels of its windows.
 * Positions that no window fills have weight 0; as attention is causal, they change no other position.
 * @param free number of units, from the first on, that are public text and therefore not clipped.
 * @throws RangeError for too many units or windows, or windows of a wrong length: a bug of the caller.
 */
export function toUnitBatch(
  units: readonly UnitWindows[],
  { units: U, windows: G, T }: UnitShape,
  free = 0,
): UnitBatch {
  if (units.length > U) throw new RangeError(`expected at most ${U} units, got ${units.length}`)
  const ids = new Int32Array(U * G * T)
  const labels = new Int32Array(U * G * T)
  const labelWeights = new Float32Array(U * G * T)
  units.forEach((windows, u) => {
    if (windows.length > G) throw new RangeError(`expected at most ${G} windows, got ${windows.length}`)
    const count = windows.reduce((sum, window) => sum + window.length - 1, 0)
    windows.forEach((window, g) => {
      const n = window.length - 1
      if (n < 1 || n > T) throw new RangeError(`expected windows of 2 to ${T + 1} ids, got ${n + 1}`)
      const at = (u * G + g) * T
      ids.set(window.subarray(0, n), at)
      labels.set(window.subarray(1), at)
      labelWeights.fill(1 / count, at, at + n)
    })
  })
  return { ids, labels, labelWeights, isFree: new Float32Array(U).fill(1, 0, free) }
}
