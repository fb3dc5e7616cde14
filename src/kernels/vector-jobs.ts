/**
 * The jobs of vector-threads.ts: what they are, how one is cut into pieces and written as words, and how a
 * thread works through them. Knows no thread.
 */
import type { Bits } from './quantized.ts'
import type { VectorKernels } from './vector-kernels.ts'
import { tileColumns } from './vector-layout.ts'

/** Memory that every thread and its kernels see. */
export interface Block {
  readonly index: number
  readonly buffer: SharedArrayBuffer
  /** The caller's own kernels, for work that is too small to share. */
  readonly kernels: VectorKernels
}

/** Where a matrix lies: floats in paired rows, or codes with their scales. */
export interface Matrix {
  readonly w: number
  readonly scales: number
}

interface RowJob {
  readonly block: Block
  /** 0 for floats. */
  readonly bits: 0 | Bits
  /**
   * Floats: vectors interleaved in groups of four, the last ones in a group of two or one (three lie as four), each
   * group behind the one before; results likewise. Codes: encoded vectors, results each on its own.
   */
  readonly x: number
  readonly rows: number
  /** A multiple of four. */
  readonly width: number
  readonly vectors: number
}

/** Every address is a byte of the block's memory. */
export type Job =
  /** y = W x. */
  | (RowJob & { readonly kind: 'product'; readonly matrix: Matrix; readonly y: number })
  /** y = silu(G x) * (U x); `up` is room for U x. */
  | (RowJob & {
      readonly kind: 'swiGlu'
      readonly gateWeights: Matrix
      readonly upWeights: Matrix
      readonly y: number
      readonly scratch: number
    })
  | {
      readonly kind: 'attend'
      readonly block: Block
      /** (sequences, heads, width), as is `out`. */
      readonly q: number
      readonly out: number
      /** (sequences, keyValueHeads, positions, width) each. */
      readonly keys: number
      readonly values: number
      /** int32 (sequences): positions in use. */
      readonly lengths: number
      /** Room for `positions` + 4 floats for every thread. */
      readonly scores: number
      readonly sequences: number
      readonly heads: number
      readonly keyValueHeads: number
      readonly positions: number
      readonly width: number
    }

/** Words of one job. */
export const JOB_WORDS = 16
/** Pieces of a job: enough to share evenly, none so small that taking it counts. */
const PIECES_PER_JOB = 16
const MIN_PIECE_BYTES = 32 * 1024
/** More only where a list would have too many pieces. */
const MAX_PIECE_BYTES = 512 * 1024

/**
 * Take pieces of one list until none is left. Its text is also the other threads' program, so it uses
 * nothing but its arguments and globals, and has no function inside.
 */
export function runPieces(
  control: Int32Array,
  kernels: readonly VectorKernels[],
  buffers: readonly SharedArrayBuffer[],
  thread: number,
  sequence: number,
): void {
  let job = 0
  for (;;) {
    const claim = Atomics.load(control, 1)
    const piece = claim & 0xfff
    const pieces = Atomics.load(control, 3)
    // Another list, or nothing left of this one.
    if (claim >>> 12 !== (sequence & 0xfffff) || piece >= pieces) return
    if (Atomics.compareExchange(control, 1, claim, claim + 1) !== claim) continue
    while ((control[8 + 16 * job + 2] as number) <= piece) job++
    const at = 8 + 16 * job
    const block = control[at + 1] as number
    const own = kernels[block] as VectorKernels
    const rows = control[at + 4] as number
    const width = control[at + 5] as number
    const vectors = control[at + 6] as number
    // The last piece ends the job; the others have the same number of rows.
    const count = control[at + 3] as number
    const behind = (control[at + 2] as number) - piece
    const pieceRows = control[at + 7] as number
    const from = (count - behind) * pieceRows
    const to = Math.min(from + pieceRows, rows)
    // Addresses are unsigned.
    const a = (control[at + 8] as number) >>> 0
    const b = (control[at + 9] as number) >>> 0
    const c = (control[at + 10] as number) >>> 0
    const d = (control[at + 11] as number) >>> 0
    const e = (control[at + 12] as number) >>> 0
    if (control[at] === 2) {
      // Rows are heads, one sequence after the other: q, out, keys, values, lengths, scores.
      const scores = ((control[at + 13] as number) >>> 0) + thread * 4 * ((control[at + 14] as number) + 4)
      const shared = control[at + 15] as number
      for (let row = from; row < to; row++) {
        const sequenceRow = Math.floor(row / vectors)
        const head = sequenceRow * shared + Math.floor(((row % vectors) * shared) / vectors)
        const past = head * (control[at + 14] as number) * width * 4
        const length = new Int32Array(
          buffers[block] as SharedArrayBuffer,
          e + 4 * sequenceRow,
          1,
        )[0] as number
        own.dots(a + row * width * 4, c + past, scores, length, width)
        own.softmaxWeightedSum(scores, d + past, b + row * width * 4, length, width, 1 / Math.sqrt(width))
      }
    } else if (control[at + 15] !== 0) {
      const bits = control[at + 15] as number
      const gateScales = (control[at + 13] as number) >>> 0
      const upScales = (control[at + 14] as number) >>> 0
      const rowBytes = (width * bits) / 8
      const scaleBytes = width / 8
      const near = vectors === 1 ? rows : Math.max(4, 4 * Math.floor(4096 / rowBytes))
      for (let row = from; row < to; row += near) {
        const length = Math.min(near, to - row)
        for (let v = 0; v < vectors; v++) {
          const x = a + v * (16 + 2 * width)
          const y = 4 * (v * 4 * Math.ceil(rows / 4) + row)
          const codes = row * rowBytes
          const scales = row * scaleBytes
          if (bits === 8) own.product8bit(x, b + codes, gateScales + scales, c + y, length, width)
          else own.product4bit(x, b + codes, gateScales + scales, c + y, length, width)
          if (control[at] === 1) {
            if (bits === 8) own.product8bit(x, d + codes, upScales + scales, e + y, length, width)
            else own.product4bit(x, d + codes, upScales + scales, e + y, length, width)
            own.swiGlu(c + y, e + y, length)
          }
        }
      }
    } else {
      const stride = 4 * Math.ceil(rows / 4)
      const evenRows = 2 * Math.ceil(rows / 2)
      const columns = control[at + 13] as number
      // So many rows of one set of columns are still near when the next four vectors pass them.
      const near = vectors <= 4 ? rows : 64
      for (let row = from; row < to; row += near) {
        const length = Math.min(near, to - row)
        for (let set = 0; set < width; set += columns) {
          const setWidth = Math.min(columns, width - set)
          const weights = 4 * (evenRows * set + row * setWidth)
          const isMore = set === 0 ? 0 : 1
          for (let v = 0; v < vectors; v += 4) {
            const lanes = vectors - v === 1 ? 1 : vectors - v === 2 ? 2 : 4
            const x = a + 4 * (v * width + lanes * set)
            const y = 4 * (v * stride + lanes * row)
            if (lanes === 1) own.product1(x, b + weights, c + y, length, setWidth, isMore)
            else if (lanes === 2) own.product2(x, b + weights, c + y, length, setWidth, isMore)
            else own.product4(x, b + weights, c + y, length, setWidth, isMore)
            if (control[at] === 0) continue
            if (lanes === 1) own.product1(x, d + weights, e + y, length, setWidth, isMore)
            else if (lanes === 2) own.product2(x, d + weights, e + y, length, setWidth, isMore)
            else own.product4(x, d + weights, e + y, length, setWidth, isMore)
            if (set + columns >= width) own.swiGlu(c + y, e + y, lanes * 4 * Math.ceil(length / 4))
          }
        }
      }
    }
    if (Atomics.add(control, 2, 1) + 1 === pieces) Atomics.notify(control, 2)
  }
}

export interface Split {
  readonly pieces: number
  readonly rows: number
}

/** How a list is cut, into at most `most` pieces, in the order of its jobs. @throws RangeError for more jobs than that. */
export function splitJobs(jobs: readonly Job[], most: number): Split[] {
  if (jobs.length > most) throw new RangeError(`${jobs.length} jobs in one list, at most ${most} pieces`)
  for (let largest = MAX_PIECE_BYTES; ; largest *= 2) {
    const cuts = jobs.map((job) => splitOf(job, largest))
    if (cuts.reduce((total, { pieces }) => total + pieces, 0) <= most) return cuts
  }
}

/** Pieces of whole groups of four rows, so that every interleaved group has one owner. */
function splitOf(job: Job, largest: number): Split {
  if (job.kind === 'attend') {
    const pieces = job.sequences * job.heads
    // At most as many as a list can have beside others.
    const rows = Math.ceil(pieces / 1024)
    return { pieces: Math.ceil(pieces / rows), rows }
  }
  const matrices = job.kind === 'swiGlu' ? 2 : 1
  const rowBytes = matrices * job.width * (job.bits === 0 ? 4 : job.bits / 8)
  const bytes = Math.min(largest, Math.max(MIN_PIECE_BYTES, (rowBytes * job.rows) / PIECES_PER_JOB))
  const rows = 4 * Math.max(1, Math.floor(bytes / rowBytes / 4))
  return { pieces: Math.ceil(job.rows / rows), rows }
}

/** @param end number of the piece behind the job's last. */
export function encodeJob(job: Job, end: number, cut: Split): number[] {
  const { block } = job
  const count = [block.index, end, cut.pieces] as const
  if (job.kind === 'attend') {
    const { q, out, keys, values, lengths, scores, positions, keyValueHeads } = job
    const head = [2, ...count, job.sequences * job.heads, job.width, job.heads, cut.rows]
    return [...head, q, out, keys, values, lengths, scores, positions, keyValueHeads]
  }
  const { x, rows, width, vectors, bits } = job
  const head = [...count, rows, width, vectors, cut.rows, x]
  // Floats have no scales, and codes no sets of columns.
  const ofFirst = (matrix: Matrix): number => (bits === 0 ? tileColumns(width) : matrix.scales)
  if (job.kind === 'product') return [0, ...head, job.matrix.w, job.y, 0, 0, ofFirst(job.matrix), 0, bits]
  const { gateWeights: gate, upWeights: upward, y, scratch: up } = job
  return [1, ...head, gate.w, y, upward.w, up, ofFirst(gate), upward.scales, bits]
}
