import { multiaddr } from '@multiformats/multiaddr'
import { describe, expect, it } from 'vitest'
import { scopeOf, sourceOf } from '../../src/network/source.ts'

describe('the source of an address', () => {
  it.each([
    ['/ip4/192.0.2.1/tcp/1', '192.0.2.1'],
    ['/ip4/192.0.2.1/tcp/2', '192.0.2.1'],
    ['/ip6/2001:db8:1:2::3/tcp/1', '2001:db8:1:2::/64'],
    ['/ip6/2001:db8:1:2:ffff::9/tcp/1', '2001:db8:1:2::/64'],
    ['/ip6/::ffff:192.0.2.1/tcp/1', '192.0.2.1'],
    ['/dns4/example.org/tcp/1', ''],
  ])('%s is %s', (address, source) => {
    expect(sourceOf(multiaddr(address))).toBe(source)
  })
})

describe('the scope of an address', () => {
  it.each([
    ['/ip4/127.0.0.1/tcp/1', 'loopback'],
    ['/ip4/127.9.9.9/tcp/1', 'loopback'],
    ['/ip6/::1/tcp/1', 'loopback'],
    ['/ip6/::ffff:127.0.0.1/tcp/1', 'loopback'],
    ['/ip4/10.1.2.3/tcp/1', 'private'],
    ['/ip4/172.31.0.1/tcp/1', 'private'],
    ['/ip4/192.168.1.1/tcp/1', 'private'],
    ['/ip4/100.64.0.1/tcp/1', 'private'],
    ['/ip4/169.254.169.254/tcp/80', 'private'],
    ['/ip6/fe80::1/tcp/1', 'private'],
    ['/ip6/fd00::1/tcp/1', 'private'],
    ['/ip6/::ffff:10.0.0.1/tcp/1', 'private'],
    ['/ip4/192.0.2.1/tcp/1', 'public'],
    ['/ip6/2001:db8::1/tcp/1', 'public'],
    ['/ip4/0.0.0.0/tcp/1', 'unusable'],
    ['/ip4/224.0.0.1/tcp/1', 'unusable'],
    ['/ip4/255.255.255.255/tcp/1', 'unusable'],
    ['/ip6/::/tcp/1', 'unusable'],
    ['/ip6/ff02::1/tcp/1', 'unusable'],
    ['/dns4/example.org/tcp/1', 'name'],
    ['/dns/example.org/tcp/1', 'name'],
    ['/dnsaddr/example.org', 'name'],
    ['/unix/%2Ftmp%2Fsocket', 'unusable'],
  ])('%s is %s', (address, scope) => {
    expect(scopeOf(multiaddr(address))).toBe(scope)
  })
})
