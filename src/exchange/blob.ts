/**
 * The blob protocol: a peer asks for the chunk hashes of a file or for a run of its chunks. Implements
 * protocols/package-exchange, Blob. Serves whole files of the store only, and does not verify what it receives.
 */
import type { PeerIdString } from '../identity/keys.ts'
import { type Digest, digestBytes, toHex } from '../lib/bytes.ts'
import { ExchangeError } from '../lib/errors.ts'
import { Fields } from '../lib/fields.ts'
import { limit } from '../lib/limits.ts'
import { decodeBytesFrame, decodeBytesParts } from '../network/frames.ts'
import type { Answer, Asker } from '../network/network.ts'
import type { ProtocolRow } from '../network/protocol.ts'
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

export function serveBlob(init: { readonly handlers: BlobHandlers; readonly blobs: BlobStore }): Answer {
  const { handlers, blobs } = init
  return async function* (value, from, signal) {
    const request = decodeBlobRequest(value)
    const { digest } = request
    if (!handlers.mayRead(from, digest) || !(await blobs.has(digest))) {
      throw new ExchangeError('not-found', `no file ${digest}`)
    }
    if (request.kind === 'hashes') yield { bytes: await blobs.chunkHashes(digest) }
    else yield* chunksOf(blobs, digest, request.first, request.count, signal)
  }
}

/** Frames of a run of chunks. Reads each chunk while the one before it is sent. */
async function* chunksOf(
  blobs: BlobStore,
  digest: Digest,
  first: number,
  count: number,
  signal: AbortSignal,
): AsyncGenerator<unknown, void, void> {
  const chunk = limit('chunkBytes')
  const file = await blobs.reader(digest)
  const read = (index: number): Promise<Uint8Array> => {
    const bytes = file.read(index * chunk, Math.min(chunk, file.size - index * chunk), signal)
    bytes.catch(() => undefined) // Not lost: whoever awaits `bytes` sees the error.
    return bytes
  }
  const end = Math.min(first + count, Math.ceil(file.size / chunk))
  let next: Promise<Uint8Array> | undefined
  try {
    for (let index = first; index < end; index++) {
      const bytes = await (next ?? read(index))
      next = index + 1 < end ? read(index + 1) : undefined
      yield { bytes }
    }
  } finally {
    // Nobody needs this chunk any more, so its error does not matter; the file must not close before it is read.
    await next?.catch(() => undefined)
    await file.close()
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
