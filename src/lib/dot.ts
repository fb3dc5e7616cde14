/** Inner product of two vectors in double precision. Knows nothing about what the vectors mean. */

/** Sum of a[i] b[i] over the length of a; b must be at least as long. */
export function dot(a: Float64Array, b: Float64Array): number {
  let sum = 0
  for (let i = 0; i < a.length; i++) sum += (a[i] as number) * (b[i] as number)
  return sum
}
