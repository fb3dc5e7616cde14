/**
 * The libp2p node: TCP, noise, yamux, identify, ping, gossipsub, mDNS and bootstrap, with every buffer bounded.
 * Knows nothing about the protocols of this project.
 */
import '../lib/node20.ts'
import { noise } from '@chainsafe/libp2p-noise'
import { yamux } from '@chainsafe/libp2p-yamux'
import { bootstrap } from '@libp2p/bootstrap'
import { privateKeyFromRaw } from '@libp2p/crypto/keys'
import { type GossipSub, gossipsub } from '@libp2p/gossipsub'
import { type Identify, identify } from '@libp2p/identify'
import type { ConnectionGater, Libp2p } from '@libp2p/interface'
import { mdns } from '@libp2p/mdns'
import { type Ping, ping } from '@libp2p/ping'
import { tcp } from '@libp2p/tcp'
import { createLibp2p } from 'libp2p'
import type { Identity } from '../identity/keys.ts'
import { ExchangeError, hasErrno, InputError } from '../lib/errors.ts'
import { limit } from '../lib/limits.ts'
import { noiseCrypto } from './noise-crypto.ts'

export interface TransportInit {
  readonly identity: Identity
  /** Multiaddrs to listen on. */
  readonly listen: readonly string[]
  /** Multiaddrs of members to keep connected to, peer id included. */
  readonly bootstrap: readonly string[]
  readonly mdns: boolean
  readonly gate: ConnectionGater
  /** The only gossipsub topic of the node. */
  readonly topic: string
  /** Replaces noise in tests that read what a node sends. */
  readonly encrypter?: Encrypter
}

export type Encrypter = ReturnType<typeof noise>

export type Services = { identify: Identify; ping: Ping; pubsub: GossipSub } & Record<string, unknown>
export type Transport = Libp2p<Services>

/** The buffer of the socket holds a whole piece of a frame before it asks the writer to wait. */
const SOCKET = { noDelay: true, highWaterMark: 2 ** 20 }
/** A stream on which nothing moves for this long is aborted, ms. */
const INACTIVITY_MS = 30_000
/** Maximum number of inbound connections that have not passed noise and the gate yet. */
const PENDING_CONNECTIONS = 10
/** Maximum rate of inbound connections from one host. */
const CONNECTIONS_PER_SECOND = 5
/** Maximum number of message ids of each kind in one gossipsub message. */
const MESSAGE_IDS = 64

/** Create a node that is not started. @throws InputError `port-in-use`; libp2p's own error otherwise. */
export async function createTransport(init: TransportInit): Promise<Transport> {
  const streamBytes = limit('streamWindowBytes')
  try {
    return await createLibp2p<Services>({
      privateKey: privateKeyFromRaw(init.identity.secretKey),
      addresses: { listen: [...init.listen] },
      transports: [
        tcp({
          maxConnections: limit('maxConnections'),
          outboundSocketInactivityTimeout: 120_000,
          dialOpts: SOCKET,
          listenOpts: SOCKET,
        }),
      ],
      connectionEncrypters: [init.encrypter ?? noise({ crypto: noiseCrypto })],
      streamMuxers: [
        yamux({
          maxInboundStreams: limit('streamsPerConnection'),
          maxOutboundStreams: limit('streamsPerConnection'),
          maxMessageSize: 2 ** 16,
          streamOptions: {
            initialStreamWindowSize: streamBytes,
            maxStreamWindowSize: streamBytes,
            maxReadBufferLength: 2 * streamBytes,
            maxWriteBufferLength: 2 * streamBytes,
            inactivityTimeout: INACTIVITY_MS,
          },
        }),
      ],
      connectionGater: init.gate,
      connectionManager: {
        maxConnections: limit('maxConnections'),
        maxIncomingPendingConnections: PENDING_CONNECTIONS,
        inboundConnectionThreshold: CONNECTIONS_PER_SECOND,
        dialTimeout: limit('dialTimeout'),
        inboundUpgradeTimeout: limit('dialTimeout'),
        maxPeerAddrsToDial: 4,
      },
      peerDiscovery: [
        ...(init.mdns ? [mdns()] : []),
        ...(init.bootstrap.length > 0 ? [bootstrap({ list: [...init.bootstrap], timeout: 0 })] : []),
      ],
      services: {
        identify: identify(),
        ping: ping(),
        pubsub: gossipsub({
          allowedTopics: [init.topic],
          globalSignaturePolicy: 'StrictSign',
          doPX: false,
          emitSelf: false,
          allowPublishToZeroTopicPeers: true,
          maxInboundDataLength: limit('requestBytes') * 4,
          decodeRpcLimits: {
            maxSubscriptions: 8,
            maxMessages: 32,
            maxIhaveMessageIDs: MESSAGE_IDS,
            maxIwantMessageIDs: MESSAGE_IDS,
            maxIdontwantMessageIDs: MESSAGE_IDS,
            maxControlMessages: 32,
            maxPeerInfos: 0,
          },
        }),
      },
    })
  } catch (error) {
    throw startError(error, init.listen)
  }
}

/** The error of a failed start. If the user can do something about it, it is an InputError that names the next step. */
export function startError(error: unknown, listen: readonly string[]): Error {
  const text = error instanceof Error ? `${error.message} ${String(error.cause ?? '')}` : String(error)
  const failed = `cannot listen on ${listen.join(', ')}`
  const advice = 'choose another address with "flexmesh start --listen", as in /ip4/0.0.0.0/tcp/4002'
  if (hasErrno(error, 'EADDRINUSE') || text.includes('EADDRINUSE')) {
    const message = `${failed}: the port is in use; stop the other program, or ${advice}`
    return new InputError('port-in-use', message, {}, error)
  }
  if (text.includes('EADDRNOTAVAIL')) {
    return new InputError('usage', `${failed}: this machine does not have this address; ${advice}`, {}, error)
  }
  if (text.includes('EACCES')) {
    const message = `${failed}: no permission, which ports below 1024 need; ${advice}`
    return new InputError('permissions', message, {}, error)
  }
  if (text.includes('failed to be listened on')) {
    return new InputError('usage', `${failed}; ${advice}`, {}, error)
  }
  return error instanceof Error ? error : new ExchangeError('protocol', text)
}
