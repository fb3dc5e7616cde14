/**
 * The kernels of vector-kernels.ts on several threads. A list of jobs is cut into pieces of rows; the caller
 * and the other threads take piece after piece, so a thread that the system has put aside holds up nobody but
 * its own piece. Between two lists of one token threads spin, since waking one takes longer than a small
 * matrix; then they sleep. Knows no model.
 */
import { MessageChannel, type MessagePort, receiveMessageOnPort, Worker } from 'node:worker_threads'
import { PAGE_BYTES, type VectorKernels, vectorModule } from './vector-kernels.ts'

/** Memory that every thread and its kernels see. */
export interface Block {
  readonly index: number
  readonly buffer: SharedArrayBuffer
  /** The caller's own kernels, for work that is too small to share. */
  readonly kernels: VectorKernels
}

interface RowJob {
  readonly block: Block
  /** Address of one vector as it is, or of `groups` times four interleaved, each group behind the one before. */
  readonly x: number
  readonly rows: number
  readonly width: number
  /** 0 for one vector. */
  readonly groups: number
}

/** Every address is a byte of the block's memory; results lie as the vectors do. */
export type Job =
  /** y = W x. */
  | (RowJob & { readonly kind: 'product'; readonly w: number; readonly y: number })
  /** y = silu(G x) * (U x); `up` is room for U x. */
  | (RowJob & {
      readonly kind: 'gated'
      readonly gateWeights: number
      readonly upWeights: number
      readonly y: number
      readonly up: number
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

// Words of the control array; jobs follow, 16 words each. `work` has the same numbers.
const SEQUENCE = 0
/** Low 12 bits: the next piece; the others: the list that it belongs to. */
const CLAIM = 1
const DONE = 2
const PIECES = 3
const BLOCKS = 4
const STOPPED = 5
const FIRST_JOB = 8
const JOB_WORDS = 16
const MAX_PIECES = 4095
const SEQUENCE_MASK = 0xfffff

/** Pieces of a job: enough to share evenly, none so small that taking it counts. */
const PIECES_PER_JOB = 16
const MIN_PIECE_BYTES = 32 * 1024
const MAX_PIECE_BYTES = 512 * 1024

/** Some 0.1 ms. */
const SPINS = 50_000
/** A piece takes far less than a millisecond; a thread that is later has died. */
const PIECE_TIMEOUT_MS = 10_000

/**
 * Take pieces of one list until none is left. Its text is also the other threads' program, so it uses
 * nothing but its arguments and globals, and has no function inside.
 */
function work(
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
    const groups = control[at + 6] as number
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
        const sequenceRow = Math.floor(row / groups)
        const head = sequenceRow * shared + Math.floor(((row % groups) * shared) / groups)
        const past = head * (control[at + 14] as number) * width * 4
        const length = new Int32Array(
          buffers[block] as SharedArrayBuffer,
          e + 4 * sequenceRow,
          1,
        )[0] as number
        own.product1(a + row * width * 4, c + past, scores, length, width)
        own.mix(scores, d + past, b + row * width * 4, length, width, 1 / Math.sqrt(width))
      }
    } else if (groups === 0) {
      own.product1(a, b + 4 * from * width, c + 4 * from, to - from, width)
      if (control[at] === 1) {
        own.product1(a, d + 4 * from * width, e + 4 * from, to - from, width)
        own.gated(c + 4 * from, e + 4 * from, to - from)
      }
    } else {
      const stride = 4 * Math.ceil(rows / 4)
      // A few rows at a time stay in the nearest cache while every group of vectors passes them.
      const near = Math.max(4, 4 * Math.floor(1024 / width))
      for (let row = from; row < to; row += near) {
        const length = Math.min(near, to - row)
        for (let group = 0; group < groups; group++) {
          const x = a + 16 * group * width
          const y = 16 * (group * stride + row)
          own.product4(x, b + 4 * row * width, c + y, length, width)
          if (control[at] === 1) {
            own.product4(x, d + 4 * row * width, e + y, length, width)
            own.gated(c + y, e + y, 4 * length)
          }
        }
      }
    }
    if (Atomics.add(control, 2, 1) + 1 === pieces) Atomics.notify(control, 2)
  }
}

/** Program of the other threads. */
const THREAD = `
const { receiveMessageOnPort, workerData } = require('node:worker_threads')
const { control, module, thread, port } = workerData
const kernels = []
const buffers = []
let blocks = 0
let seen = 0
${work.toString()}
for (;;) {
  for (let spins = 0; Atomics.load(control, ${SEQUENCE}) === seen; ) {
    if (++spins > ${SPINS}) Atomics.wait(control, ${SEQUENCE}, seen)
  }
  seen = Atomics.load(control, ${SEQUENCE})
  if (Atomics.load(control, ${STOPPED}) === 1) break
  try {
    while (blocks < Atomics.load(control, ${BLOCKS})) {
      const { index, memory } = receiveMessageOnPort(port).message
      kernels[index] = new WebAssembly.Instance(module, { env: { memory } }).exports
      buffers[index] = memory.buffer
      blocks++
    }
    ${work.name}(control, kernels, buffers, thread, seen)
  } catch (error) {
    port.postMessage(String(error))
  }
}
port.close()
`

export class VectorThreads {
  readonly #maxJobs: number
  readonly #control: Int32Array
  readonly #module = new WebAssembly.Module(vectorModule())
  readonly #workers: Worker[] = []
  readonly #ports: MessagePort[] = []
  readonly #kernels: VectorKernels[] = []
  readonly #buffers: SharedArrayBuffer[] = []
  #blocks = 0
  #sequence = 0

  private constructor(maxJobs: number) {
    this.#maxJobs = maxJobs
    this.#control = new Int32Array(new SharedArrayBuffer(4 * (FIRST_JOB + JOB_WORDS * maxJobs)))
  }

  /** @param maxJobs longest list of jobs. */
  static async create(threads: number, maxJobs: number): Promise<VectorThreads> {
    const made = new VectorThreads(maxJobs)
    await Promise.all(Array.from({ length: threads - 1 }, (_, i) => made.#start(i + 1)))
    return made
  }

  /**
   * New memory, for good or in place of a block that is no longer used.
   * @throws RangeError over 4 GiB, or where the system has no such room.
   */
  block(bytes: number, replaced?: Block): Block {
    const pages = Math.ceil(bytes / PAGE_BYTES)
    const memory = new WebAssembly.Memory({ initial: pages, maximum: pages, shared: true })
    const index = replaced?.index ?? this.#kernels.length
    const { buffer } = memory
    const { exports } = new WebAssembly.Instance(this.#module, { env: { memory } })
    const kernels = exports as VectorKernels
    this.#kernels[index] = kernels
    this.#buffers[index] = buffer
    for (const port of this.#ports) port.postMessage({ index, memory })
    Atomics.store(this.#control, BLOCKS, ++this.#blocks)
    return { index, buffer, kernels }
  }

  /** Do all jobs, in any order; returns when the last is done. @throws RangeError for a list too long: a bug of the caller. */
  run(jobs: readonly Job[]): void {
    if (jobs.length > this.#maxJobs) {
      throw new RangeError(`${jobs.length} jobs in one list, at most ${this.#maxJobs}`)
    }
    const control = this.#control
    this.#sequence = (this.#sequence + 1) & SEQUENCE_MASK
    // From here on a thread that comes late from the list before can take nothing.
    Atomics.store(control, CLAIM, (this.#sequence << 12) | MAX_PIECES)
    let pieces = 0
    jobs.forEach((job, i) => {
      const cut = cutOf(job)
      pieces += cut.pieces
      control.set(wordsOf(job, pieces, cut), FIRST_JOB + JOB_WORDS * i)
    })
    if (pieces > MAX_PIECES) throw new RangeError(`${pieces} pieces in one list, at most ${MAX_PIECES}`)
    Atomics.store(control, DONE, 0)
    Atomics.store(control, PIECES, pieces)
    Atomics.store(control, CLAIM, this.#sequence << 12)
    Atomics.store(control, SEQUENCE, this.#sequence)
    if (this.#workers.length > 0) Atomics.notify(control, SEQUENCE)
    work(control, this.#kernels, this.#buffers, 0, this.#sequence)
    this.#join(pieces)
  }

  async dispose(): Promise<void> {
    Atomics.store(this.#control, STOPPED, 1)
    Atomics.add(this.#control, SEQUENCE, 1)
    Atomics.notify(this.#control, SEQUENCE)
    for (const port of this.#ports.splice(0)) port.close()
    await Promise.all(this.#workers.splice(0).map((worker) => worker.terminate()))
  }

  #join(pieces: number): void {
    const control = this.#control
    for (let spins = 0; ; spins++) {
      const done = Atomics.load(control, DONE)
      if (done === pieces) return
      if (spins < SPINS) continue
      const outcome = Atomics.wait(control, DONE, done, PIECE_TIMEOUT_MS)
      if (outcome === 'timed-out') throw new Error(`a decoding thread stopped: ${this.#failure()}`)
    }
  }

  #failure(): string {
    for (const port of this.#ports) {
      const received = receiveMessageOnPort(port)
      if (received !== undefined) return String(received.message)
    }
    return 'it does not answer'
  }

  async #start(thread: number): Promise<void> {
    const { port1, port2 } = new MessageChannel()
    const workerData = { control: this.#control, module: this.#module, thread, port: port2 }
    const worker = new Worker(THREAD, { eval: true, workerData, transferList: [port2] })
    this.#workers.push(worker)
    this.#ports.push(port1)
    await new Promise<void>((resolve, reject) => {
      worker.once('online', resolve)
      worker.once('error', reject)
    })
    // Neither keeps the process alive while it waits.
    port1.unref()
    worker.unref()
  }
}

interface Cut {
  readonly pieces: number
  readonly rows: number
}

/** Pieces of whole groups of four rows, so that every interleaved group has one owner. */
function cutOf(job: Job): Cut {
  if (job.kind === 'attend') {
    const pieces = job.sequences * job.heads
    // At most as many as a list can have beside others.
    const rows = Math.ceil(pieces / 1024)
    return { pieces: Math.ceil(pieces / rows), rows }
  }
  const rowBytes = 4 * job.width * (job.kind === 'gated' ? 2 : 1)
  const bytes = Math.min(MAX_PIECE_BYTES, Math.max(MIN_PIECE_BYTES, (rowBytes * job.rows) / PIECES_PER_JOB))
  const rows = 4 * Math.max(1, Math.floor(bytes / rowBytes / 4))
  return { pieces: Math.ceil(job.rows / rows), rows }
}

/** @param end number of the piece behind the job's last. */
function wordsOf(job: Job, end: number, cut: Cut): number[] {
  const { block } = job
  const count = [block.index, end, cut.pieces] as const
  if (job.kind === 'attend') {
    const { q, out, keys, values, lengths, scores, positions, keyValueHeads } = job
    const head = [2, ...count, job.sequences * job.heads, job.width, job.heads, cut.rows]
    return [...head, q, out, keys, values, lengths, scores, positions, keyValueHeads]
  }
  const { x, rows, width, groups } = job
  if (job.kind === 'product') return [0, ...count, rows, width, groups, cut.rows, x, job.w, job.y]
  return [1, ...count, rows, width, groups, cut.rows, x, job.gateWeights, job.y, job.upWeights, job.up]
}
