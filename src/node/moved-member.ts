/**
 * Tells a node at which address a member can be reached now. Needed if two members have moved and no other member
 * knows both; otherwise they find each other.
 */

import type { Membership } from '../consortium/membership.ts'
import type { PeerIdString } from '../identity/keys.ts'
import { ownCommand } from '../lib/command-line.ts'
import { ExchangeError, InputError } from '../lib/errors.ts'
import { parseAddress, peerIdOf } from '../network/address.ts'
import { type HomePaths, loadSettings, MAX_BOOTSTRAP, saveSettings } from '../store/home.ts'

export interface ConnectInit {
  readonly paths: HomePaths
  readonly membership: Membership
  readonly self: PeerIdString
  /** Undefined if the node has no network. @throws ExchangeError `unreachable`, `aborted`. */
  readonly dial: ((address: string, signal: AbortSignal) => Promise<PeerIdString>) | undefined
}

export interface MemberContact {
  readonly institution: string
  readonly peerId: PeerIdString
  /** Whether the member answered there; `not-running` if this node has no network to try it. */
  readonly outcome: 'connected' | 'unreachable' | 'not-running'
  /** Why it is unreachable, for people. */
  readonly reason?: string
}

/**
 * Dial a member at an address, and keep the address for later starts of the node.
 * @param address a multiaddr; with the member's peer id at its end unless the node is running.
 * @throws InputError `usage`, `not-a-member`; ExchangeError `aborted`, and `unreachable` if the address has no peer id.
 */
export async function connect(
  { paths, membership, self, dial }: ConnectInit,
  address: string,
  signal: AbortSignal,
): Promise<MemberContact> {
  const named = checkAddress(address)
  const check = (peerId: PeerIdString): void => {
    if (peerId === self) throw new InputError('usage', `${address} is the address of this node`)
    if (membership.seatOfMember(peerId) !== undefined) return
    throw new InputError(
      'not-a-member',
      `${peerId} is not a member; ${ownCommand('members')} lists the members`,
    )
  }
  if (named !== undefined) check(named)
  const contact = await tried(dial, address, named, signal)
  check(contact.peerId)
  await keep(paths, named === undefined ? `${address}/p2p/${contact.peerId}` : address)
  const seat = membership.seatOfMember(contact.peerId) ?? contact.peerId
  return { institution: membership.institutionOf(seat), ...contact }
}

async function tried(
  dial: ConnectInit['dial'],
  address: string,
  named: PeerIdString | undefined,
  signal: AbortSignal,
): Promise<Omit<MemberContact, 'institution'>> {
  try {
    if (dial !== undefined) return { peerId: await dial(address, signal), outcome: 'connected' }
    if (named !== undefined) return { peerId: named, outcome: 'not-running' }
  } catch (error) {
    const isAway = error instanceof ExchangeError && error.code === 'unreachable'
    if (!isAway || named === undefined) throw error
    return { peerId: named, outcome: 'unreachable', reason: error.message }
  }
  throw new InputError(
    'usage',
    `${address}: the node is not running, so the address has to end with /p2p/PEERID; "flexmesh members" prints it at the other node`,
  )
}

/** @returns the peer id that the address names. @throws InputError `usage`. */
function checkAddress(address: string): PeerIdString | undefined {
  const names =
    parseAddress(address)
      ?.getComponents()
      .map(({ name }) => name) ?? []
  if (/^(ip4|ip6|dns4|dns6|dns) tcp( p2p)?$/.test(names.join(' '))) return peerIdOf(address)
  throw new InputError(
    'usage',
    `expected an address as "flexmesh members" prints it at the other node, such as /ip4/192.0.2.1/tcp/4001/p2p/12D3KooW..., got "${address}"`,
  )
}

/** Put an address before the others in settings.json. */
async function keep(paths: HomePaths, address: string): Promise<void> {
  const settings = await loadSettings(paths)
  const bootstrap = [...new Set([address, ...settings.bootstrap])].slice(0, MAX_BOOTSTRAP)
  await saveSettings(paths, { ...settings, bootstrap })
}
