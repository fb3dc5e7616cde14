/** What leaves the node, as the parts that send bytes report it to the egress ledger. Types only. */
import type { Digest } from './bytes.ts'

/** One object that left the node, or some bytes of a kind that is only counted. */
export interface EgressEntry {
  /** `file`, `statement`, `head`, `request`, ...; the id of the protocol if it names no kinds. */
  readonly kind: string
  /** Peer id of the receiver, or another name of it. */
  readonly to: string
  /** Bytes handed to the stream, with their framing. */
  readonly bytes: number
  /** Id of the protocol, if `kind` is used by several. */
  readonly protocol?: string
  /** SHA-256 of the object, 32 bytes. */
  readonly hash?: Uint8Array
  readonly file?: Digest
  /** Index of the chunk of `file` that the object is. */
  readonly chunk?: number
  readonly tokens?: number
  /** The object gets a row of its own at once. */
  readonly isSingle?: boolean
  /**
   * Not another object: `bytes`, which is negative, corrects what was added before for an object of which not all was
   * sent. Without effect if the row of that object is complete.
   */
  readonly isCorrection?: boolean
}

/** Where what leaves the node is reported. */
export interface EgressSink {
  add(entry: EgressEntry): void
  /** Resolves when a killed process would not lose what was added before. Never rejects. */
  persist(): Promise<void>
}
