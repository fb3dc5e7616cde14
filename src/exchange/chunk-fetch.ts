/**
 * Fetches the missing chunks of one file from several providers at once, in runs of consecutive chunks. Does not
 * choose the providers and does not know how fast each one is.
 */
import type { PeerIdString } from '../identity/keys.ts'
import { concatBytes, equalBytes, sha256 } from '../lib/bytes.ts'
import { FormatError, VerificationError } from '../lib/errors.ts'
import { chunkCount, chunkHash, chunkLength, type FileRef } from '../lib/file-ref.ts'
import type { Asker } from '../network/network.ts'
import type { PartialBlob } from '../store/partial-blob.ts'
import { askChunks, CHUNKS_PER_REQUEST } from './blob.ts'
import { type FileSources, isProviderFault } from './file-sources.ts'

/** Number of requests in flight with one provider: the next is sent while the current answer arrives. */
const REQUESTS_OF_ONE = 2
/** Maximum number of providers that are asked at the same time; more do not fill a connection better. */
const MAX_PROVIDERS = 4
/** Minimum number of chunks in a request. Smaller requests would cost more than they gain by ending together. */
const MIN_CHUNKS = 4
/** Maximum number of verified chunks of one answer that wait for the disk. More make the network wait. */
const UNWRITTEN_CHUNKS = 4

export interface FetchProgress {
  readonly doneChunks: number
  readonly totalChunks: number
}

export interface ChunkFetchInit {
  readonly network: Asker
  readonly sources: FileSources
  readonly ref: FileRef
  /** Chunk hashes, checked against `ref`. */
  readonly hashes: Uint8Array
  readonly partial: PartialBlob
  readonly signal: AbortSignal
  readonly onProgress?: (progress: FetchProgress) => void
}

/** Used once. */
export class ChunkFetch {
  readonly #init: ChunkFetchInit
  /** Indices of the chunks that are not requested from anybody, ascending. */
  readonly #missing: number[]
  readonly #unwritten: Set<number>
  /** Providers that were asked for a chunk and have not answered. */
  readonly #askedFor = new Map<number, Set<PeerIdString>>()
  readonly #running = new Map<Promise<void>, PeerIdString>()
  /** Ends all requests: everything is written, or this node's own disk failed, or the signer lied. */
  readonly #over = new AbortController()
  readonly #signal: AbortSignal
  readonly #ended = Promise.withResolvers<void>()
  /** Error that no other provider can mend. */
  #failure: { readonly error: unknown } | undefined

  constructor(init: ChunkFetchInit) {
    this.#init = init
    this.#missing = init.partial.missing()
    this.#unwritten = new Set(this.#missing)
    this.#signal = AbortSignal.any([init.signal, this.#over.signal])
  }

  /** Resolves once every chunk is written. */
  async run(): Promise<void> {
    const { sources, signal } = this.#init
    this.#report()
    sources.onTick(() => this.#step())
    this.#step()
    await this.#ended.promise
    await Promise.all(this.#running.keys())
    if (this.#failure !== undefined) throw this.#failure.error
    signal.throwIfAborted()
    if (this.#unwritten.size > 0) throw sources.failure
  }

  /** Start as many requests as make sense now, or end the fetch. */
  #step(): void {
    while (!this.#isOver()) {
      const next = this.#nextRequest()
      if (next === undefined) break
      const { peer, run } = next
      const request = this.#fetchRun(peer, run).finally(() => {
        this.#running.delete(request)
        this.#step()
      })
      this.#running.set(request, peer)
    }
    const isStuck = this.#running.size === 0
    if (!this.#isOver() && !isStuck) return
    this.#over.abort()
    this.#ended.resolve()
  }

  #isOver(): boolean {
    return this.#unwritten.size === 0 || this.#signal.aborted
  }

  /** The provider with the fewest requests that has something to do. Suspect ones get work only if no other is left. */
  #nextRequest(): { peer: PeerIdString; run: readonly number[] } | undefined {
    const { sources } = this.#init
    const usable = sources.usable()
    const good = usable.filter((peer) => !sources.isSuspect(peer)).slice(0, MAX_PROVIDERS)
    const peers = good.length > 0 ? good : usable.slice(0, MAX_PROVIDERS)
    const each = peers.length === 1 ? REQUESTS_OF_ONE : 1
    const requestsOf = (peer: PeerIdString): number =>
      [...this.#running.values()].filter((other) => other === peer).length
    for (const peer of peers) {
      if (requestsOf(peer) >= each) continue
      const run = this.#take(peer, peers.length * each)
      if (run.length > 0) return { peer, run }
    }
    return undefined
  }

  /** Chunks for one request: nobody was asked for them, or only providers that send little or nothing. */
  #take(peer: PeerIdString, requests: number): readonly number[] {
    // Half of a fair share, so that all requests end at about the same time.
    const share = Math.max(MIN_CHUNKS, Math.ceil(this.#missing.length / (2 * requests)))
    const run = this.#missing.length > 0 ? takeRun(this.#missing, share) : this.#stalled(peer, share)
    for (const index of run) {
      const asked = this.#askedFor.get(index) ?? new Set()
      this.#askedFor.set(index, asked.add(peer))
    }
    return run
  }

  #stalled(peer: PeerIdString, most: number): readonly number[] {
    const { sources } = this.#init
    const stalled = [...this.#askedFor]
      .filter(([, asked]) => !asked.has(peer) && [...asked].every((other) => sources.isSuspect(other)))
      .map(([index]) => index)
      .sort((a, b) => a - b)
    return stalled.length === 0 ? [] : takeRun(stalled, most)
  }

  /** Fetch consecutive chunks from one provider. Never rejects. */
  async #fetchRun(peer: PeerIdString, run: readonly number[]): Promise<void> {
    const { sources } = this.#init
    try {
      await this.#receive(peer, run)
      sources.delivered(peer)
    } catch (error) {
      if (this.#signal.aborted) return
      if (isProviderFault(error)) sources.drop(peer, error)
      else this.#fail(error)
    } finally {
      this.#giveBack(peer, run)
    }
  }

  async #receive(peer: PeerIdString, run: readonly number[]): Promise<void> {
    const { network, sources, ref } = this.#init
    const { sha256: digest, chunkSize } = ref
    const request = { digest, first: run[0] as number, count: run.length, chunkSize }
    const writes: Promise<void>[] = []
    try {
      const question = (signal: AbortSignal, onBytes: (count: number) => void) =>
        askChunks(network, peer, request, signal, onBytes)
      for await (const parts of sources.ask(peer, question, this.#signal)) {
        const index = run[writes.length]
        if (index === undefined)
          throw new FormatError('bad-field', `${peer}: sent more chunks than requested`)
        const write = this.#write(index, parts)
        write.catch(() => undefined) // Not lost: `writes` is awaited after more chunks were read.
        writes.push(write)
        await writes[writes.length - UNWRITTEN_CHUNKS]
      }
      await Promise.all(writes)
      const early = run.length - writes.length
      if (early > 0) {
        throw new VerificationError('wrong-digest', `${peer}: the answer ended ${early} chunks early`)
      }
    } finally {
      await Promise.allSettled(writes)
    }
  }

  async #write(index: number, parts: readonly Uint8Array[]): Promise<void> {
    this.#checkSigner(index, parts)
    await this.#init.partial.writeChunk(index, parts)
    if (this.#unwritten.delete(index)) this.#report()
    if (this.#unwritten.size === 0) this.#step()
  }

  /**
   * A chunk of another length than the size in the reference implies can only be right if the signer lied about the
   * size. Ends the fetch if so.
   */
  #checkSigner(index: number, parts: readonly Uint8Array[]): void {
    const { ref, hashes } = this.#init
    const length = parts.reduce((sum, part) => sum + part.length, 0)
    if (length === chunkLength(ref, index)) return
    if (!equalBytes(sha256(concatBytes(...parts)), chunkHash(hashes, index))) return
    const message = `chunk ${index}: its signer's hash fits ${length} bytes, its signer's size ${chunkLength(ref, index)}`
    this.#fail(new VerificationError('wrong-digest', message, { file: ref.sha256 }))
  }

  #fail(error: unknown): void {
    this.#failure ??= { error }
    this.#over.abort(error)
  }

  /** A request has ended: those of its chunks that are not written are missing again, unless another holds them. */
  #giveBack(peer: PeerIdString, run: readonly number[]): void {
    for (const index of run) {
      const asked = this.#askedFor.get(index)
      asked?.delete(peer)
      if (asked !== undefined && asked.size > 0) continue
      this.#askedFor.delete(index)
      if (this.#unwritten.has(index)) this.#missing.push(index)
    }
    this.#missing.sort((a, b) => a - b)
  }

  #report(): void {
    const { ref, onProgress } = this.#init
    const totalChunks = chunkCount(ref)
    onProgress?.({ doneChunks: totalChunks - this.#unwritten.size, totalChunks })
  }
}

/** Remove at most `most` consecutive chunk indices from the start of `indices`. */
function takeRun(indices: number[], most: number): number[] {
  let count = 1
  while (count < Math.min(most, CHUNKS_PER_REQUEST) && indices[count] === (indices[0] as number) + count)
    count++
  return indices.splice(0, count)
}
