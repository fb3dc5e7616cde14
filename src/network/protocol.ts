/** The properties of a stream protocol as data: id, sizes, time limit, streams, quota, and who may use it. */
import type { SentObject } from './egress.ts'

/**
 * `all`: every peer that may connect. `proven`: a peer that has proved that it holds an invitation. `revoked`: a peer
 * that was a member, so that it learns that it is not one any more. `none`: members only.
 */
export type Access = 'all' | 'proven' | 'revoked' | 'none'

export interface ProtocolRow {
  readonly id: string
  /** Largest request frame, bytes. */
  readonly maxRequestBytes: number
  /** Largest response frame, bytes. */
  readonly maxResponseBytes: number
  /** Maximum number of response frames for one request. */
  readonly maxResponseFrames: number
  /** Time limit for the whole answer or for each frame of it, ms. */
  readonly timeoutMs: number
  readonly timeoutPer: 'answer' | 'frame'
  /** Streams of this protocol that one peer may hold open. */
  readonly maxInboundStreams: number
  /** Requests that one peer may start: `burst` at once, then one more every `everyMs`. */
  readonly quota: { readonly burst: number; readonly everyMs: number }
  /** Which peers that are not members may use it, see `Access`. */
  readonly guests: Access
  /**
   * What the frames of an answer are, for the egress ledger. Default: frames of one kind, the id of the protocol.
   * @param request decoded from CBOR; the handler has accepted it
   */
  readonly sends?: (request: unknown) => (index: number, frame: unknown) => SentObject
}
