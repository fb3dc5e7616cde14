/**
 * Jobs of vector-threads.ts: their types, how a job is split into pieces and encoded as 32-bit words, and the loop that
 * runs the pieces. Does not start or wake threads.
 */
import type { Bits } from './quantized.ts'
import type { VectorKernels } from './vector-kernels.ts'
import { tileColumns } from './vector-layout.ts'

/** Shared memory that the kernels of every thread can address. */
export interface Block {
  readonly index: number
  readonly buffer: SharedArrayBuffer
  /** Kernels on the calling thread, for work too small to share. */
  readonly kernels: VectorKernels
}

/** Addresses of a matrix in its block: floats in paired rows (`pairRows`), or quantized integers with their scales. */
export interface Matrix {
  readonly w: number
  /** Unused for floats. */
  readonly scales: number
}

/** What products have in common: each row of a matrix times each of several vectors. */
interface RowJob {
  readonly block: Block
  /** 0 for floats. */
  readonly bits: 0 | Bits
  /**
   * Address of the vectors. For floats: interleaved in groups of four, group after group; the last group holds one, two
   * or four vectors (three use the layout of four). Results have the same layout. For quantized matrices: vectors of
   * `QuantizedRegion`; results one after the other, not interleaved.
   */
  readonly x: number
  /** Rows of the matrix, and values of each result. */
  readonly rows: number
  /** Columns of the matrix, and values of each vector: a multiple of four. */
  readonly width: number
  /** Number of vectors. */
  readonly vectors: number
}

/** Work for all threads. Addresses are byte offsets in the block. */
export type Job =
  /** y = W x. */
  | (RowJob & { readonly kind: 'product'; readonly matrix: Matrix; readonly y: number })
  /** y = silu(G x) * (U x) for gate weights G and up weights U; `scratch` has space for U x. */
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
      /** Queries (sequences, heads, width); `out` has the same shape. */
      readonly q: number
      readonly out: number
      /** Keys and values: (sequences, keyValueHeads, positions, width) each. */
      readonly keys: number
      readonly values: number
      /** int32 (sequences): number of positions in use. */
      readonly lengths: number
      /** Scratch space of `positions` + 4 floats for every thread. */
      readonly scores: number
      readonly sequences: number
      readonly heads: number
      readonly keyValueHeads: number
      /** Capacity of the cache for each sequence. */
      readonly positions: number
      /** Channels of one head. */
      readonly width: number
    }

/** 32-bit words of one encoded job; see `encodeJob`. */
export const JOB_WORDS = 16
/** Pieces per job: enough to share the work evenly, few enough that claiming a piece costs nothing noticeable. */
const PIECES_PER_JOB = 16
const MIN_PIECE_BYTES = 32 * 1024
/** Larger pieces only when the list would otherwise exceed its maximum number of pieces. */
const MAX_PIECE_BYTES = 512 * 1024

/**
 * Claims and computes pieces of the job list `sequence` until none is left. Worker threads receive this function as
 * source text, so it uses only its arguments and globals and contains no nested function. The words of a job are
 * documented at `encodeJob`.
 * @param control counters and encoded jobs, as laid out in vector-threads.ts
 * @param kernels kernels of this thread, by block index
 * @param thread index of this thread, which selects its scratch space
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
    // A newer list has started, or all pieces of this one are claimed.
    if (claim >>> 12 !== (sequence & 0xfffff) || piece >= pieces) return
    if (Atomics.compareExchange(control, 1, claim, claim + 1) !== claim) continue
    while ((control[8 + 16 * job + 2] as number) <= piece) job++
    const at = 8 + 16 * job
    const block = control[at + 1] as number
    const kernel = kernels[block] as VectorKernels
    const rows = control[at + 4] as number
    const width = control[at + 5] as number
    const vectors = control[at + 6] as number
    // Every piece has the same number of rows, except the last, which may have fewer.
    const count = control[at + 3] as number
    const remaining = (control[at + 2] as number) - piece
    const pieceRows = control[at + 7] as number
    const from = (count - remaining) * pieceRows
    const to = Math.min(from + pieceRows, rows)
    // Addresses are unsigned.
    const a = (control[at + 8] as number) >>> 0
    const b = (control[at + 9] as number) >>> 0
    const c = (control[at + 10] as number) >>> 0
    const d = (control[at + 11] as number) >>> 0
    const e = (control[at + 12] as number) >>> 0
    if (control[at] === 2) {
      // Attention: a row is one head of one sequence. a = q, b = out, c = keys, d = values, e = lengths.
      const scores = ((control[at + 13] as number) >>> 0) + thread * 4 * ((control[at + 14] as number) + 4)
      const shared = control[at + 15] as number
      for (let row = from; row < to; row++) {
        const sequenceRow = Math.floor(row / vectors)
        const head = sequenceRow * shared + Math.floor(((row % vectors) * shared) / vectors)
        const cacheOffset = head * (control[at + 14] as number) * width * 4
        const length = new Int32Array(
          buffers[block] as SharedArrayBuffer,
          e + 4 * sequenceRow,
          1,
        )[0] as number
        kernel.dots(a + row * width * 4, c + cacheOffset, scores, length, width)
        kernel.softmaxWeightedSum(
          scores,
          d + cacheOffset,
          b + row * width * 4,
          length,
          width,
          1 / Math.sqrt(width),
        )
      }
    } else if (control[at + 15] !== 0) {
      // Quantized products: a = x, b = weights, c = y, d = up weights, e = scratch.
      const bits = control[at + 15] as number
      const gateScales = (control[at + 13] as number) >>> 0
      const upScales = (control[at + 14] as number) >>> 0
      const rowBytes = (width * bits) / 8
      const scaleBytes = width / 8
      const rowsAtOnce = vectors === 1 ? rows : Math.max(4, 4 * Math.floor(4096 / rowBytes))
      for (let row = from; row < to; row += rowsAtOnce) {
        const length = Math.min(rowsAtOnce, to - row)
        for (let v = 0; v < vectors; v++) {
          const x = a + v * (16 + 2 * width)
          const y = 4 * (v * 4 * Math.ceil(rows / 4) + row)
          const weightOffset = row * rowBytes
          const scaleOffset = row * scaleBytes
          if (bits === 8)
            kernel.product8bit(x, b + weightOffset, gateScales + scaleOffset, c + y, length, width)
          else kernel.product4bit(x, b + weightOffset, gateScales + scaleOffset, c + y, length, width)
          if (control[at] === 1) {
            if (bits === 8)
              kernel.product8bit(x, d + weightOffset, upScales + scaleOffset, e + y, length, width)
            else kernel.product4bit(x, d + weightOffset, upScales + scaleOffset, e + y, length, width)
            kernel.swiGlu(c + y, e + y, length)
          }
        }
      }
    } else {
      // Float products: a = x, b = weights, c = y, d = up weights, e = scratch.
      const stride = 4 * Math.ceil(rows / 4)
      const evenRows = 2 * Math.ceil(rows / 2)
      const columns = control[at + 13] as number
      // This many rows of one tile stay in the cache until the next group of four vectors reads them.
      const rowsAtOnce = vectors <= 4 ? rows : 64
      for (let row = from; row < to; row += rowsAtOnce) {
        const length = Math.min(rowsAtOnce, to - row)
        for (let tile = 0; tile < width; tile += columns) {
          const tileWidth = Math.min(columns, width - tile)
          const weights = 4 * (evenRows * tile + row * tileWidth)
          const accumulate = tile === 0 ? 0 : 1
          for (let v = 0; v < vectors; v += 4) {
            const lanes = vectors - v === 1 ? 1 : vectors - v === 2 ? 2 : 4
            const x = a + 4 * (v * width + lanes * tile)
            const y = 4 * (v * stride + lanes * row)
            if (lanes === 1) kernel.product1(x, b + weights, c + y, length, tileWidth, accumulate)
            else if (lanes === 2) kernel.product2(x, b + weights, c + y, length, tileWidth, accumulate)
            else kernel.product4(x, b + weights, c + y, length, tileWidth, accumulate)
            if (control[at] === 0) continue
            if (lanes === 1) kernel.product1(x, d + weights, e + y, length, tileWidth, accumulate)
            else if (lanes === 2) kernel.product2(x, d + weights, e + y, length, tileWidth, accumulate)
            else kernel.product4(x, d + weights, e + y, length, tileWidth, accumulate)
            if (tile + columns >= width) kernel.swiGlu(c + y, e + y, lanes * 4 * Math.ceil(length / 4))
          }
        }
      }
    }
    if (Atomics.add(control, 2, 1) + 1 === pieces) Atomics.notify(control, 2)
  }
}

/** How one job is split. */
export interface Split {
  readonly pieces: number
  /** Rows of each piece but the last, which may have fewer. */
  readonly rows: number
}

/**
 * Splits every job of a list, in order, into at most `most` pieces together.
 * @throws RangeError for more jobs than `most`.
 */
export function splitJobs(jobs: readonly Job[], most: number): Split[] {
  if (jobs.length > most)
    throw new RangeError(`expected at most ${most} jobs in one list, got ${jobs.length}`)
  for (let largest = MAX_PIECE_BYTES; ; largest *= 2) {
    const splits = jobs.map((job) => splitOf(job, largest))
    if (splits.reduce((total, { pieces }) => total + pieces, 0) <= most) return splits
  }
}

/** Pieces hold whole groups of four rows, so that only one thread writes each interleaved group. */
function splitOf(job: Job, largest: number): Split {
  if (job.kind === 'attend') {
    const pieces = job.sequences * job.heads
    // At most 1024, so that other jobs of the list keep their share of the maximum.
    const rows = Math.ceil(pieces / 1024)
    return { pieces: Math.ceil(pieces / rows), rows }
  }
  const matrices = job.kind === 'swiGlu' ? 2 : 1
  const rowBytes = matrices * job.width * (job.bits === 0 ? 4 : job.bits / 8)
  const bytes = Math.min(largest, Math.max(MIN_PIECE_BYTES, (rowBytes * job.rows) / PIECES_PER_JOB))
  const rows = 4 * Math.max(1, Math.floor(bytes / rowBytes / 4))
  return { pieces: Math.ceil(job.rows / rows), rows }
}

/**
 * A job as JOB_WORDS 32-bit words. By index: 0 kind (0 product, 1 swiGlu, 2 attend); 1 block; 2 `end`; 3 number of
 * pieces; 4 rows; 5 width; 6 vectors; 7 rows per piece. For products: 8 x; 9 weights; 10 y; 11 up weights; 12 scratch;
 * 13 columns of a tile (floats) or scales (quantized); 14 scales of the up weights; 15 bits. For attention: rows are
 * heads of all sequences; 6 heads of one sequence; 8 q; 9 out; 10 keys; 11 values; 12 lengths; 13 scores; 14 positions;
 * 15 heads of keys and values.
 * @param end index in the list of the first piece after this job
 */
export function encodeJob(job: Job, end: number, split: Split): number[] {
  const { block } = job
  const count = [block.index, end, split.pieces] as const
  if (job.kind === 'attend') {
    const { q, out, keys, values, lengths, scores, positions, keyValueHeads } = job
    const head = [2, ...count, job.sequences * job.heads, job.width, job.heads, split.rows]
    return [...head, q, out, keys, values, lengths, scores, positions, keyValueHeads]
  }
  const { x, rows, width, vectors, bits } = job
  const head = [...count, rows, width, vectors, split.rows, x]
  // Word 13: float matrices have no scales, and quantized matrices have no tiles.
  const tileOrScales = (matrix: Matrix): number => (bits === 0 ? tileColumns(width) : matrix.scales)
  if (job.kind === 'product')
    return [0, ...head, job.matrix.w, job.y, 0, 0, tileOrScales(job.matrix), 0, bits]
  const { gateWeights, upWeights, y, scratch } = job
  const matrices = [tileOrScales(gateWeights), upWeights.scales, bits]
  return [1, ...head, gateWeights.w, y, upWeights.w, scratch, ...matrices]
}
