/** What an address says about the place of a host: its source, which limits count, and its scope. */
import { BlockList, isIP } from 'node:net'
import type { Multiaddr } from '@multiformats/multiaddr'

/**
 * The hosts that share the limits of inbound connections: one IPv4 address, or one IPv6 network of 64 bits, which is
 * the smallest that a provider assigns. Empty for an address without an IP address.
 */
export type Source = string

/** Where an address can be reached: on this host, in a private network, on the internet; `name` needs DNS. */
export type Scope = 'loopback' | 'private' | 'public' | 'name' | 'unusable'

const LOOPBACK = new BlockList()
LOOPBACK.addSubnet('127.0.0.0', 8, 'ipv4')
LOOPBACK.addAddress('::1', 'ipv6')

/** RFC 1918, RFC 6598 (carrier-grade NAT), RFC 3927 and RFC 4291 (link-local), RFC 4193 (unique local). */
const PRIVATE = new BlockList()
PRIVATE.addSubnet('10.0.0.0', 8, 'ipv4')
PRIVATE.addSubnet('172.16.0.0', 12, 'ipv4')
PRIVATE.addSubnet('192.168.0.0', 16, 'ipv4')
PRIVATE.addSubnet('100.64.0.0', 10, 'ipv4')
PRIVATE.addSubnet('169.254.0.0', 16, 'ipv4')
PRIVATE.addSubnet('fe80::', 10, 'ipv6')
PRIVATE.addSubnet('fc00::', 7, 'ipv6')

/** Unspecified, multicast and reserved addresses: no peer listens there. */
const UNUSABLE = new BlockList()
UNUSABLE.addSubnet('0.0.0.0', 8, 'ipv4')
UNUSABLE.addSubnet('224.0.0.0', 3, 'ipv4')
UNUSABLE.addAddress('::', 'ipv6')
UNUSABLE.addSubnet('ff00::', 8, 'ipv6')

/** The IP address in an address; an IPv4 address that is mapped into IPv6 (RFC 4291 2.5.5.2) as IPv4. */
function ipOf(address: Multiaddr): string | undefined {
  const value = address.getComponents().find(({ name }) => name === 'ip4' || name === 'ip6')?.value
  if (value === undefined) return undefined
  const groups = isIP(value) === 6 ? groupsOf(value) : undefined
  if (groups === undefined || groups.slice(0, 6).join() !== '0,0,0,0,0,65535') return value
  const [high = 0, low = 0] = groups.slice(6)
  return [high >> 8, high & 255, low >> 8, low & 255].join('.')
}

/** The eight groups of 16 bits of an IPv6 address. */
function groupsOf(ip6: string): number[] {
  const dotted = ip6
    .match(/(\d+)\.(\d+)\.(\d+)\.(\d+)$/)
    ?.slice(1)
    .map(Number)
  const [a = 0, b = 0, c = 0, d = 0] = dotted ?? []
  const text =
    dotted === undefined
      ? ip6
      : ip6.replace(/[\d.]+$/, `${((a << 8) | b).toString(16)}:${((c << 8) | d).toString(16)}`)
  const [left = '', right] = text.split('::')
  const parse = (part: string) =>
    part
      .split(':')
      .filter((group) => group !== '')
      .map((group) => Number.parseInt(group, 16))
  const head = parse(left)
  const tail = parse(right ?? '')
  return [...head, ...new Array<number>(Math.max(0, 8 - head.length - tail.length)).fill(0), ...tail]
}

export function sourceOf(address: Multiaddr): Source {
  const ip = ipOf(address)
  if (ip === undefined) return ''
  return isIP(ip) === 6
    ? `${groupsOf(ip)
        .slice(0, 4)
        .map((group) => group.toString(16))
        .join(':')}::/64`
    : ip
}

export function scopeOf(address: Multiaddr): Scope {
  const ip = ipOf(address)
  if (ip === undefined) {
    return address.getComponents().some(({ name }) => name.startsWith('dns')) ? 'name' : 'unusable'
  }
  const family = isIP(ip) === 6 ? 'ipv6' : 'ipv4'
  if (LOOPBACK.check(ip, family)) return 'loopback'
  if (UNUSABLE.check(ip, family)) return 'unusable'
  return PRIVATE.check(ip, family) ? 'private' : 'public'
}
