/**
 * Verifies the chunks of one file and writes them, on a thread of its own: the one that receives them does nothing
 * but receive. Knows neither the order of chunks nor what is still to come.
 */
import '../lib/node20.ts'
import { Worker } from 'node:worker_threads'
import { checkChunkHash, chunkHash, type FileRef } from '../lib/file-ref.ts'

/**
 * What the thread runs on a `Job`, answered by an `Outcome`. As text, because a thread loads files by itself and
 * would not find the TypeScript that tests run from.
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
  /** Changes hands: to copy into memory that both threads see takes four times as long. */
  readonly slot: ArrayBuffer
  /** Bytes in the slot. */
  readonly length: number
  /** Where they belong in the file. */
  readonly position: number
  readonly expected: Uint8Array
}

/** One without `got` and `failure` is written. */
interface Outcome {
  readonly number: number
  readonly slot: ArrayBuffer
  /** SHA-256 of a chunk that has another than it must. */
  readonly got?: Uint8Array
  readonly failure?: { readonly message: string; readonly code?: string }
}

/** Chunks on their way to the disk; whoever brings more waits. */
const SLOTS = 8

export class ChunkThread {
  readonly #ref: FileRef
  readonly #chunkHashes: Uint8Array
  readonly #worker: Worker
  readonly #free: ArrayBuffer[] = []
  readonly #waiting: ((slot: ArrayBuffer) => void)[] = []
  readonly #jobs = new Map<number, PromiseWithResolvers<Outcome>>()
  #slots = 0
  #number = 0
  /** Why it writes no more. */
  #ended: Error | undefined

  /** @param fd of a file that stays open until `close` has resolved. */
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
   * Write chunk `index`, given in consecutive parts, which are no longer used once this has copied them: at once
   * unless all slots are taken.
   * @throws VerificationError `wrong-digest`; what the system says of the disk.
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
      // In memory of its own: a message carries all of what a view looks into.
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

  /** To be called when no write is under way; writes no more once this has resolved. */
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
    // The process stays alive for what is under way.
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
