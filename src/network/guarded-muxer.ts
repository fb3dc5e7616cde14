/**
 * yamux with limits for each peer: sizes and rates of frames (yamux-watch.ts), the number of streams over all
 * connections of a peer and their rate, and the protocols that a peer may see. A peer that is not a member negotiates
 * with the list of protocols that it may use, so that it learns nothing about the others. Every stream is metered before
 * anything is sent on it. Does not know who is a member.
 */
import { yamux } from '@chainsafe/libp2p-yamux'
import type {
  ConnectionEncrypter,
  MessageStream,
  PeerId,
  Stream,
  StreamMuxer,
  StreamMuxerFactory,
} from '@libp2p/interface'
import { handle as negotiate } from '@libp2p/multistream-select'
import { ExchangeError } from '../lib/errors.ts'
import { limit } from '../lib/limits.ts'
import type { EgressMeter } from './egress.ts'
import { Rate } from './rate.ts'
import { YamuxWatch } from './yamux-watch.ts'

export interface StreamPolicy {
  /** Milliseconds, monotonic. */
  readonly clock: () => number
  /** Ids of the protocols that a peer may see; undefined: all. */
  protocolsFor(peer: string): readonly string[] | undefined
  /** A peer has exceeded a limit that no honest peer exceeds. Its connection is closed. */
  onFlood(peer: string, reason: string): void
  /** A peer opens streams faster than it may. The stream is reset. */
  onTooManyStreams(peer: string): void
}

interface Muxed {
  readonly muxer: StreamMuxer
  readonly connection: MessageStream
  readonly peer: string
  /** Resolves once libp2p listens to the streams of the connection. */
  readonly isSubscribed: Promise<void>
}

/** A stream on which nothing moves for this long is aborted, ms. */
const INACTIVITY_MS = 30_000

export class GuardedMuxer {
  readonly #policy: StreamPolicy
  readonly #egress: EgressMeter
  readonly #peers = new WeakMap<MessageStream, PeerId>()
  /** Number of inbound streams that each peer has open, over all of its connections. */
  readonly #open = new Map<string, number>()
  readonly #rate: Rate
  /** Streams that libp2p may see. */
  readonly #passed = new WeakSet<Stream>()

  constructor(policy: StreamPolicy, egress: EgressMeter) {
    this.#policy = policy
    this.#egress = egress
    const perSecond = limit('streamsPerSecond')
    this.#rate = new Rate(policy.clock, { burst: perSecond, everyMs: 1000 / perSecond })
  }

  /** An encrypter that remembers which peer each connection belongs to, and meters the connection. */
  encrypter(inner: ConnectionEncrypter): ConnectionEncrypter {
    const remember =
      (secure: ConnectionEncrypter['secureInbound']): ConnectionEncrypter['secureInbound'] =>
      async (connection, options) => {
        const account = this.#egress.begin(connection)
        const result = await secure(connection, options)
        this.#peers.set(result.connection, result.remotePeer)
        this.#egress.secured(account, result.remotePeer.toString(), result.connection)
        return result
      }
    return {
      protocol: inner.protocol,
      secureInbound: remember((connection, options) => inner.secureInbound(connection, options)),
      secureOutbound: remember((connection, options) => inner.secureOutbound(connection, options)),
    }
  }

  factory(): StreamMuxerFactory {
    const windowBytes = limit('streamWindowBytes')
    const inner = yamux({
      maxInboundStreams: limit('streamsPerPeer'),
      maxOutboundStreams: limit('streamsPerConnection'),
      maxMessageSize: 2 ** 16,
      streamOptions: {
        initialStreamWindowSize: windowBytes,
        maxStreamWindowSize: windowBytes,
        maxReadBufferLength: limit('unreadBytes'),
        maxWriteBufferLength: 2 * windowBytes,
        inactivityTimeout: INACTIVITY_MS,
      },
    })()
    return {
      protocol: inner.protocol,
      createStreamMuxer: (connection) => {
        const peer = this.#peers.get(connection)?.toString() ?? ''
        this.#watch(connection, peer)
        const muxer = inner.createStreamMuxer(connection)
        const create = muxer.createStream.bind(muxer)
        muxer.createStream = async (options) => {
          const stream = await create(options)
          this.#egress.watch(stream, peer, connection)
          return stream
        }
        // libp2p subscribes to the streams of a new connection in microtasks that follow its creation.
        const isSubscribed = new Promise<void>((resolve) => setImmediate(resolve))
        muxer.addEventListener('stream', (event) =>
          this.#onStream({ muxer, connection, peer, isSubscribed }, event),
        )
        return muxer
      },
    }
  }

  /** Reads what arrives before the multiplexer does, which is created after this call. */
  #watch(connection: MessageStream, peer: string): void {
    const watch = new YamuxWatch(connection.direction, this.#policy.clock)
    connection.addEventListener('message', (event) => {
      const excess = watch.read(event.data)
      if (excess === undefined) return
      event.stopImmediatePropagation()
      connection.abort(new ExchangeError('protocol', `${peer} sends ${excess}`))
      this.#policy.onFlood(peer, excess)
    })
  }

  /** Called before libp2p's own listener, and once more when a stream is passed on. */
  #onStream(muxed: Muxed, event: CustomEvent<Stream>): void {
    const { peer, connection } = muxed
    const stream = event.detail
    if (this.#passed.has(stream)) return
    this.#egress.watch(stream, peer, connection)
    event.stopImmediatePropagation()
    const open = this.#open.get(peer) ?? 0
    const isInTime = this.#rate.take(peer)
    if (!isInTime || open >= limit('streamsPerPeer')) {
      stream.abort(new ExchangeError('quota', `${peer} opens too many streams`))
      if (!isInTime) this.#policy.onTooManyStreams(peer)
      return
    }
    this.#open.set(peer, open + 1)
    stream.addEventListener('close', () => this.#onClosed(peer), { once: true })
    void this.#passOn(muxed, stream)
  }

  #onClosed(peer: string): void {
    const open = (this.#open.get(peer) ?? 1) - 1
    if (open > 0) this.#open.set(peer, open)
    else this.#open.delete(peer)
  }

  /** Hand a stream to libp2p, which negotiates the protocol unless it is agreed on here. Never rejects. */
  async #passOn({ muxer, peer, isSubscribed }: Muxed, stream: Stream): Promise<void> {
    try {
      await isSubscribed
      const protocols = this.#policy.protocolsFor(peer)
      if (protocols !== undefined) {
        const signal = AbortSignal.timeout(limit('negotiationTimeout'))
        stream.protocol = await negotiate(stream, [...protocols], { signal })
      }
      this.#passed.add(stream)
      muxer.safeDispatchEvent('stream', { detail: stream })
    } catch (error) {
      stream.abort(error instanceof Error ? error : new Error(String(error)))
    }
  }
}
