/**
 * The blob protocol: a peer asks for the chunk hashes of a file or for a run of its chunks. Implements
 * protocols/package-exchange, Blob. Serves whole files of the store only, and does not verify what it receives.
 */
import type { PeerIdString } from '../identity/keys.ts'
import { type Digest, digestBytes, toHex } from '../lib/bytes.ts'
import { ExchangeError } from '../lib/errors.ts'
import { Fields } from '../lib/fields.ts'
import { HASH_BYTES } from '../lib/file-ref.ts'
import { limit } from '../lib/limits.ts'
import { decodeBytesFrame, decodeBytesParts } from '../network/frames.ts'
import type { Answer, Asker } from '../network/network.ts'
import type { ProtocolRow } from '../network/protocol.ts'
import { Slots } from '../network/slots.ts'
import type { BlobReader } from '../store/blob-reader.ts'
import type { BlobStore } from '../store/blob-store.ts'

export const BLOB: ProtocolRow = {
  id: '/flexmesh/blob/1.0.0',
  maxRequestBytes: limit('requestBytes'),
  // The chunk hashes of a file of 64 GiB are 2 MiB.
  maxResponseBytes: limit('frameBytes') + 2 ** 21,
  maxResponseFrames: 64,
  timeoutMs: limit('frameTimeout'),
  timeoutPer: 'frame',
  maxInboundStreams: limit('protocolInboundStreams'),
  // Requests for the last chunks of a file may ask for a single chunk each.
  quota: { burst: 64, everyMs: 5 },
  guests: 'proven',
  sends: (value) => {
    const request = decodeBlobRequest(value)
    const { digest: file } = request
    return request.kind === 'hashes'
      ? () => ({ kind: 'chunk-hashes', file })
      : (index) => ({ kind: 'file', file, chunk: request.first + index })
  },
}

export type BlobRequest =
  | { readonly kind: 'hashes'; readonly digest: Digest }
  | { readonly kind: 'chunks'; readonly digest: Digest; readonly first: number; readonly count: number }

export interface BlobHandlers {
  /** Whether a peer may read the file with this digest. */
  mayRead(peer: PeerIdString, digest: Digest): boolean
}

/** Maximum number of chunks of one request: to open a stream takes as long as to send several chunks. */
export const CHUNKS_PER_REQUEST = 32
const MAX_CHUNK_INDEX = limit('fileBytes') / limit('chunkBytes')

export function encodeBlobRequest(request: BlobRequest): unknown {
  return { ...request, digest: digestBytes(request.digest) }
}

export function decodeBlobRequest(value: unknown): BlobRequest {
  const fields = new Fields(value, 'blob request')
  const kind = fields.literal('kind', 'hashes', 'chunks')
  const digest: Digest = `sha256:${toHex(fields.bytes('digest', 32))}`
  const request: BlobRequest =
    kind === 'hashes'
      ? { kind, digest }
      : {
          kind,
          digest,
          first: fields.uint('first', MAX_CHUNK_INDEX),
          count: fields.uint('count', CHUNKS_PER_REQUEST, 1),
        }
  fields.end()
  return request
}

/** The part of the store from which files are served. */
type ServedFiles = Pick<BlobStore, 'has' | 'chunkHashes' | 'reader'>

/** A peer that does not read keeps at most `chunksPerPeer` chunks in memory, over all its requests. */
export function serveBlob(init: { readonly handlers: BlobHandlers; readonly blobs: ServedFiles }): Answer {
  const { handlers, blobs } = init
  const places = new Slots({
    perKey: limit('chunksPerPeer'),
    total: limit('sharedChunks'),
    guaranteed: 1,
  })
  return async function* (value, from, signal) {
    const request = decodeBlobRequest(value)
    const { digest } = request
    if (!handlers.mayRead(from, digest) || !(await blobs.has(digest))) {
      throw new ExchangeError('not-found', `no file ${digest}`)
    }
    const file = await blobs.reader(digest)
    try {
      if (request.kind === 'chunks') {
        yield* chunksOf(file, request, (read) => inPlace(places, from, signal, 1, read), signal)
        return
      }
      // The hashes of the largest file are two chunks long.
      const hashes = Math.ceil(file.size / limit('chunkBytes')) * HASH_BYTES
      const count = Math.max(1, Math.ceil(hashes / limit('chunkBytes')))
      const { bytes, free } = await inPlace(places, from, signal, count, () => blobs.chunkHashes(digest))
      try {
        yield { bytes }
      } finally {
        free()
      }
    } finally {
      await file.close()
    }
  }
}

/** Bytes in memory, and how to give up their place once they are sent. */
interface Held {
  readonly bytes: Uint8Array
  free(): void
}

/** Read bytes once the peer has places for them. */
async function inPlace(
  places: Slots,
  peer: PeerIdString,
  signal: AbortSignal,
  count: number,
  read: () => Promise<Uint8Array>,
): Promise<Held> {
  const free = await places.take(peer, signal, count)
  try {
    return { bytes: await read(), free }
  } catch (error) {
    free()
    throw error
  }
}

/** Frames of a run of chunks. Reads each chunk while the one before it is sent. */
async function* chunksOf(
  file: BlobReader,
  { first, count }: { readonly first: number; readonly count: number },
  hold: (read: () => Promise<Uint8Array>) => Promise<Held>,
  signal: AbortSignal,
): AsyncGenerator<unknown, void, void> {
  const chunk = limit('chunkBytes')
  const read = (index: number): Promise<Held> => {
    const held = hold(() => file.read(index * chunk, Math.min(chunk, file.size - index * chunk), signal))
    held.catch(() => undefined) // Not lost: whoever awaits `held` sees the error.
    return held
  }
  const end = Math.min(first + count, Math.ceil(file.size / chunk))
  let next: Promise<Held> | undefined
  try {
    for (let index = first; index < end; index++) {
      const { bytes, free } = await (next ?? read(index))
      next = index + 1 < end ? read(index + 1) : undefined
      try {
        yield { bytes }
      } finally {
        free()
      }
    }
  } finally {
    // Nobody needs this chunk any more, so its error does not matter; the file must not close before it is read.
    await next?.then(
      ({ free }) => free(),
      () => undefined,
    )
  }
}

/** The hashes of all chunks, 32 bytes each, in the only frame of an honest answer. */
export async function* askChunkHashes(
  network: Asker,
  peer: PeerIdString,
  digest: Digest,
  signal: AbortSignal,
  onBytes?: (count: number) => void,
): AsyncGenerator<Uint8Array, void, void> {
  const request = encodeBlobRequest({ kind: 'hashes', digest })
  for await (const frame of network.ask(peer, BLOB, request, signal, onBytes)) {
    yield decodeBytesFrame(frame, BLOB.maxResponseBytes)
  }
}

/** Consecutive chunks in order, each as consecutive parts. The answer may end early. */
export async function* askChunks(
  network: Asker,
  peer: PeerIdString,
  run: {
    readonly digest: Digest
    readonly first: number
    readonly count: number
    readonly chunkSize: number
  },
  signal: AbortSignal,
  onBytes?: (count: number) => void,
): AsyncGenerator<readonly Uint8Array[], void, void> {
  const { digest, first, count, chunkSize } = run
  const request = encodeBlobRequest({ kind: 'chunks', digest, first, count })
  for await (const frame of network.ask(peer, BLOB, request, signal, onBytes)) {
    yield decodeBytesParts(frame, chunkSize)
  }
}
