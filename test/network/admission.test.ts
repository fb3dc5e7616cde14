import type { MultiaddrConnection } from '@libp2p/interface'
import { multiaddrConnectionPair } from '@libp2p/utils'
import { multiaddr } from '@multiformats/multiaddr'
import { describe, expect, it } from 'vitest'
import { limit } from '../../src/lib/limits.ts'
import { Admission } from '../../src/network/admission.ts'

function connectionFrom(address: string): MultiaddrConnection {
  const [connection] = multiaddrConnectionPair()
  connection.remoteAddr = multiaddr(`/ip4/${address}/tcp/1`)
  return connection
}

describe('the admission of inbound connections', () => {
  it('gives a new connection the place of the oldest unfinished one of its source', () => {
    let now = 0
    const admission = new Admission({ clock: () => now, isKnown: () => false })
    const connections = Array.from({ length: limit('pendingPerSource') + 1 }, () =>
      connectionFrom('192.0.2.1'),
    )
    for (const connection of connections) {
      expect(admission.enter(connection)).toBe(true)
      now += 1000
    }
    const open = connections.filter(({ status }) => status === 'open')
    expect(open).toEqual(connections.slice(1))
    expect(admission.pending).toBe(limit('pendingPerSource'))
  })

  it('counts a connection until it is complete or closed', () => {
    const admission = new Admission({ clock: () => 0, isKnown: () => false })
    const [complete, aborted] = [connectionFrom('192.0.2.1'), connectionFrom('192.0.2.1')]
    admission.enter(complete)
    admission.enter(aborted)
    admission.leave(complete)
    aborted.abort(new Error('gone'))
    expect(admission.pending).toBe(0)
    expect(complete.status).toBe('open')
  })

  it('never closes a pending connection from an address of a member for those of others', () => {
    let now = 0
    const admission = new Admission({ clock: () => now, isKnown: (source) => source === '192.0.2.1' })
    const honest = connectionFrom('192.0.2.1')
    admission.enter(honest)
    for (let i = 0; i < 1000; i++) {
      now += 20
      admission.enter(connectionFrom(`198.51.${i >> 8}.${i & 255}`))
    }
    expect(honest.status).toBe('open')
    expect(admission.pending).toBe(limit('pendingFromOtherSources') + 1)
  })

  it('bounds the handshakes of a source, of all unknown sources, and of a source of members', () => {
    const admission = new Admission({ clock: () => 0, isKnown: (source) => source === '192.0.2.1' })
    const admitted = (addresses: string[]): number =>
      addresses.filter((address) => admission.enter(connectionFrom(address))).length
    const same = (address: string) => Array.from({ length: 500 }, () => address)
    expect(admitted(same('192.0.2.2'))).toBe(limit('handshakesPerSource') + 1)
    const others = Array.from({ length: 500 }, (_, i) => `198.51.${i >> 8}.${i & 255}`)
    expect(admitted(others)).toBe(limit('handshakesFromOtherSources') - limit('handshakesPerSource'))
    expect(admitted(same('192.0.2.1'))).toBe(limit('handshakesPerKnownSource') + 1)
  })
})
