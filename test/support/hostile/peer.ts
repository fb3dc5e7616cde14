/**
 * A hostile peer. It speaks the protocols of protocols/package-exchange by itself, over libp2p's TCP, noise and yamux,
 * and shares no code with the network and exchange folders of the program: it frames its own messages (wire.ts), signs
 * whatever it likes, opens any number of connections and streams, and answers with any bytes.
 *
 * How to write an attack:
 * - `HostilePeer.start(seed)` is an outsider: a key that no roster lists. `dial` and `open` get it a stream;
 *   `request` sends any bytes and returns the frames of the answer; `serve` answers requests with any bytes.
 * - `guest.ts` adds what an outsider can do with an invitation or by guessing tokens.
 * - `member.ts` makes it a member of the consortium of a real node: it joins by the specified protocol, announces any
 *   head, answers `statements` with any envelopes and `blob` with any bytes.
 *
 * A test starts its attackers, lets them act, and then looks at the honest nodes through their public interface. It
 * stops the attackers with `stopHostilePeers` in `afterEach`.
 */
import '../../../src/lib/node20.ts'
import { noise } from '@chainsafe/libp2p-noise'
import { yamux } from '@chainsafe/libp2p-yamux'
import { privateKeyFromRaw } from '@libp2p/crypto/keys'
import { type GossipSub, gossipsub } from '@libp2p/gossipsub'
import { type Identify, identify } from '@libp2p/identify'
import type { Connection, Libp2p, Stream } from '@libp2p/interface'
import { type Ping, ping } from '@libp2p/ping'
import { tcp } from '@libp2p/tcp'
import { multiaddr } from '@multiformats/multiaddr'
import { createLibp2p } from 'libp2p'
import { createIdentity, type Identity } from '../../../src/identity/keys.ts'
import { readFrames } from './wire.ts'

type Services = { identify: Identify; ping: Ping; pubsub: GossipSub }

/** Window that the specification gives every stream, bytes. */
const WINDOW = 4 * 2 ** 20

export interface HostileOptions {
  /** Multiaddr to listen on; default: a free port on loopback. */
  readonly listen?: string
  /** Addresses that the peer claims to listen on, in what it signs about itself. */
  readonly announce?: readonly string[]
}

const running: HostilePeer[] = []

export class HostilePeer {
  readonly identity: Identity
  readonly node: Libp2p<Services>

  private constructor(identity: Identity, node: Libp2p<Services>) {
    this.identity = identity
    this.node = node
  }

  /** A started peer whose key is made from `seed` (0 to 255). */
  static async start(seed: number, options: HostileOptions = {}): Promise<HostilePeer> {
    const identity = createIdentity(new Uint8Array(32).fill(seed))
    const node = await createLibp2p<Services>({
      privateKey: privateKeyFromRaw(identity.secretKey),
      addresses: {
        listen: [options.listen ?? '/ip4/127.0.0.1/tcp/0'],
        ...(options.announce === undefined ? {} : { announce: [...options.announce] }),
      },
      transports: [tcp()],
      connectionEncrypters: [noise()],
      streamMuxers: [
        yamux({
          maxInboundStreams: 10_000,
          maxOutboundStreams: 10_000,
          streamOptions: { initialStreamWindowSize: WINDOW, maxStreamWindowSize: WINDOW },
        }),
      ],
      connectionGater: { denyDialMultiaddr: () => false },
      connectionMonitor: { enabled: false },
      services: {
        identify: identify({ runOnConnectionOpen: false }),
        ping: ping(),
        pubsub: gossipsub({ allowPublishToZeroTopicPeers: true, emitSelf: false }),
      },
    })
    const peer = new HostilePeer(identity, node)
    running.push(peer)
    return peer
  }

  get peerId(): string {
    return this.identity.peerId
  }

  /** The address at which others reach this peer. */
  get address(): string {
    return String(this.node.getMultiaddrs()[0])
  }

  /**
   * A new connection, also if another one is open. The other side refuses it after noise: then `dial` either throws or
   * returns a connection that the other side closes at once (see `closed`).
   */
  dial(address: string): Promise<Connection> {
    return this.node.dial(multiaddr(address), { force: true })
  }

  /** A new stream for a protocol. @throws if the other side does not speak it with this peer. */
  open(connection: Connection, protocol: string): Promise<Stream> {
    return connection.newStream(protocol, { maxOutboundStreams: 10_000 })
  }

  /** Send any bytes as a request. @returns the decoded frames of the answer. */
  async request(connection: Connection, protocol: string, bytes: Uint8Array): Promise<unknown[]> {
    const stream = await this.open(connection, protocol)
    const answer = readFrames(stream)
    stream.send(bytes)
    try {
      return await answer
    } finally {
      stream.abort(new Error('the answer is complete'))
    }
  }

  /**
   * Answer a protocol. `answer` gets the stream and may send anything or nothing; it is called as soon as the other side
   * has opened the stream.
   */
  async serve(
    protocol: string,
    answer: (stream: Stream, from: string) => void | Promise<void>,
  ): Promise<void> {
    await this.node.handle(
      protocol,
      (stream, connection) => answer(stream, connection.remotePeer.toString()),
      { maxInboundStreams: 10_000, force: true },
    )
  }

  /** Publish any bytes on a topic to every connected peer that has subscribed to it. */
  async publish(topic: string, bytes: Uint8Array): Promise<void> {
    await this.node.services.pubsub.publish(topic, bytes)
  }

  async stop(): Promise<void> {
    await this.node.stop()
  }
}

/** Resolves once a connection is closed, by either side. */
export async function closed(connection: Connection): Promise<void> {
  if (connection.status !== 'open') return
  await new Promise((resolve) => connection.addEventListener('close', resolve, { once: true }))
}

/** Stop every hostile peer of the test. */
export async function stopHostilePeers(): Promise<void> {
  await Promise.all(running.splice(0).map((peer) => peer.stop()))
}
