/**
 * Every stream protocol as one row: id, sizes, timeouts, streams, quota, who may speak it.
 * Implements the tables of protocols/package-exchange. Knows no handler.
 */

import { limit } from '../lib/limits.ts'
import type { ProtocolRow } from '../network/protocol.ts'

export const PROTOCOLS = {
  join: {
    id: '/flexmesh/join/1.0.0',
    maxRequestBytes: limit('envelopeBytes'),
    maxResponseBytes: limit('envelopeBytes'),
    maxResponseFrames: 1024,
    timeoutMs: limit('requestTimeout'),
    timeoutPer: 'answer',
    maxInboundStreams: limit('protocolInboundStreams'),
    quota: { burst: 16, everyMs: 500 }, // a joiner asks once a second while it waits for approval
    guests: true,
  },
  statements: {
    id: '/flexmesh/statements/1.0.0',
    maxRequestBytes: limit('requestBytes'),
    maxResponseBytes: limit('envelopeBytes'),
    maxResponseFrames: 4096,
    timeoutMs: limit('chunkTimeout'),
    timeoutPer: 'answer',
    maxInboundStreams: limit('protocolInboundStreams'),
    quota: { burst: 32, everyMs: 50 }, // one on every connection and every announcement
    guests: false,
  },
  addresses: {
    id: '/flexmesh/addresses/1.0.0',
    maxRequestBytes: limit('requestBytes'),
    maxResponseBytes: limit('requestBytes'),
    maxResponseFrames: limit('members'),
    timeoutMs: limit('requestTimeout'),
    timeoutPer: 'answer',
    maxInboundStreams: limit('protocolInboundStreams'),
    quota: { burst: 32, everyMs: 250 }, // asked with every sync
    guests: false,
  },
  blob: {
    id: '/flexmesh/blob/1.0.0',
    maxRequestBytes: limit('requestBytes'),
    maxResponseBytes: limit('frameBytes') + 2 ** 21, // chunk hashes of 64 GiB are 2 MiB
    maxResponseFrames: 64,
    timeoutMs: limit('chunkTimeout'),
    timeoutPer: 'frame',
    maxInboundStreams: limit('protocolInboundStreams'),
    quota: { burst: 64, everyMs: 5 }, // a request for the last few chunks may be for one
    guests: true,
  },
} as const satisfies Record<string, ProtocolRow>

export type ProtocolName = keyof typeof PROTOCOLS
export const PROTOCOL_NAMES = Object.keys(PROTOCOLS) as ProtocolName[]

/** Topic on which the signed heads of one consortium are announced. */
export function headsTopic(consortium: string): string {
  return `/flexmesh/${consortium.replace('sha256:', '')}/heads/1.0.0`
}

/** Generic cell rate: true when the peer may start one more request now. */
export class Quota {
  readonly #due = new Map<string, number>()
  readonly #clock: () => number

  /** @param clock milliseconds, monotonic. */
  constructor(clock: () => number) {
    this.#clock = clock
  }

  take(peer: string, protocol: ProtocolName): boolean {
    const { burst, everyMs } = PROTOCOLS[protocol].quota
    const now = this.#clock()
    const key = `${protocol} ${peer}`
    const due = Math.max(now, this.#due.get(key) ?? now)
    if (due - now > burst * everyMs) return false
    this.#due.set(key, due + everyMs)
    return true
  }

  forget(peer: string): void {
    for (const key of this.#due.keys()) if (key.endsWith(` ${peer}`)) this.#due.delete(key)
  }
}
