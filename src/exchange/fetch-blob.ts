/**
 * Fetches one file from several members at once, in runs of chunks. Each chunk is verified before it is written, and
 * a later fetch continues with the chunks that are missing. Does not know what the file is.
 */
import { ExchangeError, FlexMeshError, FormatError, VerificationError } from '../lib/errors.ts'
import { checkChunkHashes, type FileRef } from '../lib/file-ref.ts'
import type { Asker } from '../network/network.ts'
import type { BlobStore } from '../store/blob-store.ts'
import type { PartialBlob } from '../store/partial-blob.ts'
import { askChunkHashes, askChunks, CHUNKS_PER_REQUEST } from './blob.ts'

/** Minimum number of requests in flight, even with one provider: the next is sent while the current answer arrives. */
const MIN_REQUESTS = 2
/** Minimum number of chunks in a request. Smaller requests would cost more than they gain by ending together. */
const MIN_CHUNKS = 4
/** Maximum number of verified chunks of one answer that wait for the disk. More make the network wait. */
const UNWRITTEN_CHUNKS = 4

export interface FetchProgress {
  readonly doneChunks: number
  readonly totalChunks: number
}

/**
 * Fetch a file into the store from any of `providers`. Does nothing when the store has the file. A provider that
 * sends a wrong chunk or stops answering is not asked again; an error of this node's own disk ends the fetch.
 * @throws ExchangeError `aborted`; the error of the disk; the error of the last provider when none is left, always an
 * ExchangeError; VerificationError `wrong-digest` only if right chunks make a wrong file, a lie of the signer of `ref`.
 */
export async function fetchBlob(
  network: Asker,
  blobs: BlobStore,
  ref: FileRef,
  providers: readonly string[],
  options: { readonly signal: AbortSignal; readonly onProgress?: (progress: FetchProgress) => void },
): Promise<void> {
  if (await blobs.has(ref.sha256)) return
  const usable = new Set(providers)
  const hashes = await fetchHashes(network, ref, usable, options.signal)
  const partial = await blobs.beginPartial(ref, hashes)
  try {
    await new ChunkFetch(network, ref, partial, usable, options).run()
    await partial.complete()
  } finally {
    await partial.close()
  }
}

/** The chunk hashes from the first provider that sends the right ones; the others are removed from `usable`. */
async function fetchHashes(
  network: Asker,
  ref: FileRef,
  usable: Set<string>,
  signal: AbortSignal,
): Promise<Uint8Array> {
  let failure: unknown = new ExchangeError('unreachable', `no member that holds ${ref.sha256} is connected`)
  for (const peer of [...usable]) {
    try {
      const hashes = await askChunkHashes(network, peer, ref.sha256, signal)
      checkChunkHashes(ref, hashes)
      return hashes
    } catch (error) {
      if (signal.aborted) throw aborted(ref, error)
      failure =
        error instanceof FlexMeshError
          ? asExchangeError(error)
          : new ExchangeError('unreachable', `${peer} does not answer`, {}, error)
      usable.delete(peer)
    }
  }
  throw failure
}

/** Fetches the missing chunks of one file. Used once. */
class ChunkFetch {
  readonly #network: Asker
  readonly #ref: FileRef
  readonly #partial: PartialBlob
  readonly #usable: Set<string>
  readonly #onProgress: (progress: FetchProgress) => void
  readonly #totalChunks: number
  /** Indices of the chunks that are not requested yet, ascending. */
  readonly #missing: number[]
  #doneChunks: number
  readonly #caller: AbortSignal
  /** Ends the other requests when this node's own disk fails. */
  readonly #local = new AbortController()
  /** Aborted by the caller or by a failed disk. */
  readonly #signal: AbortSignal
  #failure: unknown

  constructor(
    network: Asker,
    ref: FileRef,
    partial: PartialBlob,
    usable: Set<string>,
    options: { readonly signal: AbortSignal; readonly onProgress?: (progress: FetchProgress) => void },
  ) {
    this.#network = network
    this.#ref = ref
    this.#partial = partial
    this.#usable = usable
    this.#onProgress = options.onProgress ?? (() => undefined)
    this.#totalChunks = Math.ceil(ref.size / ref.chunkSize)
    this.#missing = partial.missing()
    this.#doneChunks = this.#totalChunks - this.#missing.length
    this.#caller = options.signal
    this.#signal = AbortSignal.any([options.signal, this.#local.signal])
  }

  /** Resolves once every chunk is written. */
  async run(): Promise<void> {
    this.#report()
    while (this.#missing.length > 0 && this.#usable.size > 0) {
      const peers = [...this.#usable]
      const requests = Math.max(MIN_REQUESTS, peers.length)
      await Promise.all(
        Array.from({ length: requests }, (_, i) =>
          this.#fetchFrom(peers[i % peers.length] as string, requests),
        ),
      )
      if (this.#local.signal.aborted) throw this.#local.signal.reason
      if (this.#caller.aborted) throw aborted(this.#ref, this.#failure)
    }
    if (this.#missing.length > 0) throw this.#failure
  }

  /** Request runs of chunks from one provider until none is missing or the provider fails. Never rejects. */
  async #fetchFrom(peer: string, requests: number): Promise<void> {
    while (this.#missing.length > 0 && this.#usable.has(peer) && !this.#signal.aborted) {
      try {
        // Half of a fair share, so that all requests end at about the same time.
        const share = Math.max(MIN_CHUNKS, Math.ceil(this.#missing.length / (2 * requests)))
        await this.#fetchRun(peer, takeRun(this.#missing, share))
      } catch (error) {
        if (!isProviderFault(error)) this.#local.abort(error)
        this.#failure = asExchangeError(error)
        this.#usable.delete(peer)
      }
    }
  }

  /** Fetch consecutive chunks. Those that are not written afterwards are missing again. */
  async #fetchRun(peer: string, run: readonly number[]): Promise<void> {
    const { sha256: digest, chunkSize } = this.#ref
    const request = { digest, first: run[0] as number, count: run.length, chunkSize }
    let next = 0
    const writes: Promise<void>[] = []
    const unwritten = new Set(run)
    try {
      for await (const parts of askChunks(this.#network, peer, request, this.#signal)) {
        const index = run[next]
        if (index === undefined) break
        next++
        const write = this.#partial.writeChunk(index, parts).then(() => {
          unwritten.delete(index)
          this.#doneChunks++
          this.#report()
        })
        write.catch(() => undefined) // Not lost: `writes` is awaited after more chunks were read.
        writes.push(write)
        await writes[next - UNWRITTEN_CHUNKS]
      }
      await Promise.all(writes)
      if (next < run.length) {
        const message = `${peer}: the answer ended ${run.length - next} chunks early`
        throw new VerificationError('wrong-digest', message)
      }
    } finally {
      await Promise.allSettled(writes)
      if (unwritten.size > 0) {
        this.#missing.push(...unwritten)
        this.#missing.sort((a, b) => a - b)
      }
    }
  }

  #report(): void {
    this.#onProgress({ doneChunks: this.#doneChunks, totalChunks: this.#totalChunks })
  }
}

/** Remove at most `most` consecutive chunk indices from the start of `missing`. */
function takeRun(missing: number[], most: number): number[] {
  let count = 1
  while (count < Math.min(most, CHUNKS_PER_REQUEST) && missing[count] === (missing[0] as number) + count)
    count++
  return missing.splice(0, count)
}

/** Whether an error comes from what a provider sent or did not send, and not from this node. */
function isProviderFault(error: unknown): boolean {
  return error instanceof ExchangeError || error instanceof FormatError || error instanceof VerificationError
}

/**
 * A wrong or malformed answer proves something about the provider that sent it and nothing about the signer of the
 * package, so it must not look like a fault of the package.
 */
function asExchangeError(error: unknown): unknown {
  const isWrongAnswer = error instanceof FormatError || error instanceof VerificationError
  return isWrongAnswer ? new ExchangeError('protocol', error.message, {}, error) : error
}

function aborted(ref: FileRef, cause: unknown): ExchangeError {
  return new ExchangeError('aborted', `${ref.sha256}: the fetch was aborted`, { file: ref.sha256 }, cause)
}
