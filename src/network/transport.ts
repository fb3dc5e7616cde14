/**
 * The libp2p node: TCP, noise, yamux, identify, ping, gossipsub and mDNS, with every buffer bounded. Knows nothing about
 * the protocols of this project.
 */
import { ownCommand } from '../lib/command-line.ts'
import '../lib/node20.ts'
import { noise } from '@chainsafe/libp2p-noise'
import { privateKeyFromRaw } from '@libp2p/crypto/keys'
import type { GossipSub } from '@libp2p/gossipsub'
import { type Identify, identify } from '@libp2p/identify'
import type { ConnectionGater, Libp2p, PeerInfo } from '@libp2p/interface'
import { mdns } from '@libp2p/mdns'
import { type Ping, ping } from '@libp2p/ping'
import { tcp } from '@libp2p/tcp'
import { createLibp2p } from 'libp2p'
import type { Identity } from '../identity/keys.ts'
import { ExchangeError, hasErrno, InputError } from '../lib/errors.ts'
import { limit } from '../lib/limits.ts'
import type { EgressMeter } from './egress.ts'
import { limitedGossipsub } from './gossip.ts'
import { GuardedMuxer, type StreamPolicy } from './guarded-muxer.ts'
import { noiseCrypto } from './noise-crypto.ts'

export interface TransportInit {
  readonly identity: Identity
  /** Multiaddrs to listen on. */
  readonly listen: readonly string[]
  /** Called with the peers that mDNS finds; undefined: no mDNS. */
  readonly onDiscovered?: (peer: PeerInfo) => void
  readonly gate: ConnectionGater
  readonly streams: StreamPolicy
  /** Counts everything that is sent. */
  readonly egress: EgressMeter
  /** The only gossipsub topic of the node. */
  readonly topic: string
  /** Replaces noise in tests that read what a node sends. */
  readonly encrypter?: Encrypter
}

export type Encrypter = ReturnType<typeof noise>

export type Services = { identify: Identify; ping: Ping; pubsub: GossipSub } & Record<string, unknown>
export type Transport = Libp2p<Services>

/** The buffer of the socket holds about one piece of a frame before it asks the writer to wait. */
const SOCKET = { noDelay: true, highWaterMark: limit('socketBytes') }
/** admission.ts limits pending connections by source, in place of these two limits of libp2p. */
const UNLIMITED = 1_000_000
/** Largest message of identify, bytes. */
const IDENTIFY_BYTES = 8192

/** Create a node that is not started. @throws InputError `port-in-use`; libp2p's own error otherwise. */
export async function createTransport(init: TransportInit): Promise<Transport> {
  const { streams, onDiscovered } = init
  const muxer = new GuardedMuxer(streams, init.egress)
  const encrypter = init.encrypter ?? noise({ crypto: noiseCrypto })
  try {
    return await createLibp2p<Services>({
      privateKey: privateKeyFromRaw(init.identity.secretKey),
      addresses: { listen: [...init.listen] },
      transports: [
        tcp({
          maxConnections:
            limit('maxConnections') + limit('pendingFromKnownSources') + limit('pendingFromOtherSources'),
          outboundSocketInactivityTimeout: 120_000,
          dialOpts: SOCKET,
          listenOpts: SOCKET,
        }),
      ],
      connectionEncrypters: [(components) => muxer.encrypter(encrypter(components))],
      streamMuxers: [() => muxer.factory()],
      connectionGater: init.gate,
      connectionManager: {
        maxConnections: limit('maxConnections'),
        maxIncomingPendingConnections: UNLIMITED,
        inboundConnectionThreshold: UNLIMITED,
        dialTimeout: limit('dialTimeout'),
        addressDialTimeout: limit('handshakeTimeout'),
        inboundUpgradeTimeout: limit('handshakeTimeout'),
        inboundStreamProtocolNegotiationTimeout: limit('negotiationTimeout'),
        maxPeerAddrsToDial: 4,
      },
      peerDiscovery:
        onDiscovered === undefined
          ? []
          : [
              (components) => {
                const discovery = mdns()(components)
                discovery.addEventListener('peer', ({ detail }) => onDiscovered(detail))
                return discovery
              },
            ],
      services: {
        // Members only: see Libp2pNetwork.
        identify: identify({ runOnConnectionOpen: false, maxMessageSize: IDENTIFY_BYTES }),
        ping: ping(),
        pubsub: limitedGossipsub({
          topic: init.topic,
          clock: streams.clock,
          onFlood: (peer, reason) => streams.onFlood(peer, reason),
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
  const advice = `choose another address with ${ownCommand('start', '--listen', 'ADDRESS')}, as in /ip4/0.0.0.0/tcp/4002`
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
