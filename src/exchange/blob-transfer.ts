/**
 * Moving files in 1 MiB chunks: serving those that we hold, and fetching one from several members at
 * once, each chunk verified before it is written, resumable across restarts. Knows no manifest.
 */
import { BufferPool } from '../lib/buffer-pool.ts'
import { ExchangeError, FlexMeshError, VerificationError } from '../lib/errors.ts'
import type { FileRef } from '../lib/file-ref.ts'
import { limit } from '../lib/limits.ts'
import type { BlobStore } from '../store/blob-store.ts'
import type { PartialBlob } from '../store/partial-blob.ts'
import {
  type BlobRequest,
  CHUNKS_PER_REQUEST,
  decodeBytesFrame,
  decodeBytesParts,
  encodeBlobRequest,
  firstFrame,
  requireFrame,
} from './messages.ts'
import { PROTOCOLS } from './protocols.ts'

/** Frames of one answered blob request. */
export type AskBlob = (
  peer: string,
  request: unknown,
  signal: AbortSignal,
) => AsyncGenerator<unknown, void, void>

const CHUNK_BUFFERS = new BufferPool(limit('chunkBytes'), 16)

/**
 * Frames of the answer; the bytes of one are overwritten once the next is asked for.
 * @throws ExchangeError `not-found`.
 */
export async function* serveBlob(
  blobs: BlobStore,
  request: BlobRequest,
  signal: AbortSignal,
): AsyncGenerator<unknown, void, void> {
  if (!(await blobs.has(request.digest))) throw new ExchangeError('not-found', `no file ${request.digest}`)
  if (request.kind === 'hashes') {
    yield { bytes: await blobs.chunkHashes(request.digest) }
    return
  }
  const chunk = limit('chunkBytes')
  const size = await blobs.size(request.digest)
  const end = Math.min(request.first + request.count, Math.ceil(size / chunk))
  const read = (index: number, buffer: Uint8Array): Promise<Uint8Array> => {
    const length = Math.min(chunk, size - index * chunk)
    const bytes = blobs.read(request.digest, index * chunk, length, signal, buffer)
    bytes.catch(() => undefined) // Seen where it is awaited, if it is.
    return bytes
  }
  const buffers = [CHUNK_BUFFERS.take(), CHUNK_BUFFERS.take()] as const
  let next: Promise<Uint8Array> | undefined
  try {
    for (let index = request.first; index < end; index++) {
      const bytes = await (next ?? read(index, buffers[0]))
      // The next one is read while this one is sent.
      if (index + 1 < end) next = read(index + 1, buffers[(index + 1 - request.first) % 2] as Uint8Array)
      yield { bytes }
    }
  } finally {
    await next?.catch(() => undefined)
    for (const buffer of buffers) CHUNK_BUFFERS.give(buffer)
  }
}

export interface FetchProgress {
  readonly doneChunks: number
  readonly totalChunks: number
}

/**
 * Fetch a file into the store from any of `providers`; does nothing when the store has it.
 * A provider that sends a wrong chunk or stops answering is not asked again.
 * @throws the last provider's error when none is left.
 */
export async function fetchBlob(
  ask: AskBlob,
  blobs: BlobStore,
  ref: FileRef,
  providers: readonly string[],
  options: { signal: AbortSignal; onProgress?: (progress: FetchProgress) => void },
): Promise<void> {
  if (await blobs.has(ref.sha256)) return
  let failure: unknown = new ExchangeError('unreachable', `no member that holds ${ref.sha256} is connected`)
  const usable = new Set(providers)
  const hashes = await firstOf(usable, async (peer) => {
    const request = encodeBlobRequest({ kind: 'hashes', digest: ref.sha256 })
    const frame = await firstFrame(ask(peer, request, requestSignal(options.signal)))
    return decodeBytesFrame(requireFrame(frame, 'chunk hashes'), PROTOCOLS.blob.maxResponseBytes)
  }).catch((error: unknown) => {
    throw error ?? failure
  })
  const partial = await blobs.beginPartial(ref, hashes)
  try {
    const waiting = partial.missing()
    const totalChunks = Math.ceil(ref.size / ref.chunkSize)
    let doneChunks = totalChunks - waiting.length
    options.onProgress?.({ doneChunks, totalChunks })
    const written = (): void => options.onProgress?.({ doneChunks: ++doneChunks, totalChunks })
    const { signal } = options
    const takeRuns = async (peer: string): Promise<void> => {
      while (waiting.length > 0 && usable.has(peer) && !signal.aborted) {
        try {
          await fetchRun(ask, peer, ref, partial, takeRun(waiting), waiting, signal, written)
        } catch (error) {
          failure = error
          usable.delete(peer)
        }
      }
    }
    while (waiting.length > 0 && usable.size > 0) {
      await Promise.all([...usable, ...usable].map(takeRuns))
      signal.throwIfAborted()
    }
    if (waiting.length > 0) throw providerFault(failure)
    await partial.complete()
  } finally {
    await partial.close()
  }
}

/** A wrong chunk says something of who sent it, nothing of who signed the package. */
function providerFault(error: unknown): unknown {
  return error instanceof VerificationError ? new ExchangeError('protocol', error.message, {}, error) : error
}

/** The next consecutive chunk numbers, removed from `waiting`. */
function takeRun(waiting: number[]): number[] {
  let count = 1
  while (count < CHUNKS_PER_REQUEST && waiting[count] === (waiting[0] as number) + count) count++
  return waiting.splice(0, count)
}

async function fetchRun(
  ask: AskBlob,
  peer: string,
  ref: FileRef,
  partial: PartialBlob,
  run: readonly number[],
  waiting: number[],
  signal: AbortSignal,
  written: () => void,
): Promise<void> {
  let next = 0
  const writes: Promise<void>[] = []
  const unwritten = new Set(run)
  try {
    const request = encodeBlobRequest({
      kind: 'chunks',
      digest: ref.sha256,
      first: run[0] as number,
      count: run.length,
    })
    for await (const frame of ask(peer, request, requestSignal(signal))) {
      const index = run[next]
      if (index === undefined) break
      next++
      const write = partial.writeChunk(index, decodeBytesParts(frame, ref.chunkSize)).then(() => {
        unwritten.delete(index)
        written()
      })
      write.catch(() => undefined) // Awaited below, after what follows has been read.
      writes.push(write)
    }
    await Promise.all(writes)
    if (next < run.length)
      throw new VerificationError(
        'wrong-digest',
        `${peer}: the answer ended ${run.length - next} chunks early`,
      )
  } finally {
    await Promise.allSettled(writes)
    if (unwritten.size > 0) {
      waiting.push(...unwritten)
      waiting.sort((a, b) => a - b)
    }
  }
}

function requestSignal(signal: AbortSignal): AbortSignal {
  return AbortSignal.any([signal, AbortSignal.timeout(PROTOCOLS.blob.timeoutMs)])
}

/** The first provider's answer; those that fail are removed. */
async function firstOf<T>(usable: Set<string>, ask: (peer: string) => Promise<T>): Promise<T> {
  let failure: unknown = new ExchangeError('unreachable', 'no member that holds the file is connected')
  for (const peer of [...usable]) {
    try {
      return await ask(peer)
    } catch (error) {
      failure =
        error instanceof FlexMeshError
          ? providerFault(error)
          : new ExchangeError('unreachable', `${peer} does not answer`, {}, error)
      usable.delete(peer)
    }
  }
  throw failure
}
