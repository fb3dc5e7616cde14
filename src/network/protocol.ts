/** What a stream protocol promises: id, sizes, times, streams, quota, and who may speak it. */

export interface ProtocolRow {
  readonly id: string
  /** Largest request frame, bytes. */
  readonly maxRequestBytes: number
  /** Largest response frame, bytes. */
  readonly maxResponseBytes: number
  /** Most response frames of one request. */
  readonly maxResponseFrames: number
  /** For the whole answer or for each frame of it, ms. */
  readonly timeoutMs: number
  readonly timeoutPer: 'answer' | 'frame'
  /** Streams that one peer may hold open. */
  readonly maxInboundStreams: number
  /** Requests that one peer may start: `burst` at once, one more every `everyMs`. */
  readonly quota: { readonly burst: number; readonly everyMs: number }
  /** Whether a peer that only holds an invitation may speak it. */
  readonly guests: boolean
}
