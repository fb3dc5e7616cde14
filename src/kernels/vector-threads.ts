/**
 * The kernels of vector-kernels.ts on several threads. A list of jobs is cut into pieces of rows; the caller
 * and the other threads take piece after piece, so a thread that the system has put aside holds up nobody but
 * its own piece. Between two lists of one token threads spin, since waking one takes longer than a small
 * matrix; then they sleep. Knows no model.
 */
import { MessageChannel, type MessagePort, receiveMessageOnPort, Worker } from 'node:worker_threads'
import {
  type Block,
  encodeJob,
  JOB_WORDS,
  type Job,
  runPieces,
  type Split,
  splitJobs,
} from './vector-jobs.ts'
import { type VectorKernels, vectorModule } from './vector-kernels.ts'
import { PAGE_BYTES } from './wasm-encode.ts'

// Words of the control array; jobs follow, 16 words each. `work` has the same numbers.
const SEQUENCE = 0
/** Low 12 bits: the next piece; the others: the list that it belongs to. */
const CLAIM = 1
const DONE = 2
const PIECES = 3
const BLOCKS = 4
const STOPPED = 5
/** Threads that sleep, or are about to. */
const ASLEEP = 6
const FIRST_JOB = 8
const MAX_PIECES = 4095
const SEQUENCE_MASK = 0xfffff

/** Looks at the counter before a thread sleeps. */
const SPINS = 50_000
/** A piece takes far less than a millisecond; a thread that is later has died. */
const PIECE_TIMEOUT_MS = 10_000

/** Program of the other threads. */
const THREAD = `
const { receiveMessageOnPort, workerData } = require('node:worker_threads')
const { control, module, thread, port } = workerData
const kernels = []
const buffers = []
let blocks = 0
let seen = 0
${runPieces.toString()}
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
      blocks++
    }
    ${runPieces.name}(control, kernels, buffers, thread, seen)
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
    const memory = new WebAssembly.Memory<SharedArrayBuffer>({ initial: pages, maximum: pages, shared: true })
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
    const cuts = splitJobs(jobs, MAX_PIECES)
    let pieces = 0
    jobs.forEach((job, i) => {
      const cut = cuts[i] as Split
      pieces += cut.pieces
      control.set(encodeJob(job, pieces, cut), FIRST_JOB + JOB_WORDS * i)
    })
    Atomics.store(control, DONE, 0)
    Atomics.store(control, PIECES, pieces)
    Atomics.store(control, CLAIM, this.#sequence << 12)
    Atomics.store(control, SEQUENCE, this.#sequence)
    // A call to the system takes longer than a small matrix.
    if (Atomics.load(control, ASLEEP) > 0) Atomics.notify(control, SEQUENCE)
    runPieces(control, this.#kernels, this.#buffers, 0, this.#sequence)
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
