/**
 * Computes the SHA-256 of a file while it is being written. A worker thread hashes behind the writer, so that the
 * digest is ready soon after the last byte. Knows nothing about chunks.
 */
import '../lib/node20.ts'
import { Worker } from 'node:worker_threads'
import type { Digest } from '../lib/bytes.ts'

/**
 * Source of the thread. A message `{ to, last }` says that the bytes below offset `to` are written. The source is a
 * string because a thread loads its own files, and tests run from TypeScript that it could not load.
 */
const THREAD = `
const { parentPort, workerData } = require('node:worker_threads')
const { readSync } = require('node:fs')
const hash = require('node:crypto').createHash('sha256')
const buffer = Buffer.allocUnsafeSlow(workerData.readBytes)
let at = 0
parentPort.on('message', ({ to, last }) => {
  while (at < to) {
    const length = readSync(workerData.fd, buffer, 0, Math.min(buffer.length, to - at), at)
    if (length === 0) break
    hash.update(buffer.subarray(0, length))
    at += length
  }
  if (last) parentPort.postMessage('sha256:' + hash.digest('hex'))
})
`
const READ_BYTES = 2 ** 18

export class FileHashWorker {
  readonly #worker: Worker
  readonly #digest = Promise.withResolvers<Digest>()

  /** @param fd descriptor of a file that stays open until `close` has resolved. */
  constructor(fd: number) {
    this.#worker = new Worker(THREAD, { eval: true, workerData: { fd, readBytes: READ_BYTES } })
    this.#worker.unref()
    this.#worker.on('message', (digest: Digest) => this.#digest.resolve(digest))
    this.#worker.on('error', (error) => this.#digest.reject(error))
    this.#worker.on('exit', () => this.#digest.reject(new Error('the thread that hashes a file has ended')))
    this.#digest.promise.catch(() => undefined)
  }

  /** Hash on: the bytes below offset `to` are written and will not change. */
  advance(to: number): void {
    this.#worker.postMessage({ to, last: false })
  }

  /** Digest of the bytes below offset `to`. Can be called once. */
  async finish(to: number): Promise<Digest> {
    this.#worker.ref()
    this.#worker.postMessage({ to, last: true })
    return this.#digest.promise
  }

  /** End the thread; it reads nothing once this has resolved. */
  async close(): Promise<void> {
    await this.#worker.terminate()
  }
}
