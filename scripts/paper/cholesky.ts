/** Cholesky factorization of small symmetric matrices in double precision. */

/**
 * Lower factor L with A = L L', both row-major [n, n]. Reads only the lower triangle of A.
 * @returns undefined if A is not positive definite.
 */
export function cholesky(A: Float64Array, n: number): Float64Array | undefined {
  const L = new Float64Array(n * n)
  for (let i = 0; i < n; i++) {
    for (let j = 0; j <= i; j++) {
      let sum = A[i * n + j] as number
      for (let k = 0; k < j; k++) sum -= (L[i * n + k] as number) * (L[j * n + k] as number)
      if (i !== j) L[i * n + j] = sum / (L[j * n + j] as number)
      else if (sum > 0) L[i * n + i] = Math.sqrt(sum)
      else return undefined
    }
  }
  return L
}

/** Solves L L' x = b. */
export function choleskySolve(L: Float64Array, b: ArrayLike<number>): Float64Array {
  const n = b.length
  const x = new Float64Array(n)
  for (let i = 0; i < n; i++) {
    let sum = b[i] as number
    for (let k = 0; k < i; k++) sum -= (L[i * n + k] as number) * (x[k] as number)
    x[i] = sum / (L[i * n + i] as number)
  }
  for (let i = n - 1; i >= 0; i--) {
    let sum = x[i] as number
    for (let k = i + 1; k < n; k++) sum -= (L[k * n + i] as number) * (x[k] as number)
    x[i] = sum / (L[i * n + i] as number)
  }
  return x
}
