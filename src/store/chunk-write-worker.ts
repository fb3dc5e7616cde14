/**
 * Verifies the chunks of one file and writes them on a worker thread, so that the main thread only receives. Knows
 * neither the order of chunks nor which ones are missing.
 */
import '../lib/node20.ts'
import { Worker } from 'node:worker_threads'
import { checkChunkHash, chunkHash, type FileRef } from '../lib/file-ref.ts'

/**
 * Source of the thread, which answers each `Job` with an `Outcome`. It is a string because a thread loads its own
 * files, and tests run from TypeScript that it could not load.
 */
const THREAD = `
const { parentPort, workerData } = require('node:worker_threads')
const { writeSync } = require('node:fs')
const { createHash } = require('node:crypto')
const verifyAndWrite = ({ slot, length, position, expected }) => {
  const bytes = Buffer.from(slot, 0, length)
  const got = createHash('sha256').update(bytes).digest()
  if (got.compare(expected) !== 0) return { got }
  try {
    let done = 0
    while (done < length) done += writeSync(workerData.fd, bytes, done, length - done, position + done)
    return {}
  } catch ({ message, code }) {
    return { failure: { message, code } }
  }
}
parentPort.on('message', (job) => {
  const { number, slot } = job
  parentPort.postMessage({ number, slot, ...verifyAndWrite(job) }, [slot])
})
`

interface Job {
  readonly number: number
  /** Buffer that moves to the thread and back: copying into shared memory takes four times as long. */
  readonly slot: ArrayBuffer
  /** Bytes in the slot. */
  readonly length: number
  /** Offset in the file. */
  readonly position: number
  readonly expected: Uint8Array
}

/** The chunk was written unless `got` or `failure` is set. */
interface Outcome {
  readonly number: number
  readonly slot: ArrayBuffer
  /** SHA-256 of the chunk, if it is not the expected one. */
  readonly got?: Uint8Array
  readonly failure?: { readonly message: string; readonly code?: string }
}

/** Maximum number of chunks in memory; further writes wait for a free buffer. */
const SLOTS = 8

export class ChunkWriteWorker {
  readonly #ref: FileRef
  readonly #chunkHashes: Uint8Array
  readonly #worker: Worker
  readonly #free: ArrayBuffer[] = []
  readonly #waiting: ((slot: ArrayBuffer) => void)[] = []
  readonly #jobs = new Map<number, PromiseWithResolvers<Outcome>>()
  #slots = 0
  #number = 0
  /** Why the thread has ended. */
  #ended: Error | undefined

  /** @param fd descriptor of a file that stays open until `close` has resolved. */
  constructor(fd: number, ref: FileRef, chunkHashes: Uint8Array) {
    this.#ref = ref
    this.#chunkHashes = chunkHashes
    this.#worker = new Worker(THREAD, { eval: true, workerData: { fd } })
    this.#worker.unref()
    this.#worker.on('message', (outcome: Outcome) => this.#jobs.get(outcome.number)?.resolve(outcome))
    this.#worker.on('error', (error) => this.#end(error))
    this.#worker.on('exit', () => this.#end(new Error('the thread that writes a file has ended')))
  }

  /**
   * Write chunk `index`, given as consecutive parts. The parts are copied before this returns, unless all buffers are
   * taken; then when one is free.
   * @throws VerificationError `wrong-digest`; the system's error with its `code`.
   */
  async write(index: number, parts: readonly Uint8Array[]): Promise<void> {
    let slot = this.#freeSlot() ?? (await new Promise<ArrayBuffer>((take) => this.#waiting.push(take)))
    try {
      if (this.#ended !== undefined) throw this.#ended
      const bytes = new Uint8Array(slot)
      let length = 0
      for (const part of parts) {
        bytes.set(part, length)
        length += part.length
      }
      const position = index * this.#ref.chunkSize
      // A copy: a message would carry the whole buffer behind a view.
      const expected = new Uint8Array(chunkHash(this.#chunkHashes, index))
      const outcome = await this.#run({ slot, length, position, expected })
      slot = outcome.slot
      const { got, failure } = outcome
      if (got !== undefined) checkChunkHash(this.#ref, this.#chunkHashes, index, got)
      if (failure !== undefined) throw Object.assign(new Error(failure.message), { code: failure.code })
    } finally {
      const next = this.#waiting.shift()
      if (next === undefined) this.#free.push(slot)
      else next(slot)
    }
  }

  /** End the thread. Call it when no write is under way; nothing is written once this has resolved. */
  async close(): Promise<void> {
    await this.#worker.terminate()
  }

  #freeSlot(): ArrayBuffer | undefined {
    const free = this.#free.pop()
    if (free !== undefined || this.#slots === SLOTS) return free
    this.#slots++
    return new ArrayBuffer(this.#ref.chunkSize)
  }

  async #run(job: Omit<Job, 'number'>): Promise<Outcome> {
    const number = this.#number++
    const done = Promise.withResolvers<Outcome>()
    this.#jobs.set(number, done)
    // The process stays alive while a job is under way.
    this.#worker.ref()
    this.#worker.postMessage({ number, ...job } satisfies Job, [job.slot])
    try {
      return await done.promise
    } finally {
      this.#jobs.delete(number)
      if (this.#jobs.size === 0) this.#worker.unref()
    }
  }

  #end(error: Error): void {
    this.#ended ??= error
    for (const job of this.#jobs.values()) job.reject(this.#ended)
  }
}
