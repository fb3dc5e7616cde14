/**
 * Runs the kernels of vector-kernels.ts on several threads. A list of jobs is split into pieces of rows; the caller
 * and the worker threads claim one piece after another, so a thread that the system has suspended delays only its own
 * piece. Between the lists of one token threads spin, because waking a thread takes longer than the product with a
 * small matrix; after that they sleep. Does not know models.
 */
import { MessageChannel, type MessagePort, receiveMessageOnPort, Worker } from 'node:worker_threads'
import { type PieceContext, RUN_PIECES_SOURCE, runPieces, SCRATCH_BYTES } from './run-pieces.ts'
import {
  type Block,
  countPieces,
  type EncodedJob,
  encodeJob,
  JOB_WORDS,
  type Job,
  WORD,
  withFewerPieces,
} from './vector-jobs.ts'
import { type VectorKernels, vectorModule } from './vector-kernels.ts'
import { PAGE_BYTES } from './wasm-encode.ts'

// Indices into the control array; from FIRST_JOB on it holds the encoded jobs. `runPieces` has the same numbers.
/** Number of the current list. */
const SEQUENCE = 0
/** Low 12 bits: index of the next piece to claim. Other bits: the list that it belongs to. */
const CLAIM = 1
/** Number of pieces that are computed. */
const DONE = 2
/** Number of pieces of the current list. */
const PIECES = 3
/** Number of blocks allocated so far; workers receive each as a message. */
const BLOCKS = 4
const STOPPED = 5
/** Number of threads that sleep or are about to. */
const ASLEEP = 6
/** 1 while the caller sleeps, or is about to, until the last piece is computed. */
const CALLER_ASLEEP = 7
const FIRST_JOB = 8
const MAX_PIECES = 4095
const SEQUENCE_MASK = 0xfffff

const SCRATCH_ALIGNMENT = 64
/** Maximum number of bytes of a block: 32-bit addresses, less 64 MiB for the scratch space of up to 170 threads. */
export const MAX_BLOCK_BYTES = 2 ** 32 - 2 ** 26

/** Number of times a thread checks the counter before it sleeps. */
const SPINS = 50_000
/** A piece takes far less than a millisecond; if none is completed for this long, a thread has died. */
const PIECE_TIMEOUT_MS = 10_000

/** Program of the worker threads. */
const THREAD = `
const { receiveMessageOnPort, workerData } = require('node:worker_threads')
const { control, module, thread, port } = workerData
const kernels = []
const buffers = []
const words = []
let blocks = 0
let seen = 0
${RUN_PIECES_SOURCE}
const context = { control, kernels, buffers, words, thread }
for (;;) {
  for (let spins = 0; Atomics.load(control, ${SEQUENCE}) === seen; ) {
    if (++spins <= ${SPINS}) continue
    Atomics.add(control, ${ASLEEP}, 1)
    Atomics.wait(control, ${SEQUENCE}, seen)
    Atomics.sub(control, ${ASLEEP}, 1)
  }
  seen = Atomics.load(control, ${SEQUENCE})
  if (Atomics.load(control, ${STOPPED}) === 1) break
  try {
    while (blocks < Atomics.load(control, ${BLOCKS})) {
      const { index, memory } = receiveMessageOnPort(port).message
      kernels[index] = new WebAssembly.Instance(module, { env: { memory } }).exports
      buffers[index] = memory.buffer
      words[index] = new Int32Array(memory.buffer)
      blocks++
    }
    ${runPieces.name}(context, seen)
  } catch (error) {
    port.postMessage(String(error))
  }
}
port.close()
`

/** A pool of threads, the caller among them, that computes lists of jobs in shared memory. */
export class VectorThreads {
  readonly #threads: number
  readonly #maxJobs: number
  readonly #control: Int32Array
  readonly #module = new WebAssembly.Module(vectorModule())
  readonly #workers: Worker[] = []
  readonly #ports: MessagePort[] = []
  readonly #kernels: VectorKernels[] = []
  readonly #buffers: SharedArrayBuffer[] = []
  readonly #words: Int32Array[] = []
  readonly #context: PieceContext
  #blocks = 0
  #sequence = 0

  private constructor(threads: number, maxJobs: number) {
    this.#threads = threads
    this.#maxJobs = maxJobs
    this.#control = new Int32Array(new SharedArrayBuffer(4 * (FIRST_JOB + JOB_WORDS * maxJobs)))
    const own = { kernels: this.#kernels, buffers: this.#buffers, words: this.#words, thread: 0 }
    this.#context = { control: this.#control, ...own }
  }

  /**
   * @param threads number of threads, the caller included
   * @param maxJobs maximum number of jobs in one list
   */
  static async create(threads: number, maxJobs: number): Promise<VectorThreads> {
    const pool = new VectorThreads(threads, maxJobs)
    await Promise.all(Array.from({ length: threads - 1 }, (_, i) => pool.#start(i + 1)))
    return pool
  }

  /**
   * Allocates shared memory, filled with zeros, that lives as long as this pool or until it is replaced. Scratch space
   * for the jobs of every thread follows the `bytes` that the caller uses.
   * @param replaced a block that no job will use any more; the new one takes its index
   * @throws RangeError for more than `MAX_BLOCK_BYTES`, or when the system cannot provide the memory.
   */
  block(bytes: number, replaced?: Block): Block {
    const scratch = Math.ceil(bytes / SCRATCH_ALIGNMENT) * SCRATCH_ALIGNMENT
    const pages = Math.ceil((scratch + this.#threads * SCRATCH_BYTES) / PAGE_BYTES)
    const memory = new WebAssembly.Memory<SharedArrayBuffer>({ initial: pages, maximum: pages, shared: true })
    const index = replaced?.index ?? this.#kernels.length
    const { buffer } = memory
    const { exports } = new WebAssembly.Instance(this.#module, { env: { memory } })
    const kernels = exports as VectorKernels
    this.#kernels[index] = kernels
    this.#buffers[index] = buffer
    this.#words[index] = new Int32Array(buffer)
    for (const port of this.#ports) port.postMessage({ index, memory })
    Atomics.store(this.#control, BLOCKS, ++this.#blocks)
    return { index, buffer, kernels, scratch }
  }

  /** Encodes a job that `runEncoded` will run many times. */
  encode(job: Job): EncodedJob {
    return encodeJob(job, this.#threads)
  }

  /** Same as `runEncoded`, for jobs that are run once. */
  run(jobs: readonly Job[]): void {
    this.runEncoded(jobs.map((job) => this.encode(job)))
  }

  /**
   * Computes all jobs, in any order, and returns when the last one is done. Jobs of one list must not depend on each
   * other.
   * @throws RangeError for more than `maxJobs` jobs, which is a bug of the caller; Error when a worker thread has died.
   */
  runEncoded(jobs: readonly EncodedJob[]): void {
    if (jobs.length > this.#maxJobs) {
      throw new RangeError(`expected at most ${this.#maxJobs} jobs in one list, got ${jobs.length}`)
    }
    const control = this.#control
    this.#sequence = (this.#sequence + 1) & SEQUENCE_MASK
    // From here on, a thread that is still at the previous list cannot claim a piece.
    Atomics.store(control, CLAIM, (this.#sequence << 12) | MAX_PIECES)
    const isShort = countPieces(jobs) <= MAX_PIECES
    const pieces = this.#writeJobs(isShort ? jobs : withFewerPieces(jobs, this.#threads, MAX_PIECES))
    Atomics.store(control, DONE, 0)
    Atomics.store(control, PIECES, pieces)
    Atomics.store(control, CLAIM, this.#sequence << 12)
    Atomics.store(control, SEQUENCE, this.#sequence)
    // Notify only when necessary: the system call takes longer than the product with a small matrix.
    if (Atomics.load(control, ASLEEP) > 0) Atomics.notify(control, SEQUENCE)
    runPieces(this.#context, this.#sequence)
    this.#join(pieces)
  }

  /** @returns the number of pieces of all jobs */
  #writeJobs(jobs: readonly EncodedJob[]): number {
    const control = this.#control
    let at = FIRST_JOB
    let pieces = 0
    for (const { words } of jobs) {
      // For so few words, a loop is faster than `set`.
      for (let i = 0; i < JOB_WORDS; i++) control[at + i] = words[i] as number
      pieces += words[WORD.pieces] as number
      control[at + WORD.end] = pieces
      at += JOB_WORDS
    }
    return pieces
  }

  /** Stops the worker threads. */
  async dispose(): Promise<void> {
    Atomics.store(this.#control, STOPPED, 1)
    Atomics.add(this.#control, SEQUENCE, 1)
    Atomics.notify(this.#control, SEQUENCE)
    for (const port of this.#ports.splice(0)) port.close()
    await Promise.all(this.#workers.splice(0).map((worker) => worker.terminate()))
  }

  #join(pieces: number): void {
    const control = this.#control
    for (let spins = 0; spins < SPINS; spins++) if (Atomics.load(control, DONE) === pieces) return
    // A thread that completes the last piece before it can see this has changed the counter that `wait` compares.
    Atomics.store(control, CALLER_ASLEEP, 1)
    for (;;) {
      const done = Atomics.load(control, DONE)
      if (done === pieces) break
      const outcome = Atomics.wait(control, DONE, done, PIECE_TIMEOUT_MS)
      if (outcome === 'timed-out') throw new Error(`a decoding thread stopped: ${this.#failure()}`)
    }
    Atomics.store(control, CALLER_ASLEEP, 0)
  }

  #failure(): string {
    for (const port of this.#ports) {
      const received = receiveMessageOnPort(port)
      if (received !== undefined) return String(received.message)
    }
    return `no piece was completed for ${PIECE_TIMEOUT_MS} ms`
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
    // Neither the port nor the worker keeps the process alive.
    port1.unref()
    worker.unref()
  }
}
