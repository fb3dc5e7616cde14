/**
 * Fetches one file from several members at once: first the chunk hashes, then the chunks. Each chunk is verified before
 * it is written, and a later fetch continues with the chunks that are missing. Does not know what the file is.
 */
import type { PeerIdString } from '../identity/keys.ts'
import { digestOf } from '../lib/bytes.ts'
import { ExchangeError, FlexMeshError, VerificationError } from '../lib/errors.ts'
import { checkChunkHashes, type FileRef } from '../lib/file-ref.ts'
import type { Asker } from '../network/network.ts'
import type { BlobStore } from '../store/blob-store.ts'
import { askChunkHashes } from './blob.ts'
import { ChunkFetch, type FetchProgress } from './chunk-fetch.ts'
import { FileSources, isProviderFault } from './file-sources.ts'
import { Providers } from './providers.ts'

/** Time after which the next provider is asked for the chunk hashes too, ms. */
const NEXT_PROVIDER_MS = 1_000

export interface FetchOptions {
  readonly signal: AbortSignal
  readonly onProgress?: (progress: FetchProgress) => void
  /** What is known from earlier fetches; default: nothing. */
  readonly providers?: Providers
}

/**
 * Fetch a file into the store from any of `peers`. Does nothing when the store has the file. A provider that sends
 * wrong data, or less than `transferRate`, is not asked again for a while, and the others deliver what it was asked
 * for; an error of this node's own disk ends the fetch.
 * @throws ExchangeError `aborted`; the error of the disk; the error of the last provider when none is left, always an
 * ExchangeError; VerificationError `wrong-digest` if the signer of `ref` lied: the chunk hashes that it committed to do
 * not fit the size, or the right chunks make a wrong file.
 */
export async function fetchBlob(
  network: Asker,
  blobs: BlobStore,
  ref: FileRef,
  peers: readonly PeerIdString[],
  options: FetchOptions,
): Promise<void> {
  if (await blobs.has(ref.sha256)) return
  const providers = options.providers ?? new Providers(() => performance.now())
  const sources = new FileSources({ ref, peers, providers })
  try {
    const hashes = await fetchHashes(network, sources, ref, options.signal)
    const partial = await blobs.beginPartial(ref, hashes, options.signal)
    try {
      await new ChunkFetch({ ...options, network, sources, ref, hashes, partial }).run()
      await partial.complete(options.signal)
    } finally {
      await partial.close()
    }
  } catch (error) {
    if (options.signal.aborted) {
      throw new ExchangeError('aborted', `${ref.sha256}: the fetch was aborted`, { file: ref.sha256 }, error)
    }
    throw error
  } finally {
    sources.close()
  }
}

interface Answer {
  readonly peer: PeerIdString
  /** Undefined if the provider failed. */
  readonly hashes?: Uint8Array
}

/**
 * The chunk hashes from the first provider that sends the right ones. Providers that send others are dropped. A
 * provider that does not answer soon is not waited for: the next one is asked at the same time.
 */
async function fetchHashes(
  network: Asker,
  sources: FileSources,
  ref: FileRef,
  signal: AbortSignal,
): Promise<Uint8Array> {
  const enough = new AbortController()
  const either = AbortSignal.any([signal, enough.signal])
  const running = new Map<PeerIdString, Promise<Answer>>()
  const asked = new Set<PeerIdString>()
  const ask = async (peer: PeerIdString): Promise<Answer> => {
    try {
      return { peer, hashes: await hashesFrom(network, sources, ref, peer, either) }
    } catch (error) {
      if (error instanceof SignerError) throw error.reason
      if (!either.aborted) sources.drop(peer, unexpectedAsExchange(peer, error))
      return { peer }
    }
  }
  try {
    for (;;) {
      signal.throwIfAborted()
      const next = sources.usable().find((peer) => !asked.has(peer))
      if (next !== undefined) {
        asked.add(next)
        running.set(next, ask(next))
      }
      if (running.size === 0) throw sources.failure
      const isLast = sources.usable().every((peer) => asked.has(peer))
      const answer = await soonest([...running.values()], isLast ? undefined : NEXT_PROVIDER_MS)
      if (answer === undefined) continue
      running.delete(answer.peer)
      if (answer.hashes === undefined) continue
      sources.prefer(answer.peer)
      return answer.hashes
    }
  } finally {
    enough.abort()
    await Promise.allSettled(running.values())
  }
}

/** @throws SignerError if the provider's hashes are the ones that `ref` commits to, but do not fit its size. */
async function hashesFrom(
  network: Asker,
  sources: FileSources,
  ref: FileRef,
  peer: PeerIdString,
  signal: AbortSignal,
): Promise<Uint8Array> {
  const question = (inner: AbortSignal, onBytes: (count: number) => void) =>
    askChunkHashes(network, peer, ref.sha256, inner, onBytes)
  // The first frame is the answer. What a provider sends behind it is not read.
  for await (const hashes of sources.ask(peer, question, signal)) {
    try {
      checkChunkHashes(ref, hashes)
    } catch (error) {
      throw digestOf(hashes) === ref.chunksSha256 ? new SignerError(error) : error
    }
    return hashes
  }
  throw new VerificationError('wrong-digest', `${peer}: the answer holds no chunk hashes`)
}

/** Carries a proof that the signer of a file reference lied past the handling of the providers' errors. */
class SignerError extends Error {
  readonly reason: unknown

  constructor(error: unknown) {
    super('the signer of the file reference lied')
    this.reason =
      error instanceof FlexMeshError ? new VerificationError('wrong-digest', error.message, {}, error) : error
  }
}

function unexpectedAsExchange(peer: PeerIdString, error: unknown): unknown {
  if (isProviderFault(error)) return error
  return new ExchangeError('unreachable', `${peer} does not answer`, {}, error)
}

/** The first of `promises` to settle; undefined if none has after `ms`. */
async function soonest<T>(promises: readonly Promise<T>[], ms: number | undefined): Promise<T | undefined> {
  if (ms === undefined) return Promise.race(promises)
  let timer: ReturnType<typeof setTimeout> | undefined
  const late = new Promise<undefined>((resolve) => {
    timer = setTimeout(() => resolve(undefined), ms)
  })
  try {
    return await Promise.race([...promises, late])
  } finally {
    clearTimeout(timer)
  }
}
