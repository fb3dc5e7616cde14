/**
 * Moving files in 1 MiB chunks: serving those that we hold, and fetching one from several members at
 * once, each chunk verified before it is written, resumable across restarts. Knows no manifest.
 */
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

/** Answers under way at once, if providers are fewer: one is received while the next one is asked for. */
const ANSWERS = 2
/** Chunks below which a request costs more than it helps to end at the same time. */
const SMALLEST_REQUEST = 4
/** Verified chunks of one answer that wait for the disk; the network waits when there are more. */
const UNWRITTEN_CHUNKS = 4

/** Frames of the answer. @throws ExchangeError `not-found`. */
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
  const file = await blobs.reader(request.digest)
  const read = (index: number): Promise<Uint8Array> => {
    const bytes = file.read(index * chunk, Math.min(chunk, file.size - index * chunk), signal)
    bytes.catch(() => undefined) // Seen where it is awaited, if it is.
    return bytes
  }
  const end = Math.min(request.first + request.count, Math.ceil(file.size / chunk))
  let next: Promise<Uint8Array> | undefined
  try {
    for (let index = request.first; index < end; index++) {
      const bytes = await (next ?? read(index))
      // The next one is read while this one is sent.
      next = index + 1 < end ? read(index + 1) : undefined
      yield { bytes }
    }
  } finally {
    await next?.catch(() => undefined)
    await file.close()
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
    const frame = await firstFrame(ask(peer, request, options.signal))
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
    let answers = ANSWERS
    const takeRuns = async (peer: string): Promise<void> => {
      while (waiting.length > 0 && usable.has(peer) && !signal.aborted) {
        try {
          // Half of a fair share, so that all end at about the same time.
          const share = Math.max(SMALLEST_REQUEST, Math.ceil(waiting.length / (2 * answers)))
          const run = takeRun(waiting, share)
          await fetchRun(ask, peer, ref, partial, run, waiting, signal, written)
        } catch (error) {
          failure = error
          usable.delete(peer)
        }
      }
    }
    while (waiting.length > 0 && usable.size > 0) {
      const peers = [...usable]
      answers = Math.max(ANSWERS, usable.size)
      await Promise.all(
        Array.from({ length: answers }, (_, i) => takeRuns(peers[i % peers.length] as string)),
      )
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

/** At most `most` next consecutive chunk numbers, removed from `waiting`. */
function takeRun(waiting: number[], most: number): number[] {
  let count = 1
  while (count < Math.min(most, CHUNKS_PER_REQUEST) && waiting[count] === (waiting[0] as number) + count)
    count++
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
    for await (const frame of ask(peer, request, signal)) {
      const index = run[next]
      if (index === undefined) break
      next++
      const write = partial.writeChunk(index, decodeBytesParts(frame, ref.chunkSize)).then(() => {
        unwritten.delete(index)
        written()
      })
      write.catch(() => undefined) // Awaited below, after what follows has been read.
      writes.push(write)
      await writes[next - UNWRITTEN_CHUNKS]
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
