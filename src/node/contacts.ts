/** How each member is connected to this node, and when it was connected last, for people. Reads only. */
import type { Membership } from '../consortium/membership.ts'
import type { Link } from '../network/network.ts'
import type { LastSeen } from './last-seen.ts'

export interface MemberLink {
  /** Address of the other side of its connection; absent if it is not connected. */
  readonly address?: string
  /** Whether the member opened the connection. */
  readonly isInbound?: boolean
  /** Since when it is connected, Unix seconds. */
  readonly connectedSince?: number
  /** When it was last connected, Unix seconds; absent if it never was. */
  readonly lastSeenAt?: number
}

/** By the seats of the members. @param links all open connections */
export async function memberLinks(
  membership: Pick<Membership, 'roster' | 'keys'>,
  links: readonly Link[],
  lastSeen: LastSeen,
): Promise<Map<string, MemberLink>> {
  const found = new Map<string, MemberLink>()
  for (const { peerId: seat } of membership.roster().members) {
    const link = links.find(({ peer }) => (membership.keys.seatOf(peer) ?? peer) === seat)
    const lastSeenAt = await lastSeen.of(seat)
    found.set(seat, {
      ...(link === undefined
        ? {}
        : { address: link.address, isInbound: link.isInbound, connectedSince: link.since }),
      ...(lastSeenAt === undefined ? {} : { lastSeenAt }),
    })
  }
  return found
}
