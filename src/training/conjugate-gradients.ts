/**
 * Solves A x = b for a symmetric positive definite matrix and two right-hand sides at once, by conjugate gradients. The
 * matrix is read once for both, since reading it takes most of the time. Does not know what the systems mean.
 */
import { setImmediate } from 'node:timers/promises'
import { dot } from '../lib/dot.ts'

/** Length of the residual, relative to that of b, at which a solution is good enough. */
const TOLERANCE = 1e-6
/** Maximum steps per unknown: with rounding errors, conjugate gradients may need more than n steps. */
const STEPS_PER_UNKNOWN = 4
/** Milliseconds of computing after which the event loop runs. */
const SLICE_MS = 20

/** One right-hand side: the solution so far, and the state of the iteration. */
class System {
  readonly x: Float64Array
  readonly direction: Float64Array
  /** A times `direction`. */
  readonly image: Float64Array
  readonly #residual: Float64Array
  readonly #enough: number
  /** Squared length of the residual. */
  #norm: number

  constructor(b: Float64Array) {
    this.x = new Float64Array(b.length)
    this.image = new Float64Array(b.length)
    this.#residual = b.slice()
    this.direction = b.slice()
    this.#norm = dot(b, b)
    this.#enough = this.#norm * TOLERANCE * TOLERANCE
  }

  get isSolved(): boolean {
    return !(this.#norm > this.#enough)
  }

  /** One step, after `image` was computed. */
  step(): void {
    const { x, direction, image } = this
    const residual = this.#residual
    const n = x.length
    const stride = this.#norm / dot(direction, image)
    for (let i = 0; i < n; i++) {
      x[i] = (x[i] as number) + stride * (direction[i] as number)
      residual[i] = (residual[i] as number) - stride * (image[i] as number)
    }
    const next = dot(residual, residual)
    const turn = next / this.#norm
    for (let i = 0; i < n; i++) direction[i] = (residual[i] as number) + turn * (direction[i] as number)
    this.#norm = next
  }
}

/**
 * Solutions of A x = b for two right-hand sides; A is [n, n], row-major. Lets the event loop run in between.
 * @throws the signal's reason.
 */
export async function solvePair(
  A: Float64Array,
  [first, second]: readonly [Float64Array, Float64Array],
  signal?: AbortSignal,
): Promise<[Float64Array, Float64Array]> {
  signal?.throwIfAborted()
  const n = first.length
  const a = new System(first)
  const b = new System(second)
  let resumed = performance.now()
  for (let step = 0; step < STEPS_PER_UNKNOWN * n && !(a.isSolved && b.isSolved); step++) {
    for (let from = 0; from < n; from += ROWS_AT_ONCE) {
      multiplyRows(A, n, from, Math.min(n, from + ROWS_AT_ONCE), a, b)
      if (performance.now() - resumed < SLICE_MS) continue
      await setImmediate()
      signal?.throwIfAborted()
      resumed = performance.now()
    }
    if (!a.isSolved) a.step()
    if (!b.isSolved) b.step()
  }
  return [a.x, b.x]
}

/** Rows of a product between two looks at the clock. */
const ROWS_AT_ONCE = 256

/**
 * Rows `from` to `to` of the products of A with both directions. Four rows at a time: each sum is a chain of additions
 * that wait for each other, and eight chains keep the processor busy.
 */
function multiplyRows(A: Float64Array, n: number, from: number, to: number, a: System, b: System): void {
  const { direction: p, image: pImage } = a
  const { direction: q, image: qImage } = b
  let i = from
  for (; i + 4 <= to; i += 4) {
    const row0 = i * n
    const row1 = row0 + n
    const row2 = row1 + n
    const row3 = row2 + n
    let p0 = 0
    let p1 = 0
    let p2 = 0
    let p3 = 0
    let q0 = 0
    let q1 = 0
    let q2 = 0
    let q3 = 0
    for (let k = 0; k < n; k++) {
      const pk = p[k] as number
      const qk = q[k] as number
      const a0 = A[row0 + k] as number
      const a1 = A[row1 + k] as number
      const a2 = A[row2 + k] as number
      const a3 = A[row3 + k] as number
      p0 += a0 * pk
      p1 += a1 * pk
      p2 += a2 * pk
      p3 += a3 * pk
      q0 += a0 * qk
      q1 += a1 * qk
      q2 += a2 * qk
      q3 += a3 * qk
    }
    pImage[i] = p0
    pImage[i + 1] = p1
    pImage[i + 2] = p2
    pImage[i + 3] = p3
    qImage[i] = q0
    qImage[i + 1] = q1
    qImage[i + 2] = q2
    qImage[i + 3] = q3
  }
  for (; i < to; i++) {
    let sumP = 0
    let sumQ = 0
    for (let k = 0; k < n; k++) {
      const value = A[i * n + k] as number
      sumP += value * (p[k] as number)
      sumQ += value * (q[k] as number)
    }
    pImage[i] = sumP
    qImage[i] = sumQ
  }
}
