/**
 * The small steps between the products of one token, on plain arrays: norms and rotary positions
 * (flexolmo 1.1). Knows no kernel.
 */

/** Of every position and pair of channels, (positions, half) each. */
export interface RotaryHalves {
  readonly cos: Float32Array
  readonly sin: Float32Array
  /** Half the width of a head. */
  readonly half: number
}

/** values *= gain / rms(values), in place, for `gain.length` values from `start`. */
export function normalise(values: Float32Array, start: number, gain: Float32Array, eps: number): void {
  const scale = inverseRms(values, start, gain.length, eps)
  for (let i = 0; i < gain.length; i++) {
    values[start + i] = (values[start + i] as number) * scale * (gain[i] as number)
  }
}

/** target += values * gain / rms(values), for `gain.length` values from `start`. */
export function addNormed(
  target: Float32Array,
  values: Float32Array,
  start: number,
  gain: Float32Array,
  eps: number,
): void {
  const scale = inverseRms(values, start, gain.length, eps)
  for (let i = 0; i < gain.length; i++) {
    const normed = (values[start + i] as number) * scale * (gain[i] as number)
    target[start + i] = (target[start + i] as number) + normed
  }
}

function inverseRms(values: Float32Array, start: number, length: number, eps: number): number {
  let sum = 0
  for (let i = start; i < start + length; i++) sum += (values[i] as number) ** 2
  return 1 / Math.sqrt(sum / length + eps)
}

/** Rotate-half of every head among `width` values from `start`, by the angles of a position. */
export function rotateHeads(
  values: Float32Array,
  start: number,
  width: number,
  position: number,
  { cos, sin, half }: RotaryHalves,
): void {
  for (let head = start; head < start + width; head += 2 * half) {
    for (let i = 0; i < half; i++) {
      const a = values[head + i] as number
      const b = values[head + half + i] as number
      const c = cos[position * half + i] as number
      const s = sin[position * half + i] as number
      values[head + i] = a * c - b * s
      values[head + half + i] = b * c + a * s
    }
  }
}
