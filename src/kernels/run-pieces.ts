/**
 * Runs the pieces of encoded jobs (vector-jobs.ts). Worker threads receive these functions as source text, so they use
 * only their arguments, globals and each other, and contain no nested function. Numbers that stand for constants of
 * other files say so. Does not start or wake threads.
 */
import type { VectorKernels } from './vector-kernels.ts'

/** Memory and kernels of one thread. */
export interface PieceContext {
  /** Counters and encoded jobs, as laid out in vector-threads.ts. */
  readonly control: Int32Array
  /** By block index. */
  readonly kernels: readonly VectorKernels[]
  /** By block index. */
  readonly buffers: readonly SharedArrayBuffer[]
  /** The same memory as 32-bit words, since creating a view takes longer than a small piece. */
  readonly words: readonly Int32Array[]
  /** Index of this thread, which selects its scratch space. */
  readonly thread: number
}

/**
 * Scratch space of one thread in every block: floats of 16 rows and 4096 columns, the same in bf16, and 1 KiB of codes.
 * `expandRows` and `encodeRows` contain these numbers.
 */
export const SCRATCH_BYTES = 16 * 4096 * 4 + 16 * 4096 * 2 + 1024

/**
 * Claims and computes pieces of the job list `sequence` until none is left. The words of a job are documented at
 * `encodeJob`.
 */
export function runPieces(context: PieceContext, sequence: number): void {
  const { control, kernels } = context
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
    // Every piece has the same number of rows, except the last, which may have fewer.
    const remaining = (control[at + 2] as number) - piece
    const pieceRows = control[at + 7] as number
    const from = ((control[at + 3] as number) - remaining) * pieceRows
    const to = Math.min(from + pieceRows, control[at + 4] as number)
    const block = control[at + 1] as number
    const kernel = kernels[block] as VectorKernels
    const kind = control[at] as number
    if (kind === 0) multiplyRows(control, at, kernel, 9, 10, from, to)
    else if (kind === 1) {
      multiplyRows(control, at, kernel, 9, 10, from, to)
      multiplyRows(control, at, kernel, 11, 12, from, to)
      const stride = 64 * Math.ceil((control[at + 4] as number) / 16)
      for (let v = 0; v < (control[at + 6] as number); v++) {
        const offset = v * stride + 4 * from
        kernel.swiGlu(
          ((control[at + 10] as number) >>> 0) + offset,
          ((control[at + 12] as number) >>> 0) + offset,
          to - from,
        )
      }
    } else if (kind === 2) {
      attendRows(control, at, kernel, context.words[block] as Int32Array, context.thread, from, to)
    } else if (kind === 3) expandRows(context, at, from, to)
    else encodeRows(context, at, from, to)
    // The caller announces that it sleeps, since notifying takes as long as a small piece.
    if (Atomics.add(control, 2, 1) + 1 === pieces && Atomics.load(control, 7) === 1)
      Atomics.notify(control, 2)
  }
}

/** Attention of the heads from `from` to `to` of all sequences. Words: 8 q, 9 out, 10 keys, 11 values, 12 lengths. */
function attendRows(
  control: Int32Array,
  at: number,
  kernel: VectorKernels,
  words: Int32Array,
  thread: number,
  from: number,
  to: number,
): void {
  const width = control[at + 5] as number
  const heads = control[at + 6] as number
  const q = (control[at + 8] as number) >>> 0
  const out = (control[at + 9] as number) >>> 0
  const keys = (control[at + 10] as number) >>> 0
  const values = (control[at + 11] as number) >>> 0
  const lengths = (control[at + 12] as number) >>> 0
  const positions = control[at + 14] as number
  const scores = ((control[at + 13] as number) >>> 0) + thread * 4 * (positions + 4)
  const shared = control[at + 15] as number
  for (let row = from; row < to; row++) {
    const sequence = Math.floor(row / heads)
    const head = sequence * shared + Math.floor(((row % heads) * shared) / heads)
    const cacheOffset = head * positions * width * 4
    const length = words[lengths / 4 + sequence] as number
    kernel.dots(q + row * width * 4, keys + cacheOffset, scores, length, width)
    kernel.softmaxWeightedSum(
      scores,
      values + cacheOffset,
      out + row * width * 4,
      length,
      width,
      1 / Math.sqrt(width),
    )
  }
}

/** Products of rows with all vectors. `weights` and `results`: the words that hold their addresses. */
function multiplyRows(
  control: Int32Array,
  at: number,
  kernel: VectorKernels,
  weights: number,
  results: number,
  from: number,
  to: number,
): void {
  const rows = control[at + 4] as number
  const width = control[at + 5] as number
  const vectors = control[at + 6] as number
  const x = (control[at + 8] as number) >>> 0
  const w = (control[at + weights] as number) >>> 0
  const y = (control[at + results] as number) >>> 0
  const format = control[at + 13] as number
  const adds = control[at + 15] as number
  const stride = 64 * Math.ceil(rows / 16)
  if (format === 0) {
    const evenRows = 2 * Math.ceil(rows / 2)
    const columns = control[at + 14] as number
    // This many rows of one tile stay in the cache until the next group of four vectors reads them.
    const rowsAtOnce = vectors <= 4 ? rows : 64
    for (let row = from; row < to; row += rowsAtOnce) {
      const length = Math.min(rowsAtOnce, to - row)
      for (let tile = 0; tile < width; tile += columns) {
        const tileWidth = Math.min(columns, width - tile)
        const tileAt = w + 4 * (evenRows * tile + row * tileWidth)
        const accumulate = tile === 0 ? adds : 1
        for (let v = 0; v < vectors; v += 4) {
          const lanes = vectors - v === 1 ? 1 : vectors - v === 2 ? 2 : 4
          const xAt = x + 4 * (v * width + lanes * tile)
          const yAt = y + v * stride + 4 * row
          if (lanes === 1) kernel.product1(xAt, tileAt, yAt, length, tileWidth, accumulate, stride)
          else if (lanes === 2) kernel.product2(xAt, tileAt, yAt, length, tileWidth, accumulate, stride)
          else kernel.product4(xAt, tileAt, yAt, length, tileWidth, accumulate, stride)
        }
      }
    }
  } else if (format === 1) {
    const columns = control[at + 14] as number
    // This many rows of one tile stay in the cache until the next group of four vectors reads them.
    const rowsAtOnce = vectors <= 4 ? rows : 16
    for (let row = from; row < to; row += rowsAtOnce) {
      const length = Math.min(rowsAtOnce, to - row)
      for (let tile = 0; tile < width; tile += columns) {
        const tileWidth = Math.min(columns, width - tile)
        const tileAt = w + 2 * (rows * tile + row * tileWidth)
        const accumulate = tile === 0 ? adds : 1
        for (let v = 0; v < vectors; v += 4) {
          const lanes = vectors - v === 1 ? 1 : vectors - v === 2 ? 2 : 4
          const xAt = x + 4 * (v * width + lanes * tile)
          const yAt = y + v * stride + 4 * row
          if (lanes === 1) kernel.bf16Product1(xAt, tileAt, yAt, length, tileWidth, accumulate, stride)
          else if (lanes === 2) kernel.bf16Product2(xAt, tileAt, yAt, length, tileWidth, accumulate, stride)
          else kernel.bf16Product4(xAt, tileAt, yAt, length, tileWidth, accumulate, stride)
        }
      }
    }
  } else {
    // Records of 32 columns and 16 rows have 544 or 288 bytes; 32 activations have 96.
    const blocks = width / 32
    const groupBytes = blocks * (format === 2 ? 544 : 288)
    const groupsAtOnce = vectors <= 2 ? rows : Math.max(1, Math.floor(65536 / groupBytes))
    for (let group = from / 16; group < to / 16; group += groupsAtOnce) {
      const groups = Math.min(groupsAtOnce, Math.ceil(to / 16) - group)
      const groupAt = w + group * groupBytes
      for (let v = 0; v < vectors; v += 2) {
        const xAt = x + v * 96 * blocks
        const yAt = y + v * stride + 64 * group
        if (vectors - v === 1) {
          if (format === 2) kernel.int8Product1(xAt, groupAt, yAt, groups, blocks, adds, stride)
          else kernel.int4Product1(xAt, groupAt, yAt, groups, blocks, adds, stride)
        } else if (format === 2) kernel.int8Product2(xAt, groupAt, yAt, groups, blocks, adds, stride)
        else kernel.int4Product2(xAt, groupAt, yAt, groups, blocks, adds, stride)
      }
    }
  }
}

/** Writes rows as floats. Words: 6 scratch, 8 weights, 9 and 10 target, 11 first row, 13 format, 14 tile, 15 all rows. */
function expandRows(
  { control, kernels, buffers, thread }: PieceContext,
  at: number,
  from: number,
  to: number,
): void {
  const block = control[at + 1] as number
  const kernel = kernels[block] as VectorKernels
  const width = control[at + 5] as number
  const scratch = ((control[at + 6] as number) >>> 0) + thread * 394240
  const w = (control[at + 8] as number) >>> 0
  const first = (control[at + 11] as number) + from
  const rows = to - from
  const format = control[at + 13] as number
  const target = new Float32Array(
    buffers[control[at + 9] as number] as SharedArrayBuffer,
    ((control[at + 10] as number) >>> 0) + 4 * from * width,
    rows * width,
  )
  const floats = new Float32Array(buffers[block] as SharedArrayBuffer, scratch, 16 * 4096)
  const columns = Math.min(4096, control[at + 14] as number)
  const allRows = control[at + 15] as number
  for (let row = 0; row < rows; row += 16) {
    const length = Math.min(16, rows - row)
    for (let tile = 0; tile < width; tile += columns) {
      const count = Math.min(columns, width - tile)
      if (format === 0) {
        for (let pair = 0; pair < length; pair += 2) {
          const pairAt = w + 4 * (2 * Math.ceil(allRows / 2) * tile + (first + row + pair) * count)
          kernel.unpairTile(pairAt, scratch + 4 * pair * count, scratch + 4 * (pair + 1) * count, count)
        }
      } else if (format === 1) {
        kernel.expandBf16(w + 2 * (allRows * tile + (first + row) * count), scratch, length * count)
      } else {
        const bytes = format === 2 ? 544 : 288
        const recordAt = w + (((first + row) / 16) * (width / 32) + tile / 32) * bytes
        if (format === 2) kernel.expandInt8(recordAt, scratch, count / 32, 4 * count)
        else kernel.expandInt4(recordAt, scratch, count / 32, 4 * count)
      }
      if (count === width) target.set(floats.subarray(0, length * width), row * width)
      else {
        for (let r = 0; r < length; r++)
          target.set(floats.subarray(r * count, (r + 1) * count), (row + r) * width + tile)
      }
    }
  }
}

/** The inverse of `expandRows`. Words: 9 and 10 source, 12 type of the source (0: float32, 1: bf16). */
function encodeRows(
  { control, kernels, buffers, thread }: PieceContext,
  at: number,
  from: number,
  to: number,
): void {
  const block = control[at + 1] as number
  const kernel = kernels[block] as VectorKernels
  const width = control[at + 5] as number
  const scratch = ((control[at + 6] as number) >>> 0) + thread * 394240
  const raw = scratch + 16 * 4096 * 4
  const codes = raw + 16 * 4096 * 2
  const w = (control[at + 8] as number) >>> 0
  const first = (control[at + 11] as number) + from
  const rows = to - from
  const format = control[at + 13] as number
  const isBf16 = control[at + 12] === 1
  const size = isBf16 ? 2 : 4
  const memory = buffers[block] as SharedArrayBuffer
  const source = new Uint8Array(
    buffers[control[at + 9] as number] as SharedArrayBuffer,
    ((control[at + 10] as number) >>> 0) + size * from * width,
    size * rows * width,
  )
  const input = isBf16 ? raw : scratch
  const bytes = new Uint8Array(memory, input, 16 * 4096 * size)
  const columns = Math.min(4096, control[at + 14] as number)
  const allRows = control[at + 15] as number
  for (let row = 0; row < rows; row += 16) {
    const length = Math.min(16, rows - row)
    for (let tile = 0; tile < width; tile += columns) {
      const count = Math.min(columns, width - tile)
      for (let r = 0; r < length; r++) {
        const sourceAt = size * ((row + r) * width + tile)
        bytes.set(source.subarray(sourceAt, sourceAt + size * count), size * r * count)
      }
      if (length < 16) bytes.fill(0, size * length * count, size * 16 * count)
      if (isBf16) kernel.expandBf16(raw, scratch, 16 * count)
      if (format === 0) {
        for (let pair = 0; pair < length; pair += 2) {
          const pairAt = w + 4 * (2 * Math.ceil(allRows / 2) * tile + (first + row + pair) * count)
          kernel.pairTile(scratch + 4 * pair * count, scratch + 4 * (pair + 1) * count, pairAt, count)
        }
      } else if (format === 1) {
        kernel.encodeBf16(scratch, w + 2 * (allRows * tile + (first + row) * count), length * count)
      } else {
        const recordAt = w + (((first + row) / 16) * (width / 32) + tile / 32) * (format === 2 ? 544 : 288)
        if (format === 2) kernel.encodeInt8(scratch, recordAt, count / 32, 4 * count, codes)
        else kernel.encodeInt4(scratch, recordAt, count / 32, 4 * count, codes)
      }
    }
  }
}

/** Source text of `runPieces` and the functions that it calls. */
export const RUN_PIECES_SOURCE = [runPieces, attendRows, multiplyRows, expandRows, encodeRows].join('\n')
