/**
 * gossipsub for one topic, with a limit on what each peer may send. Messages of a peer are processed one after the
 * other, so that a flood waits in its own queue; the limit bounds this queue. Does not know what messages mean.
 */
import { type GossipSub, gossipsub } from '@libp2p/gossipsub'
import type { StreamHandler } from '@libp2p/interface'
import { ExchangeError } from '../lib/errors.ts'
import { limit } from '../lib/limits.ts'
import { Rate } from './rate.ts'

export interface GossipInit {
  readonly topic: string
  /** Milliseconds, monotonic. */
  readonly clock: () => number
  /** A peer has sent far more than honest peers do. Its stream is closed. */
  onFlood(peer: string, reason: string): void
}

type Components = Parameters<ReturnType<typeof gossipsub>>[0]
type Registrar = Components['registrar']

/** Maximum number of message ids of each kind in one gossipsub message. */
const MESSAGE_IDS = 64

export function limitedGossipsub(init: GossipInit): (components: Components) => GossipSub {
  const bytes = new Rate(init.clock, {
    burst: limit('gossipBurstBytes'),
    everyMs: 1000 / limit('gossipBytesPerSecond'),
  })
  const create = gossipsub({
    allowedTopics: [init.topic],
    globalSignaturePolicy: 'StrictSign',
    doPX: false,
    // By default 14 peers with one address are sent no announcements, and 15 are not heard: all their scores are too low.
    // Only members are heard at all, and admission.ts and gate.ts limit what one address may do.
    scoreParams: { IPColocationFactorWeight: 0 },
    emitSelf: false,
    allowPublishToZeroTopicPeers: true,
    awaitRpcHandler: true,
    awaitRpcMessageHandler: true,
    maxInboundDataLength: limit('requestBytes') * 4,
    maxOutboundBufferSize: limit('gossipBurstBytes'),
    decodeRpcLimits: {
      maxSubscriptions: 8,
      maxMessages: 32,
      maxIhaveMessageIDs: MESSAGE_IDS,
      maxIwantMessageIDs: MESSAGE_IDS,
      maxIdontwantMessageIDs: MESSAGE_IDS,
      maxControlMessages: 32,
      maxPeerInfos: 0,
    },
  })
  const counting =
    (handler: StreamHandler): StreamHandler =>
    (stream, connection) => {
      const peer = connection.remotePeer.toString()
      const result = handler(stream, connection)
      // After gossipsub, which subscribes asynchronously: bytes that arrived before would reach this listener alone.
      setImmediate(() =>
        stream.addEventListener('message', ({ data }) => {
          if (bytes.take(peer, data.byteLength)) return
          const reason = `more than ${limit('gossipBurstBytes')} bytes of announcements`
          stream.abort(new ExchangeError('quota', `${peer} sends ${reason}`))
          init.onFlood(peer, reason)
        }),
      )
      return result
    }
  return ({ privateKey, peerId, registrar, connectionManager, peerStore, logger }) =>
    create({
      privateKey,
      peerId,
      registrar: withHandlers(registrar, counting),
      connectionManager,
      peerStore,
      logger,
    })
}

/** A registrar that changes every handler before it registers it. */
function withHandlers(registrar: Registrar, change: (handler: StreamHandler) => StreamHandler): Registrar {
  return {
    getProtocols: () => registrar.getProtocols(),
    handle: (protocol, handler, options) => registrar.handle(protocol, change(handler), options),
    unhandle: (protocol, options) => registrar.unhandle(protocol, options),
    getHandler: (protocol) => registrar.getHandler(protocol),
    use: (protocol, middleware) => registrar.use(protocol, middleware),
    unuse: (protocol) => registrar.unuse(protocol),
    getMiddleware: (protocol) => registrar.getMiddleware(protocol),
    register: (protocol, topology, options) => registrar.register(protocol, topology, options),
    unregister: (id) => registrar.unregister(id),
    getTopologies: (protocol) => registrar.getTopologies(protocol),
  }
}
