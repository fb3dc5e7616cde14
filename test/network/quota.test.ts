import { describe, expect, it } from 'vitest'
import type { ProtocolRow } from '../../src/network/protocol.ts'
import { Quota } from '../../src/network/quota.ts'

const row = (id: string): ProtocolRow => ({
  id,
  maxRequestBytes: 1,
  maxResponseBytes: 1,
  maxResponseFrames: 1,
  timeoutMs: 1,
  timeoutPer: 'answer',
  maxInboundStreams: 1,
  quota: { burst: 3, everyMs: 100 },
  guests: 'none',
})
const A = row('/a')
const B = row('/b')

/** Number of requests that a peer may start at once. */
function takeAll(quota: Quota, peer: string, protocol: ProtocolRow): number {
  let count = 0
  while (quota.take(peer, protocol)) count++
  return count
}

describe('a quota', () => {
  it('lets a peer start a burst at once and then one request for each interval', () => {
    let now = 1000
    const quota = new Quota(() => now)
    expect(takeAll(quota, 'peer', A)).toBe(4) // the burst, and the request that is due now
    now += 99
    expect(takeAll(quota, 'peer', A)).toBe(0)
    now += 1
    expect(takeAll(quota, 'peer', A)).toBe(1)
    now += 10_000
    expect(takeAll(quota, 'peer', A)).toBe(4)
  })

  it('counts each peer and each protocol on its own', () => {
    const quota = new Quota(() => 0)
    takeAll(quota, 'peer', A)
    expect(takeAll(quota, 'peer', B)).toBe(4)
    expect(takeAll(quota, 'other', A)).toBe(4)
  })

  it('belongs to the peer: it does not begin anew with a connection', () => {
    let now = 0
    const quota = new Quota(() => now)
    takeAll(quota, 'peer', A)
    now = 50
    expect(takeAll(quota, 'peer', A)).toBe(0)
  })
})
