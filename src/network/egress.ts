/**
 * Counts every byte that this node hands to a stream of another node, at the stream itself: whatever protocol sends it, it
 * is reported. Protocols of this project say what their objects are (frames.ts); bytes of others are reported under their
 * protocol. What encryption, multiplexing and handshakes add is measured at the connection. Stores nothing.
 */
import { createHash } from 'node:crypto'
import { RPC } from '@libp2p/gossipsub/message'
import type { MessageStream, Stream } from '@libp2p/interface'
import type { Uint8ArrayList } from 'uint8arraylist'
import type { Digest } from '../lib/bytes.ts'
import { sha256 } from '../lib/bytes.ts'
import type { EgressEntry, EgressSink } from '../lib/egress.ts'

type Bytes = Uint8Array | Uint8ArrayList

/** What an object is that a protocol sends. */
export interface SentObject {
  readonly kind: string
  readonly file?: Digest
  /** Index of the chunk of `file` that the object is. */
  readonly chunk?: number
  /** Whether the object gets a row of its own; otherwise, objects of one kind share a row for a while. */
  readonly isSingle?: boolean
  /** Whether strangers can get it, however many they are: then those that are no members share a row. */
  readonly isForAnybody?: boolean
}

/** Both sides agree on noise before a connection is encrypted: two lines of multistream-select, with their lengths. */
const NEGOTIATION_BYTES = '_/multistream/1.0.0\n_/noise\n'.length
/** Overhead of a connection is reported in portions of this many bytes, and when the connection closes. */
const OVERHEAD_BYTES = 4096
/** Payloads above this are hashed by another thread, bytes. */
const LARGE_BYTES = 65_536
/** Receiver of what was sent before its peer id was known. */
const UNKNOWN = 'unknown'
/** Receiver of everything but named objects that goes to peers that are not members, who may be many. */
const GUESTS = 'guests'

/** Names of libp2p's own protocols. */
const KINDS: readonly (readonly [prefix: string, kind: string])[] = [
  ['/ipfs/id/', 'identify'],
  ['/ipfs/ping/', 'ping'],
  ['/meshsub/', 'gossip'],
  ['/floodsub/', 'gossip'],
]

export class EgressMeter {
  readonly #sink: EgressSink
  readonly #isMember: (peer: string) => boolean
  readonly #connections = new WeakMap<MessageStream, ConnectionAccount>()
  readonly #streams = new WeakMap<Stream, StreamAccount>()

  constructor(sink: EgressSink, isMember: (peer: string) => boolean) {
    this.#sink = sink
    this.#isMember = isMember
  }

  /** Count what is sent on a connection that is not encrypted yet. */
  begin(raw: MessageStream): ConnectionAccount {
    return new ConnectionAccount(raw, this.#sink)
  }

  /** The connection belongs to `peer`, and `connection` encrypts what is sent on it. */
  secured(account: ConnectionAccount, peer: string, connection: MessageStream): void {
    account.belongsTo(this.#isMember(peer) ? peer : GUESTS)
    this.#connections.set(connection, account)
  }

  /** Count what is sent on a stream of an encrypted connection. */
  watch(stream: Stream, peer: string, connection: MessageStream): void {
    const account = new StreamAccount(stream, {
      peer,
      isMember: () => this.#isMember(peer),
      sink: this.#sink,
      connection: this.#connections.get(connection),
    })
    this.#streams.set(stream, account)
  }

  /** The account of a stream, which every stream of the transport has. */
  of(stream: Stream): StreamAccount | undefined {
    return this.#streams.get(stream)
  }
}

/** The bytes of one connection, and how many of them are those of its streams. */
class ConnectionAccount {
  readonly #sink: EgressSink
  #to = UNKNOWN
  #wire = NEGOTIATION_BYTES
  #streams = 0
  #reported = 0

  constructor(raw: MessageStream, sink: EgressSink) {
    this.#sink = sink
    const send = raw.send.bind(raw)
    raw.send = (data) => {
      this.#wire += data.byteLength
      this.#report(OVERHEAD_BYTES)
      return send(data)
    }
    raw.addEventListener('close', () => this.#report(1), { once: true })
  }

  belongsTo(to: string): void {
    this.#to = to
  }

  /** @param bytes negative for bytes that were not sent after all */
  sent(bytes: number): void {
    this.#streams += bytes
  }

  /**
   * Report the overhead so far, if it is at least `min`. Bytes of streams may still wait for their turn, so it is lower
   * than it will be.
   */
  #report(min: number): void {
    const bytes = this.#wire - this.#streams - this.#reported
    if (bytes < min) return
    this.#reported += bytes
    this.#sink.add({ kind: 'transport', to: this.#to, bytes })
  }
}

interface StreamInit {
  /** The receiver. */
  readonly peer: string
  isMember(): boolean
  readonly sink: EgressSink
  /** Account of the connection. */
  readonly connection: ConnectionAccount | undefined
}

/** A frame that is about to be sent. */
export interface Frame {
  /** Everything that is sent. */
  readonly pieces: readonly Bytes[]
  /** The object in it; default: all of it. */
  readonly payload?: Uint8Array | undefined
  /** For a kind that several protocols use. */
  readonly protocol?: string
}

/**
 * The bytes of one stream by object. An object is recorded before its bytes are sent, and corrected if not all of them
 * are. Bytes outside any object belong to the protocol of the stream.
 */
export class StreamAccount {
  readonly #init: StreamInit
  readonly #recording = new Set<Promise<void>>()
  #current: Omit<EgressEntry, 'bytes'> | undefined
  /** Number of bytes of the current object that were recorded and not sent yet. */
  #expected = 0

  constructor(stream: Stream, init: StreamInit) {
    this.#init = init
    const { connection } = init
    const send = stream.send.bind(stream)
    stream.send = (data) => {
      const { byteLength } = data
      connection?.sent(byteLength)
      // Read before the stream sends, which may consume a list.
      const report = this.#prepared(data, stream.protocol)
      try {
        const canSendMore = send(data)
        report()
        return canSendMore
      } catch (error) {
        connection?.sent(-byteLength)
        throw error
      }
    }
    stream.addEventListener('close', () => this.#settle(), { once: true })
  }

  /** What is sent next is this object. Call `kept` before its last piece is sent, if a killed process must not lose it. */
  begin(object: SentObject, { pieces, payload, protocol }: Frame): void {
    this.#settle()
    const bytes = pieces.reduce((sum, { byteLength }) => sum + byteLength, 0)
    this.#expected = bytes
    const to = object.isForAnybody === true ? this.#anybody() : this.#init.peer
    const { isForAnybody: _, ...rest } = object
    const entry = { ...rest, to, ...(protocol === undefined ? {} : { protocol }) }
    if (payload === undefined || payload.length <= LARGE_BYTES) {
      const hash = payload === undefined ? hashOfPieces(pieces) : sha256(payload)
      this.#current = { ...entry, hash }
      this.#init.sink.add({ ...entry, hash, bytes })
      return
    }
    this.#current = entry
    const recording = this.#addLarge(entry, payload, bytes).finally(() => this.#recording.delete(recording))
    this.#recording.add(recording)
  }

  /** Resolves when a killed process would not lose what was begun. Never rejects. */
  async kept(): Promise<void> {
    await Promise.all(this.#recording)
    await this.#init.sink.persist()
  }

  /** No object follows. Resolves as `kept`. */
  end(): Promise<void> {
    this.#settle()
    return this.kept()
  }

  async #addLarge(entry: Omit<EgressEntry, 'bytes'>, payload: Uint8Array, bytes: number): Promise<void> {
    const hash = new Uint8Array(await crypto.subtle.digest('SHA-256', payload as Uint8Array<ArrayBuffer>))
    this.#init.sink.add({ ...entry, hash, bytes })
  }

  /** The receiver in rows that strangers can cause. */
  #anybody(): string {
    return this.#init.isMember() ? this.#init.peer : GUESTS
  }

  /** @returns reports the data, once they have been sent. */
  #prepared(data: Bytes, protocol: string): () => void {
    const { byteLength: bytes } = data
    const expected = Math.min(bytes, this.#expected)
    if (expected === bytes) {
      return () => {
        this.#expected -= bytes
      }
    }
    const to = this.#anybody()
    const kind = kindOf(protocol)
    const heads = kind === 'gossip' ? messagesOf(data) : []
    const hash = hashOfPieces([data])
    return () => {
      this.#expected -= expected
      let rest = bytes - expected
      for (const message of heads) {
        rest -= message.length
        this.#init.sink.add({
          kind: 'head',
          to,
          bytes: message.length,
          hash: sha256(message),
          isSingle: true,
        })
      }
      this.#init.sink.add({ kind, to, bytes: rest, hash })
    }
  }

  /** Correct the current object by what was not sent of it. */
  #settle(): void {
    if (this.#current !== undefined && this.#expected > 0)
      this.#init.sink.add({ ...this.#current, bytes: -this.#expected, isCorrection: true })
    this.#current = undefined
    this.#expected = 0
  }
}

function hashOfPieces(pieces: readonly Bytes[]): Uint8Array {
  const hash = createHash('sha256')
  for (const piece of pieces) {
    if (piece instanceof Uint8Array) hash.update(piece)
    else for (const part of piece) hash.update(part)
  }
  return hash.digest()
}

/** The kind of bytes about which nobody has said anything. */
function kindOf(protocol: string): string {
  if (protocol === '') return 'negotiation'
  return KINDS.find(([prefix]) => protocol.startsWith(prefix))?.[1] ?? protocol
}

/** Payloads of the announcements in a message of gossipsub, which is one RPC after its length. */
function messagesOf(data: Bytes): Uint8Array[] {
  const bytes = data.slice()
  try {
    const start = bytes.findIndex((byte) => byte < 0x80) + 1
    return RPC.decode(bytes.subarray(start)).messages.flatMap(({ data: payload }) => payload ?? [])
  } catch {
    return [] // Counted as gossip.
  }
}
