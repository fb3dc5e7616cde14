/**
 * Chooses the addresses of an invitation among those that the node listens on: at most 8, the most useful first. Does
 * not know whether anybody can reach them.
 */
import { type NetworkInterfaceInfo, networkInterfaces } from 'node:os'
import { MAX_ADDRESSES } from '../consortium/invite.ts'
import { parseAddress } from '../network/address.ts'

/** Interfaces of containers and virtual machines, whose networks end on this machine. */
const VIRTUAL = /^(docker|br-|veth|virbr|cni|podman|lxc|lxd|vmnet|vboxnet|flannel|cali|kube|cilium|incus)/

/** Lower comes first. */
const RANK = { public: 0, local: 1, virtual: 2, loopback: 3 } as const
type Reach = keyof typeof RANK

/**
 * @param addresses multiaddrs of the node, wildcards expanded to the addresses of the interfaces.
 * @returns at most 8. Addresses of this machine alone are left out if there are others.
 */
export function inviteAddresses(
  addresses: readonly string[],
  interfaces: NodeJS.Dict<NetworkInterfaceInfo[]> = networkInterfaces(),
): string[] {
  const virtual = new Set(
    Object.entries(interfaces)
      .filter(([name]) => VIRTUAL.test(name))
      .flatMap(([, infos]) => (infos ?? []).map(({ address }) => address)),
  )
  const ranked = [...new Set(addresses)]
    .flatMap((address) => {
      const reach = reachOf(address, virtual)
      return reach === undefined ? [] : [{ address, reach }]
    })
    .sort((a, b) => RANK[a.reach] - RANK[b.reach])
  const others = ranked.filter(({ reach }) => reach !== 'loopback')
  return (others.length > 0 ? others : ranked).slice(0, MAX_ADDRESSES).map(({ address }) => address)
}

/** Whether only programs of this machine can use an address. */
export function isLoopback(address: string): boolean {
  return reachOf(address, new Set()) === 'loopback'
}

/** Undefined for an address that names no host, or one that only holds together with an interface. */
function reachOf(address: string, virtual: ReadonlySet<string>): Reach | undefined {
  const host = parseAddress(address)?.getComponents()[0]
  const value = host?.value ?? ''
  if (host?.name.startsWith('dns') === true) return 'public'
  if (host?.name === 'ip4') {
    if (value.startsWith('0.') || value.startsWith('169.254.')) return undefined
    if (value.startsWith('127.')) return 'loopback'
    if (virtual.has(value)) return 'virtual'
    return PRIVATE_IP4.test(value) ? 'local' : 'public'
  }
  if (host?.name === 'ip6') {
    const lower = value.toLowerCase()
    if (lower === '::' || /^fe[89ab]/.test(lower)) return undefined
    if (lower === '::1' || lower.startsWith('::ffff:7f')) return 'loopback'
    if (virtual.has(lower)) return 'virtual'
    return /^f[cd]/.test(lower) ? 'local' : 'public'
  }
  return undefined
}

/** RFC 1918 and the shared address space of RFC 6598. */
const PRIVATE_IP4 = /^(10|192\.168|172\.(1[6-9]|2\d|3[01])|100\.(6[4-9]|[7-9]\d|1[01]\d|12[0-7]))\./
