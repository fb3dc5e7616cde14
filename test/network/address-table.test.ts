import { type Multiaddr, multiaddr } from '@multiformats/multiaddr'
import { describe, expect, it } from 'vitest'
import { limit } from '../../src/lib/limits.ts'
import { AddressTable } from '../../src/network/address-table.ts'
import { identityOf } from '../support/consortium.ts'

const [self, member, other, stranger] = [1, 2, 3, 4].map((n) => identityOf(n).peerId) as [
  string,
  string,
  string,
  string,
]
const ip = (last: number, port = 4001): string => `/ip4/198.51.100.${last}/tcp/${port}`
const LOOPBACK = multiaddr('/ip4/127.0.0.1/tcp/9')
const PRIVATE = multiaddr('/ip4/10.0.0.9/tcp/9')
const PUBLIC = multiaddr('/ip4/192.0.2.9/tcp/9')

function table() {
  const state = { now: 0 }
  const isMember = (peer: string): boolean => [self, member, other].includes(peer)
  return { state, addresses: new AddressTable({ self, clock: () => state.now, isMember }) }
}

const texts = (addresses: readonly Multiaddr[]): string[] => addresses.map(String)

/** All hints that may be dialled now. */
function takeHints(addresses: AddressTable, peer: string): string[] {
  const hints: string[] = []
  for (let hint = addresses.takeHint(peer); hint !== undefined; hint = addresses.takeHint(peer)) {
    hints.push(String(hint))
  }
  return hints
}

describe('a hint about a member', () => {
  it('is tried once in hintPause and never told to others', () => {
    const { state, addresses } = table()
    const hint = { peerId: member, addresses: [ip(1)] }
    addresses.hint(hint, 'public')
    expect(takeHints(addresses, member)).toEqual([ip(1)])
    addresses.hint(hint, 'public')
    expect(takeHints(addresses, member)).toEqual([])
    expect([addresses.known(), addresses.due(member)]).toEqual([[], []])
    state.now += limit('hintPause') + 1
    addresses.hint(hint, 'public')
    expect(takeHints(addresses, member)).toEqual([ip(1)])
  })

  it('is one of a limited number in hintPause, whoever gives it', () => {
    const { addresses } = table()
    for (let i = 0; i < 100; i++) addresses.hint({ peerId: member, addresses: [ip(i)] }, 'public')
    const first = takeHints(addresses, member)
    for (let i = 100; i < 200; i++) addresses.hint({ peerId: member, addresses: [ip(i)] }, 'public')
    const second = takeHints(addresses, member)
    expect(first.length + second.length).toBe(limit('addressesPerMember'))
  })

  it('does not displace a better address, however many there are', () => {
    const { addresses } = table()
    addresses.reached(member, multiaddr(ip(1)))
    for (let i = 2; i < 200; i++) addresses.hint({ peerId: member, addresses: [ip(i)] }, 'public')
    expect(texts(addresses.due(member))).toEqual([ip(1)])
    expect(addresses.known()).toEqual([{ peerId: member, addresses: [ip(1)] }])
  })

  it('is ignored for strangers, for this node itself, and for an address that is known', () => {
    const { addresses } = table()
    addresses.reached(member, multiaddr(ip(1)))
    for (const peerId of [stranger, self, member]) addresses.hint({ peerId, addresses: [ip(1)] }, 'loopback')
    expect([stranger, self, member].flatMap((peer) => takeHints(addresses, peer))).toEqual([])
  })

  it.each([
    ['public', [ip(1)]],
    ['private', ['/ip4/10.0.0.1/tcp/1', ip(1)]],
    ['loopback', ['/ip4/10.0.0.1/tcp/1', '/ip4/127.0.0.1/tcp/1', ip(1)]],
  ] as const)('over a %s connection is believed as far as it is not more local', (scope, expected) => {
    const { addresses } = table()
    const told = [
      '/ip4/10.0.0.1/tcp/1',
      '/ip4/127.0.0.1/tcp/1',
      ip(1),
      '/dns4/example.org/tcp/1',
      '/dnsaddr/example.org',
      '/ip4/224.0.0.1/tcp/1',
      '/ip4/198.51.100.1/udp/1',
      'no address',
    ]
    addresses.hint({ peerId: member, addresses: told }, scope)
    expect(takeHints(addresses, member).sort()).toEqual(expected)
  })
})

describe('the addresses that a member reports about itself', () => {
  it('are dialled and told to others, up to a limit, and replace its earlier report', () => {
    const { addresses } = table()
    addresses.reported(member, [multiaddr(ip(99))], PUBLIC)
    const many = Array.from({ length: 50 }, (_, i) => multiaddr(ip(i)))
    addresses.reported(member, many, PUBLIC)
    const [known] = addresses.known()
    expect(known?.addresses).toEqual(texts(many.slice(0, limit('addressesPerMember'))))
  })

  it('do not displace the one at which it was reached', () => {
    const { addresses } = table()
    addresses.reached(member, multiaddr(ip(77)))
    addresses.reported(
      member,
      Array.from({ length: 50 }, (_, i) => multiaddr(ip(i))),
      PUBLIC,
    )
    expect(texts(addresses.due(member))[0]).toBe(ip(77))
  })

  it('are believed as far as they are not more local than its connection', () => {
    const all = [LOOPBACK, PRIVATE, PUBLIC, multiaddr('/dns4/example.org/tcp/1')]
    const believed = [LOOPBACK, PRIVATE, PUBLIC].map((via) => {
      const { addresses } = table()
      addresses.reported(member, all, via)
      return addresses.due(member).length
    })
    expect(believed).toEqual([3, 2, 1])
  })

  it('are dialled ever more seldom while nobody answers there', () => {
    const { state, addresses } = table()
    addresses.reported(member, [multiaddr(ip(1))], PUBLIC)
    let dials = 0
    for (; state.now < 3_600_000; state.now += 500) {
      const due = addresses.due(member)
      if (due.length === 0) continue
      dials++
      addresses.failed(member, due)
    }
    expect(dials).toBeLessThan(20)
  })
})

describe('the address of a member', () => {
  it('that has failed is tried after the others', () => {
    const { addresses } = table()
    for (let i = 0; i < 6; i++) addresses.reached(member, multiaddr(ip(i)))
    const first = addresses.due(member)
    addresses.failed(member, first)
    const second = addresses.due(member)
    expect(second.length).toBeGreaterThan(0)
    expect(texts(second).filter((text) => texts(first).includes(text))).toEqual([])
  })

  it('is tried again soon after the member has disconnected', () => {
    const { state, addresses } = table()
    addresses.reached(member, multiaddr(ip(1)))
    for (let i = 0; i < 10; i++) addresses.failed(member, addresses.due(member))
    addresses.disconnected(member)
    state.now += 501
    expect(texts(addresses.due(member))).toEqual([ip(1)])
  })

  it('from the operator or an earlier run is dialled, and not lost to others', () => {
    const { addresses } = table()
    addresses.configure([`/dns4/example.org/tcp/1/p2p/${member}`, 'no address', ip(1)])
    addresses.remember([{ peerId: other, addresses: [ip(2), 'no address'] }])
    expect(texts(addresses.due(member))).toEqual(['/dns4/example.org/tcp/1'])
    expect(texts(addresses.due(other))).toEqual([ip(2)])
    expect(addresses.known()).toEqual([{ peerId: other, addresses: [ip(2)] }])
    expect(addresses.peers()).toEqual([member, other])
  })
})

describe('a source', () => {
  it('is known if a member has an address there or has connected from it, not for a hint', () => {
    const { addresses } = table()
    addresses.remember([{ peerId: member, addresses: [ip(1)] }])
    addresses.connectedFrom(multiaddr(ip(2, 55_555)))
    addresses.hint({ peerId: member, addresses: [ip(3)] }, 'public')
    expect([1, 2, 3].map((n) => addresses.isKnownSource(`198.51.100.${n}`))).toEqual([true, true, false])
  })

  it('is forgotten when many others came later', () => {
    const { addresses } = table()
    addresses.connectedFrom(multiaddr(ip(1)))
    for (let i = 0; i < limit('knownSources'); i++) {
      addresses.connectedFrom(multiaddr(`/ip4/203.0.${i >> 8}.${i & 255}/tcp/1`))
    }
    expect(addresses.isKnownSource('198.51.100.1')).toBe(false)
  })
})
