/** Nodes that get other addresses between two runs. */
import { afterEach, describe, expect, it } from 'vitest'
import { MEMBERS } from '../../src/commands/members.ts'
import { changeListenAddresses } from '../../src/node/found.ts'
import type { MemberContact } from '../../src/node/moved-member.ts'
import type { FlexMeshNode } from '../../src/node/node.ts'
import { homePaths, loadSettings, saveSettings } from '../../src/store/home.ts'
import { flexmesh } from '../support/command-line.ts'
import { cleanUp } from '../support/folders.ts'
import { network, run, type TestNetwork } from '../support/network.ts'
import { tinyModel } from '../support/tiny-model.ts'

let net: TestNetwork
afterEach(async () => {
  await net.close()
  await cleanUp()
})

const PLAIN = { color: false }
/** Every run of a node listens on another port, because the settings of test homes name port 0. */
const moved = (index: number): Promise<FlexMeshNode> => net.restart(index)

/** Close all nodes, then start some again, each at another address. */
async function allMoved(...indexes: number[]): Promise<FlexMeshNode[]> {
  await net.close()
  const nodes: FlexMeshNode[] = []
  for (const index of indexes) nodes.push(await net.open(index))
  return nodes
}

async function areConnected(...nodes: FlexMeshNode[]): Promise<void> {
  await net.watch.until('connections between all nodes', () =>
    nodes.every((node) => node.connectedMembers().length === nodes.length - 1),
  )
}

describe('two members that have both moved', () => {
  it('meet again after "connect" with the address that "members" prints at the other one, and after later restarts', async () => {
    net = await network(['Hospital', 'Archive'], await tinyModel())
    await net.connected()
    const [hospital, archive] = (await allMoved(0, 1)) as [FlexMeshNode, FlexMeshNode]
    const result = await run<Parameters<typeof MEMBERS.words>[0]>(archive, 'members')
    const address = result.addresses[0] as string
    expect(MEMBERS.words(result, PLAIN)).toContain(`others reach this node at ${address}`)
    const contact = await run<MemberContact>(hospital, 'connect', { address })
    expect(contact).toEqual({ institution: 'Archive', peerId: archive.identity.peerId, outcome: 'connected' })
    await areConnected(hospital, archive)
    await areConnected(await moved(0), archive)
  })

  it('meet again by the address alone, whose peer proves who it is', async () => {
    net = await network(['Hospital', 'Archive'], await tinyModel())
    await net.connected()
    const [hospital, archive] = (await allMoved(0, 1)) as [FlexMeshNode, FlexMeshNode]
    const address = (archive.addresses()[0] as string).replace(/\/p2p\/.*/, '')
    const { institution } = await run<MemberContact>(hospital, 'connect', { address })
    expect(institution).toBe('Archive')
    await areConnected(hospital, archive)
  })

  it('meet again by a common member that has not moved', async () => {
    net = await network(['Hospital', 'Archive', 'University'], await tinyModel())
    await net.introduced()
    const university = net.nodes[2] as FlexMeshNode
    const listen = university.addresses().map((address) => address.replace(/\/p2p\/.*/, ''))
    await changeListenAddresses(university.paths.root, listen)
    await areConnected(...(await allMoved(2, 0, 1)))
  })
})

describe('the command connect', () => {
  it('keeps the address for the next start while the node is not running', async () => {
    net = await network(['Hospital', 'Archive'], await tinyModel())
    await net.connected()
    const [archive] = (await allMoved(1)) as [FlexMeshNode]
    const [address = ''] = archive.addresses()
    const home = net.homes[0] as string
    const { code, stdout } = await flexmesh('connect', address, '--home', home)
    expect([code, stdout]).toEqual([0, 'the address of Archive is kept; the node uses it when it starts\n'])
    await areConnected(await net.open(0), archive)
  })

  it('says that a member does not answer, keeps the address, and ends with 1', async () => {
    net = await network(['Hospital', 'Archive'], await tinyModel())
    const { peerId } = net.nodes[1]?.identity ?? { peerId: '' }
    await net.close()
    const hospital = await net.open(0)
    const address = `/ip4/127.0.0.1/tcp/9/p2p/${peerId}`
    const contact = await run<MemberContact>(hospital, 'connect', { address })
    expect(contact).toMatchObject({ institution: 'Archive', outcome: 'unreachable' })
    const { bootstrap } = await loadSettings(homePaths(net.homes[0] as string))
    expect(bootstrap).toContain(address)
  })

  it('keeps at most 64 addresses, the latest first', async () => {
    net = await network(['Hospital', 'Archive'], await tinyModel())
    const paths = homePaths(net.homes[0] as string)
    const { peerId } = net.nodes[1]?.identity ?? { peerId: '' }
    await net.close()
    const bootstrap = Array.from({ length: 64 }, (_, i) => `/ip4/127.0.0.1/tcp/${i + 1}/p2p/${peerId}`)
    await saveSettings(paths, { ...(await loadSettings(paths)), bootstrap })
    const address = `/ip4/127.0.0.1/tcp/99/p2p/${peerId}`
    expect((await flexmesh('connect', address, '--home', paths.root)).code).toBe(0)
    expect((await loadSettings(paths)).bootstrap).toEqual([address, ...bootstrap.slice(0, 63)])
  })

  it('is refused for what is no address of another member', async () => {
    net = await network(['Hospital'], await tinyModel())
    const home = net.homes[0] as string
    const { peerId } = net.nodes[0]?.identity ?? { peerId: '' }
    await net.close()
    const stranger = '12D3KooWPqT2nMDSiXUSx5D7fasaxhxKigVhcqfkKqrLghCq9jxz'
    for (const [address, message] of [
      ['192.0.2.1:4001', 'expected an address'],
      ['/ip4/192.0.2.1/udp/4001', 'expected an address'],
      ['/ip4/192.0.2.1/tcp/4001/p2p/nobody', 'is not a member'],
      ['/ip4/192.0.2.1/tcp/4001', 'has to end with /p2p/PEERID'],
      [`/ip4/192.0.2.1/tcp/4001/p2p/${stranger}`, 'is not a member'],
      [`/ip4/192.0.2.1/tcp/4001/p2p/${peerId}`, 'is the address of this node'],
    ] as const) {
      const { code, stdout, stderr } = await flexmesh('connect', address, '--home', home)
      expect([address, code === 0, stdout]).toEqual([address, false, ''])
      expect(stderr).toContain(message)
    }
  })
})
