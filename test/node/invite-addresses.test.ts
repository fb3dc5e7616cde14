import type { networkInterfaces } from 'node:os'
import { afterEach, describe, expect, it } from 'vitest'
import { APPROVE, INVITE, type InviteResult } from '../../src/commands/admission.ts'
import { decodeInvite } from '../../src/consortium/invite.ts'
import { inviteAddresses } from '../../src/node/invite-addresses.ts'
import type { FlexMeshNode } from '../../src/node/node.ts'
import { founded } from '../support/command-homes.ts'
import { flexmesh } from '../support/command-line.ts'
import { cleanUp } from '../support/folders.ts'
import { network, run } from '../support/network.ts'
import { tinyModel } from '../support/tiny-model.ts'

afterEach(cleanUp)

const PLAIN = { color: false }
const at = (host: string): string =>
  `${host}/tcp/4001/p2p/12D3KooWPqT2nMDSiXUSx5D7fasaxhxKigVhcqfkKqrLghCq9jxz`

/** Interfaces of a host, as `os.networkInterfaces` lists them. */
function host(addresses: Record<string, string>): ReturnType<typeof networkInterfaces> {
  const info = { netmask: '', mac: '', internal: false, cidr: null }
  return Object.fromEntries(
    Object.entries(addresses).map(([name, address]) => [
      name,
      [{ ...info, family: 'IPv4' as const, address }],
    ]),
  )
}

describe('the addresses of an invitation', () => {
  it('are at most 8 on a host with ten bridges, and the useful ones come first', () => {
    const bridges = Object.fromEntries(
      Array.from({ length: 10 }, (_, i) => [i === 0 ? 'docker0' : `br-${i}`, `172.${17 + i}.0.1`]),
    )
    const interfaces = host({ ...bridges, lo: '127.0.0.1', eth0: '192.168.1.5', eth1: '198.51.100.7' })
    const listening = Object.values(interfaces).map((infos) => at(`/ip4/${infos?.[0]?.address}`))
    const chosen = inviteAddresses(listening, interfaces)
    expect(chosen).toHaveLength(8)
    expect(chosen.slice(0, 2)).toEqual([at('/ip4/198.51.100.7'), at('/ip4/192.168.1.5')])
    expect(chosen.slice(2).every((address) => address.startsWith('/ip4/172.'))).toBe(true)
  })

  it.each([
    [
      'names come with public addresses, before local ones',
      ['/ip4/10.0.0.1', '/dns4/node.example.org'],
      [1, 0],
    ],
    ['IPv6: local and link-local ones', ['/ip6/fe80::1', '/ip6/fd00::1', '/ip6/2001:db8::1'], [2, 1]],
    ['loopback is left out if there are others', ['/ip4/127.0.0.1', '/ip6/::1', '/ip4/10.0.0.1'], [2]],
    ['loopback is better than nothing', ['/ip4/127.0.0.1'], [0]],
    ['repetitions are left out', ['/ip4/10.0.0.1', '/ip4/10.0.0.1'], [0]],
    ['wildcards and self-assigned ones are left out', ['/ip4/0.0.0.0', '/ip6/::', '/ip4/169.254.3.4'], []],
    ['a VPN with shared addresses counts as local', ['/ip4/100.64.0.1', '/ip4/8.8.8.8'], [1, 0]],
  ])('%s', (_, hosts, order) => {
    expect(inviteAddresses(hosts.map(at), {})).toEqual(order.map((i) => at(hosts[i] as string)))
  })
})

describe('the command invite', () => {
  it('is refused while the node is not running, because its addresses are not known', async () => {
    const { code, stdout, stderr } = await flexmesh('invite', '--home', await founded())
    expect([code, stdout]).toEqual([1, ''])
    expect(stderr).toMatch(
      /^flexmesh: an invitation names .* start it first with "flexmesh start --home [^"]+"\n$/,
    )
  })

  it('is given by any member, since the members decide together who is admitted', async () => {
    const net = await network(['Hospital', 'Archive'], await tinyModel())
    const [, archive] = net.nodes as [FlexMeshNode, FlexMeshNode]
    const { invite, addresses } = await run<InviteResult>(archive, 'invite')
    expect(invite).toMatch(/^flexmesh-invite-1:/)
    expect(addresses).toEqual(archive.addresses())
    await net.close()
  })

  it('prints until when the invitation is valid and where it leads, and warns of addresses on loopback', async () => {
    const net = await network(['Hospital'], await tinyModel())
    const [hospital] = net.nodes as [FlexMeshNode]
    const result = await run<InviteResult>(hospital, 'invite', { days: 2 })
    const { expiresAt, addresses } = decodeInvite(result.invite as string)
    expect(expiresAt - hospital.now()).toBeLessThanOrEqual(2 * 86_400)
    const [first, ...notes] = INVITE.words(result, PLAIN)
    expect(first).toBe(result.invite)
    const text = notes.join('\n')
    expect(text).toContain(`valid until ${new Date(expiresAt * 1000).toISOString().slice(0, 10)}`)
    for (const address of addresses) expect(text).toContain(`it leads to ${address}`)
    expect(text).toContain('warning: only programs of this machine can use it')
    const cancelled = await run<InviteResult>(hospital, 'invite', { cancel: result.id })
    expect(INVITE.words(cancelled, PLAIN)).toEqual([`invitation ${result.id} admits nobody any more`])
    await net.close()
  })
})

describe('the command approve', () => {
  it('says what was not approved and why, and is incomplete then', () => {
    const reason = 'a member has the name Archive already'
    const notApproved = [{ institution: 'Archive', peerId: '12D3', reason }]
    const result = { approved: ['Guest'], proposed: [], notApproved }
    expect(APPROVE.words(result, PLAIN)).toEqual([
      'approved: Guest',
      `not approved: Archive (12D3): ${reason}`,
      'to dismiss a request: `flexmesh reject INSTITUTION`',
    ])
    expect(APPROVE.isIncomplete?.(result)).toBe(true)
    expect(APPROVE.isIncomplete?.({ ...result, notApproved: [] })).toBe(false)
  })
})
