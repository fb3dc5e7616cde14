/**
 * Jobs of vector-threads.ts: their types, how a job is split into pieces of rows, and how it is encoded as 32-bit words.
 * run-pieces.ts runs the pieces. Does not start or wake threads.
 */
import {
  GROUP_ROWS,
  groupBytes,
  isCoded,
  MATRIX_FORMATS,
  type Matrix,
  type MatrixFormat,
  matrixBytes,
} from './matrix-format.ts'
import { tileColumns } from './paired-rows.ts'
import type { VectorKernels } from './vector-kernels.ts'

/** Shared memory that the kernels of every thread can address. */
export interface Block {
  readonly index: number
  readonly buffer: SharedArrayBuffer
  /** Kernels on the calling thread, for work too small to share. */
  readonly kernels: VectorKernels
  /** Address of the scratch space of all threads. */
  readonly scratch: number
}

/** What products have in common: each row of a matrix times each of several vectors. */
interface ProductJob {
  readonly block: Block
  /** Address of `ProductInputs` for the format of the matrix. */
  readonly x: number
  /** Address of `ProductResults`. */
  readonly y: number
  /** Number of vectors. */
  readonly vectors: number
}

/** What conversions between a matrix and row-major values have in common. */
interface RowsJob {
  /** The block of the matrix. */
  readonly block: Block
  readonly matrix: Matrix
  /** First row, a multiple of `GROUP_ROWS`. */
  readonly from: number
  /** Number of rows: a multiple of `GROUP_ROWS`, unless they end the matrix. */
  readonly rows: number
  /** Address of the row-major values (rows, width) in their block. */
  readonly address: number
}

/** Work for all threads. Addresses are byte offsets in the block. */
export type Job =
  /** y = W x, or y += W x. */
  | (ProductJob & { readonly kind: 'product'; readonly matrix: Matrix; readonly accumulate?: boolean })
  /** y = silu(G x) * (U x); G and U have one format and one shape; `scratch` has the size of y. */
  | (ProductJob & {
      readonly kind: 'swiGlu'
      readonly gateWeights: Matrix
      readonly upWeights: Matrix
      readonly scratch: number
    })
  /** Writes rows as floats to an address of the block `to`. */
  | (RowsJob & { readonly kind: 'expand'; readonly to: Block })
  /** Converts row-major values of the block `source`, float32 or bf16, to rows of the matrix. */
  | (RowsJob & { readonly kind: 'encode'; readonly source: Block; readonly dtype: 'F32' | 'BF16' })
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
/**
 * Number of pieces of a job for each thread: enough to share the work evenly, few enough that claiming them takes no
 * noticeable time.
 */
const PIECES_PER_THREAD = 2
/** Every thread gets a piece of a matrix of this size; smaller matrices have fewer pieces. */
const SHARED_BYTES = 256 * 1024
const MIN_PIECE_BYTES = 32 * 1024
/** Larger pieces only when the list would otherwise exceed its maximum number of pieces. */
const MAX_PIECE_BYTES = 512 * 1024

/** How one job is split. */
interface Split {
  readonly pieces: number
  /** Rows of each piece but the last, which may have fewer. */
  readonly rows: number
}

/** A job in the form that threads read. It can be run many times, each time with another number of vectors. */
export interface EncodedJob {
  readonly job: Job
  /** The words that `encodeJob` documents. */
  readonly words: Int32Array
  /** Bytes of the matrices that a product reads; 0 for other jobs. */
  readonly matrixBytes: number
}

/** Indices of the words that change between runs, and of the number of pieces. */
export const WORD = { end: 2, pieces: 3, vectors: 6 } as const

/** Sets the number of vectors of a product. @returns the same job */
export function withVectors(encoded: EncodedJob, vectors: number): EncodedJob {
  encoded.words[WORD.vectors] = vectors
  return encoded
}

/** Number of pieces of all jobs of a list. */
export function countPieces(jobs: readonly EncodedJob[]): number {
  let pieces = 0
  for (const { words } of jobs) pieces += words[WORD.pieces] as number
  return pieces
}

/**
 * Encodes the jobs of a list again with so large pieces that there are at most `most` of them.
 * @param threads as for `encodeJob`
 * @throws RangeError for more jobs than `most`.
 */
export function withFewerPieces(
  jobs: readonly EncodedJob[],
  threads: number,
  most: number,
): readonly EncodedJob[] {
  if (jobs.length > most)
    throw new RangeError(`expected at most ${most} jobs in one list, got ${jobs.length}`)
  let fewer = jobs
  for (let factor = 2; countPieces(fewer) > most; factor *= 2) {
    fewer = jobs.map(({ job, words }) =>
      job.kind === 'product' || job.kind === 'swiGlu'
        ? withVectors(encodeJob(job, threads, factor), words[WORD.vectors] as number)
        : encodeJob(job, threads, factor),
    )
  }
  return fewer
}

function splitOf(job: Job, threads: number, factor: number): Split {
  if (job.kind === 'attend') {
    const pieces = job.sequences * job.heads
    // At most 1024, so that other jobs of the list keep their share of the maximum.
    const rows = Math.ceil(pieces / 1024)
    return { pieces: Math.ceil(pieces / rows), rows }
  }
  const { format, width, rows: all } = matrixOf(job)
  const rows = job.kind === 'expand' || job.kind === 'encode' ? job.rows : all
  const rowBytes = (job.kind === 'swiGlu' ? 2 : 1) * bytesOfRow(format, width)
  const smallest = Math.max(MIN_PIECE_BYTES, SHARED_BYTES / threads)
  const share = (rowBytes * rows) / (PIECES_PER_THREAD * threads)
  const bytes = factor * Math.min(MAX_PIECE_BYTES, Math.max(smallest, share))
  const multiple = job.kind === 'product' || job.kind === 'swiGlu' ? ROW_MULTIPLE[format] : GROUP_ROWS
  const pieceRows = multiple * Math.max(1, Math.floor(bytes / rowBytes / multiple))
  return { pieces: Math.ceil(rows / pieceRows), rows: pieceRows }
}

/** Number that the rows of a piece of a product are a multiple of. */
const ROW_MULTIPLE: Readonly<Record<MatrixFormat, number>> = {
  fp32: 4,
  bf16: 4,
  int8: GROUP_ROWS,
  int4: GROUP_ROWS,
}

function bytesOfRow(format: MatrixFormat, width: number): number {
  return isCoded(format) ? groupBytes(format, width) / GROUP_ROWS : width * (format === 'bf16' ? 2 : 4)
}

function matrixOf(job: Exclude<Job, { kind: 'attend' }>): Matrix {
  return job.kind === 'swiGlu' ? job.gateWeights : job.matrix
}

/**
 * A job as JOB_WORDS 32-bit words. By index: 0 kind (0 product, 1 swiGlu, 2 attend, 3 expand, 4 encode); 1 block;
 * 2 index in its list of the first piece after this job, which is set when a list is run; 3 number of pieces; 4 rows;
 * 5 width; 6 vectors; 7 rows per piece. For products: 8 x; 9 weights; 10 y; 11 up weights; 12 scratch; 13 format; 14
 * columns of a tile; 15 whether y is added to. For attention: rows are heads of all sequences; 6 heads of one sequence;
 * 8 q; 9 out; 10 keys; 11 values; 12 lengths; 13 scores; 14 positions; 15 heads of keys and values. For expand and
 * encode: 6 scratch; 8 weights; 9 other block; 10 address in it; 11 first row; 12 type of the source (0 float32, 1
 * bf16); 13 format; 14 columns of a tile; 15 rows of the matrix.
 * @param threads number of threads that share the pieces
 * @param factor makes pieces larger than usual, and fewer
 */
export function encodeJob(job: Job, threads: number, factor = 1): EncodedJob {
  const split = splitOf(job, threads, factor)
  const isProduct = job.kind === 'product' || job.kind === 'swiGlu'
  const { format, rows, width } = isProduct ? matrixOf(job) : NO_MATRIX
  const bytes = matrixBytes(format, rows, width)
  return {
    job,
    words: Int32Array.from(wordsOf(job, split)),
    matrixBytes: job.kind === 'swiGlu' ? 2 * bytes : bytes,
  }
}

const NO_MATRIX = { format: 'fp32', rows: 0, width: 0 } as const

function wordsOf(job: Job, split: Split): number[] {
  const { block } = job
  const count = [block.index, 0, split.pieces] as const
  if (job.kind === 'attend') {
    const { q, out, keys, values, lengths, scores, positions, keyValueHeads } = job
    const head = [2, ...count, job.sequences * job.heads, job.width, job.heads, split.rows]
    return [...head, q, out, keys, values, lengths, scores, positions, keyValueHeads]
  }
  const { at, rows, width, format } = matrixOf(job)
  const formatWords = [MATRIX_FORMATS.indexOf(format), tileColumns(format, width)]
  if (job.kind === 'expand' || job.kind === 'encode') {
    const isExpand = job.kind === 'expand'
    const other = isExpand ? job.to : job.source
    const dtype = isExpand || job.dtype === 'F32' ? 0 : 1
    const head = [isExpand ? 3 : 4, ...count, job.rows, width, block.scratch, split.rows]
    return [...head, at, other.index, job.address, job.from, dtype, ...formatWords, rows]
  }
  const head = [
    job.kind === 'product' ? 0 : 1,
    ...count,
    rows,
    width,
    job.vectors,
    split.rows,
    job.x,
    at,
    job.y,
  ]
  const [up, scratch, accumulate] =
    job.kind === 'product' ? [0, 0, job.accumulate ? 1 : 0] : [job.upWeights.at, job.scratch, 0]
  return [...head, up, scratch, ...formatWords, accumulate]
}
