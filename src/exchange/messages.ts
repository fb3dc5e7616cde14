/** Wire messages of the three stream protocols and the values that they carry. Knows no stream. */

import { JOIN_STATUS, type JoinStatus } from '../consortium/membership-request.ts'
import { concatBytes, type Digest, digestBytes, toHex } from '../lib/bytes.ts'
import { FormatError } from '../lib/errors.ts'
import { Fields } from '../lib/fields.ts'
import { limit } from '../lib/limits.ts'
import { BytesFrame } from '../network/frames.ts'
import type { MemberAddresses } from '../network/mesh.ts'
import type { StatementsRequest } from '../statements/statement-log.ts'

export type JoinRequest =
  | { readonly kind: 'charter'; readonly token: string }
  | { readonly kind: 'membership'; readonly envelope: Uint8Array }
export type BlobRequest =
  | { readonly kind: 'hashes'; readonly digest: Digest }
  | { readonly kind: 'chunks'; readonly digest: Digest; readonly first: number; readonly count: number }

/** Chunks that one request may ask for: opening a stream takes as long as some of them. */
export const CHUNKS_PER_REQUEST = 32
const MAX_ADDRESS_LENGTH = 256
const MAX_CHUNK_INDEX = limit('fileBytes') / limit('chunkBytes')

export function decodeJoinRequest(value: unknown): JoinRequest {
  const fields = new Fields(value, 'join request')
  const kind = fields.literal('kind', 'charter', 'membership')
  const request: JoinRequest =
    kind === 'charter'
      ? { kind, token: fields.text('token', 32, /^[a-f0-9]{32}$/) }
      : { kind, envelope: fields.bytes('envelope', { max: limit('envelopeBytes') }) }
  fields.end()
  return request
}

export function decodeStatementsRequest(value: unknown): StatementsRequest {
  const fields = new Fields(value, 'statements request')
  const rosterVersion = fields.uint('rosterVersion')
  const known = fields.list('known', limit('members'), (item, title) => {
    const entry = new Fields(item, title)
    const publisher = entry.text('publisher', 64)
    const seq = entry.uint('seq')
    entry.end()
    return { publisher, seq }
  })
  fields.end()
  return { rosterVersion, known }
}

export function decodeAddressesRequest(value: unknown): void {
  new Fields(value, 'addresses request').end()
}

export function decodeAddressesFrame(value: unknown): MemberAddresses {
  const fields = new Fields(value, 'addresses frame')
  const peerId = fields.text('peerId', 64)
  const addresses = fields.list('addresses', limit('addressesPerMember'), (item, title) => {
    if (typeof item !== 'string' || item.length > MAX_ADDRESS_LENGTH) {
      throw new FormatError('bad-field', `${title}: expected at most ${MAX_ADDRESS_LENGTH} characters`)
    }
    return item
  })
  fields.end()
  return { peerId, addresses }
}

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

/** One frame that carries bytes: an envelope, chunk hashes or a chunk. */
export function decodeBytesFrame(value: unknown, maxBytes: number): Uint8Array {
  return concatBytes(...decodeBytesParts(value, maxBytes))
}

/** The same in consecutive parts, as they arrived: a chunk is copied where it goes, not before. */
export function decodeBytesParts(value: unknown, maxBytes: number): readonly Uint8Array[] {
  if (value instanceof BytesFrame) {
    if (value.length > maxBytes) {
      throw new FormatError(
        'bad-field',
        `frame.bytes: expected at most ${maxBytes} bytes, got ${value.length}`,
      )
    }
    return value.parts
  }
  const fields = new Fields(value, 'frame')
  const bytes = fields.bytes('bytes', { max: maxBytes })
  fields.end()
  return [bytes]
}

export function decodeStatusFrame(value: unknown): JoinStatus {
  const fields = new Fields(value, 'join answer')
  const status = fields.literal('status', ...JOIN_STATUS)
  fields.end()
  return status
}

/** @throws FormatError `truncated` when an answer ended before its first frame. */
export function requireFrame<T>(value: T | undefined, title: string): T {
  if (value === undefined) throw new FormatError('truncated', `${title}: the answer is empty`)
  return value
}

/** The only frame of an answer; reading on to its end lets both sides close the stream in order. */
export async function firstFrame(frames: AsyncGenerator<unknown, void, void>): Promise<unknown> {
  let first: unknown
  for await (const frame of frames) first ??= frame
  return first
}
